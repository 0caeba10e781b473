"""Tensors of a PyTorch file, by torch's weights-only loader: a pickle that holds code is refused, never run."""

from __future__ import annotations

import contextlib
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from melama_jax.checkpoints.weights import DTYPES
from melama_jax.conversion.raw_tensors import TensorInfo, read_tensor, read_transposed
from melama_jax.errors import InputError


class TorchFile:
    """The state dict of one file. Needs torch, which is imported here alone.

    A zip file (torch 1.6 and later) holds tensors uncompressed: they are located, and read one by one. Of an older
    file, and for a tensor that is a view turned over, the whole file is loaded, and let go of again.

    Args:
        file: .bin or .pth.

    Raises:
        InputError: naming the file or tensor, where it is not plain weights.
    """

    def __init__(self, file: Path):
        self.file = file
        self._is_zip = _is_zip(file)
        self._located: set[str] = set()
        self.tensors: dict[str, TensorInfo] = {}
        for name, tensor in _load(file, self._is_zip, locate=self._is_zip).items():
            dtype = str(getattr(tensor, "dtype", type(tensor).__name__)).removeprefix("torch.")
            if dtype not in DTYPES:
                raise InputError(f"{file} {name}", f"dtype {dtype}", f"one of {', '.join(DTYPES)}")
            offset = _offset(tensor) if self._is_zip else None
            self.tensors[name] = TensorInfo(tuple(tensor.shape), DTYPES[dtype], file, offset or 0)
            if offset is not None:
                self._located.add(name)

    def read(self, name: str, transposed: bool = False) -> np.ndarray:
        """See TensorFolder.read."""
        info = self.tensors[name]
        if name in self._located:
            return read_transposed(info) if transposed else read_tensor(info)
        import torch

        bits = torch.int32 if info.dtype.itemsize == 4 else torch.int16  # NumPy knows no torch.bfloat16
        loaded = _load(self.file, self._is_zip)[name].detach()
        return (loaded.t() if transposed else loaded).contiguous().view(bits).numpy().view(info.dtype).copy()


def _offset(tensor: Any) -> int | None:
    """Where a tensor of a located state dict begins in its file; None unless it lies there in C order."""
    start = getattr(tensor.untyped_storage(), "_checkpoint_offset", None)
    if start is None or not tensor.is_contiguous():
        return None
    return int(start) + tensor.storage_offset() * tensor.element_size()


def _is_zip(file: Path) -> bool:
    with file.open("rb") as stream:
        return stream.read(2) == b"PK"


def _load(file: Path, is_zip: bool, locate: bool = False) -> Mapping[str, Any]:
    """The state dict; without its data, but with the place of it in the file, where `locate` says so."""
    try:
        import torch
        from torch._subclasses.fake_tensor import FakeTensorMode
    except ImportError as error:
        raise InputError(
            file, "a PyTorch file, and no torch here", "torch installed, or safetensors"
        ) from error
    try:
        with warnings.catch_warnings(), FakeTensorMode() if locate else contextlib.nullcontext():
            warnings.simplefilter("ignore")  # on foreign pickles, which are refused below
            state = torch.load(file, map_location="cpu", weights_only=True, mmap=is_zip and not locate)
    except pickle.UnpicklingError as error:
        raise InputError(
            file, "a pickle that is not plain weights", "tensors only; it was not run"
        ) from error
    except Exception as error:  # whatever its unpickler stumbles over in damaged bytes
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(file, f"no readable PyTorch file ({first})", "a whole PyTorch file") from error
    if not isinstance(state, dict):
        raise InputError(file, f"a {type(state).__name__}", "a state dict: tensors by name")
    return state
