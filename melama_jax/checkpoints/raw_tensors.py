"""Tensors that lie uncompressed in files, read piece by piece: mapped pages would count as resident memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from melama_jax.errors import InputError

STRIP = 128  # rows that are read and turned at once
_TILE = 64


@dataclass(frozen=True)
class TensorInfo:
    """A tensor and where it lies, in C order.

    Args:
        shape: of the tensor.
        dtype: it is stored in.
        file: that holds it.
        offset: of its first byte in the file.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    file: Path
    offset: int = 0


def read_tensor(info: TensorInfo) -> np.ndarray:
    """The tensor as it is stored."""
    with info.file.open("rb") as stream:
        stream.seek(info.offset)
        return _read(stream, info, math.prod(info.shape)).reshape(info.shape)


def read_transposed(info: TensorInfo) -> np.ndarray:
    """A matrix turned over, in C order; only the result is in memory as a whole."""
    rows, columns = info.shape
    turned = np.empty((columns, rows), info.dtype)
    with info.file.open("rb") as stream:
        stream.seek(info.offset)
        for start in range(0, rows, STRIP):
            count = min(STRIP, rows - start)
            strip = _read(stream, info, count * columns).reshape(count, columns)
            transpose_into(turned[:, start : start + count], strip)
    return turned


def c_order(array: np.ndarray) -> Iterator[np.ndarray]:
    """The array's elements in C order: itself, or strips of rows of a matrix that lies turned over in memory."""
    if array.flags.c_contiguous or array.ndim != 2:
        yield np.ascontiguousarray(array)
        return
    for start in range(0, array.shape[0], STRIP):
        rows = array[start : start + STRIP]
        strip = np.empty(rows.shape, array.dtype)
        transpose_into(strip, rows.T)
        yield strip


def transpose_into(target: np.ndarray, source: np.ndarray) -> None:
    """target[...] = source.T, tile by tile: as a whole NumPy does it at a third of the speed, missing the cache.

    Args:
        target: [columns, rows].
        source: [rows, columns].
    """
    for row in range(0, source.shape[0], _TILE):
        for column in range(0, source.shape[1], STRIP):
            tile = source[row : row + _TILE, column : column + STRIP]
            target[column : column + STRIP, row : row + _TILE] = tile.T


def _read(stream: BinaryIO, info: TensorInfo, count: int) -> np.ndarray:
    """The next elements; InputError where the file has got shorter since its header was read."""
    read = np.fromfile(stream, info.dtype, count)
    if read.size != count:
        raise InputError(info.file, "fewer bytes than before", "a file that nobody changes meanwhile")
    return read
