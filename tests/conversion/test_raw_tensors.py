"""Matrices turned over on their way from and to a file, strip by strip, against NumPy's own transpose."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from melama_jax.conversion import raw_tensors
from melama_jax.conversion.raw_tensors import TensorInfo, c_order, read_transposed
from melama_jax.errors import InputError


def matrix(rows: int, columns: int, dtype: type) -> np.ndarray:
    bits = np.random.default_rng(rows * 1000 + columns).bytes(rows * columns * np.dtype(dtype).itemsize)
    return np.frombuffer(bits, dtype).reshape(rows, columns)


@settings(deadline=None, max_examples=60)
@given(
    rows=st.integers(1, 300),
    columns=st.integers(1, 200),
    dtype=st.sampled_from([np.int8, ml_dtypes.bfloat16, np.float32, np.int64]),
    offset=st.integers(0, 9),
    at_once=st.sampled_from([None, 7, 1000]),
)
def test_turned_over_both_ways(
    rows: int, columns: int, dtype: type, offset: int, at_once: int | None
) -> None:
    """Also where the file system gives fewer bytes at a time than it is asked for."""
    preadv = os.preadv

    def little(file: int, lines: list[memoryview], start: int) -> int:
        return preadv(file, [lines[0][:at_once]], start)

    stored = matrix(rows, columns, dtype)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        file = Path(folder) / "tensor"
        file.write_bytes(b"#" * offset + stored.tobytes())
        if at_once:
            patch.setattr(raw_tensors.os, "preadv", little)
        turned = read_transposed(TensorInfo(stored.shape, stored.dtype, file, offset))
    assert turned.dtype == dtype and turned.tobytes() == stored.T.tobytes()
    strips = list(c_order(turned.T))
    assert b"".join(strip.tobytes() for strip in strips) == stored.tobytes()


def test_a_file_that_got_shorter_is_refused(tmp_path: Path) -> None:
    stored = matrix(200, 30, ml_dtypes.bfloat16)
    (tmp_path / "tensor").write_bytes(stored.tobytes()[:-1])
    with pytest.raises(InputError, match="fewer bytes than before"):
        read_transposed(TensorInfo(stored.shape, stored.dtype, tmp_path / "tensor"))
