"""What the processes of one run agree on: the first decides, and where one fails, all fail together.

A process that raised alone would leave the others waiting for it in their next collective operation.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from melama_jax.errors import RunFailed

_BYTES = 1 << 16  # room for a decision; every process must send the same size
_ERROR_BYTES = 1 << 11


def first_decides(decide: Callable[[], Any]) -> Any:
    """What `decide` returns on the first process, through JSON, on every process; the others do not call it.

    What it raises there is raised there; the others raise RunFailed with its words.
    """
    if jax.process_count() == 1:
        return decide()
    said: dict[str, Any] = {}
    failure: Exception | None = None
    if jax.process_index() == 0:
        try:
            said = {"decided": decide()}
        except Exception as error:
            failure, said = error, {"failed": str(error)}
    text = _padded(json.dumps(said).encode(), _BYTES)
    said = json.loads(bytes(multihost_utils.broadcast_one_to_all(text)).rstrip(b"\0"))
    if failure is not None:
        raise failure
    if "failed" in said:
        raise RunFailed(f"the first process: {said['failed']}")
    return said["decided"]


def raise_together(
    error: Exception | None, to_words: Callable[[Exception], str], from_words: Callable[[str], Exception]
) -> None:
    """Raises where any process has an error: its own, or the first other's, carried over in words."""
    words: list[str] = []
    if jax.process_count() > 1:
        mine = b"" if error is None else to_words(error).encode()[:_ERROR_BYTES]
        gathered = multihost_utils.process_allgather(_padded(mine, _ERROR_BYTES))
        words = [bytes(one).rstrip(b"\0").decode(errors="replace") for one in gathered]
    if error is not None:
        raise error
    for said in filter(None, words):
        raise from_words(said)


def _padded(text: bytes, size: int) -> np.ndarray:
    if len(text) > size:
        raise ValueError(f"{len(text)} bytes to agree on, more than {size}")
    return np.frombuffer(text.ljust(size, b"\0"), np.uint8)
