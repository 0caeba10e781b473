"""Frozen matrices in 8 or 4 bits: whole-number codes, and the scales that make weights of them.

weight = code x scale, symmetric: int8 has one scale an output channel, int4 one for every GROUP inputs of each. Layers
keep codes and scales where their kernel was, and multiply by what these say: a base for adapters as QLoRA has it
(Dettmers et al. 2023, arXiv 2305.14314), with evenly spaced codes for its NF4.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from jax.typing import DTypeLike

KINDS = ("int8", "int4")
GROUP = 128  # inputs that share one of int4's scales, where the matrix has whole groups of them
CODES, SCALES = "codes", "scales"  # the parameters that stand for a kernel
_LARGEST = {"int8": 127, "int4": 7}
_DTYPES = {"int8": np.dtype(np.int8), "int4": np.dtype(ml_dtypes.int4)}

Path = tuple[str, ...]


def is_quantised(path: Path) -> bool:
    """Whether a parameter is one of those that are held in codes: the layers' matrices."""
    return path[0] == "layers" and path[-1] == "kernel"


def codes_and_scales(path: Path) -> tuple[Path, Path]:
    """The two parameters that stand for a kernel."""
    return (*path[:-1], CODES), (*path[:-1], SCALES)


def groups(kind: str, width: int) -> int:
    """Scales an output channel has over `width` inputs."""
    return width // GROUP if kind == "int4" and width % GROUP == 0 else 1


def shapes(kernel: jax.ShapeDtypeStruct, kind: str) -> tuple[jax.ShapeDtypeStruct, jax.ShapeDtypeStruct]:
    """Codes and scales of a kernel [..., in, out]."""
    *layers, width, features = kernel.shape
    scales = (*layers, groups(kind, width), features)
    return jax.ShapeDtypeStruct(kernel.shape, _DTYPES[kind]), jax.ShapeDtypeStruct(scales, jnp.float32)


def quantise(kernel: Any, kind: str) -> tuple[Any, Any]:
    """Codes and scales of a kernel, each weight rounded to the nearest: off by half a scale at most.

    Args:
        kernel: [..., in, out] of any float dtype, NumPy's or JAX's: so is the result, of the same bits.
        kind: one of KINDS.

    Returns:
        int8 or int4 [..., in, out], and float32 [..., groups, out].
    """
    xp = np if isinstance(kernel, np.ndarray) else jnp
    grouped = _in_groups(kernel.astype(np.float32), groups(kind, kernel.shape[-2]))
    most = np.float32(_LARGEST[kind])
    # Of nothing but zeros, or of numbers too small to divide by, any scale will do.
    scales = xp.maximum(xp.abs(grouped).max(axis=-2) / most, np.finfo(np.float32).tiny)
    codes = xp.clip(xp.rint(grouped / scales[..., None, :]), -most, most)
    return codes.reshape(kernel.shape).astype(np.int8).astype(_DTYPES[kind]), scales


def dequantise(codes: Any, scales: Any, dtype: DTypeLike) -> Any:
    """The weights [..., in, out] that codes and scales say, multiplied in float32 and rounded to dtype."""
    grouped = _in_groups(codes.astype(np.float32), scales.shape[-2])
    return (grouped * scales[..., None, :]).reshape(codes.shape).astype(dtype)


def quantise_params(flat: dict[Path, Any], kind: str) -> dict[Path, Any]:
    """Parameters by path, with codes and scales in place of the layers' kernels."""
    kept = {path: leaf for path, leaf in flat.items() if not is_quantised(path)}
    for path in flat.keys() - kept.keys():
        kept |= dict(zip(codes_and_scales(path), quantise(flat[path], kind), strict=True))
    return kept


def bytes_a_weight(kind: str) -> float:
    """Of a layer's matrix on a device, scales included."""
    return {"int8": 1.0, "int4": 0.5 + 4 / GROUP}[kind]


def _in_groups(x: Any, count: int) -> Any:
    """[..., in, out] -> [..., groups, in / groups, out]."""
    *layers, width, features = x.shape
    return x.reshape(*layers, count, width // count, features)
