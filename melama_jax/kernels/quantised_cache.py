"""A key-value cache in int8, each head of each slot by its own scale: half of bfloat16's bytes, and 1/16 more."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

LARGEST = 127


class Quantised(NamedTuple):
    """Keys or values as values * scales.

    Args:
        values: int8 [..., slots, kv_heads * head_dim], -127 to 127.
        scales: float32 [..., kv_heads, slots]; slots last, so that they fill a TPU's lanes.
    """

    values: jax.Array
    scales: jax.Array


def quantise(cache: jax.Array, kv_heads: int) -> Quantised:
    """Symmetric, to nearest: each number is off by at most half its scale, which is its head's largest / 127.

    So a head's error in a slot is at most 1/254 of that head's largest magnitude there, but for float32's rounding;
    magnitudes below 2e-36, whose scale would be subnormal, may become 0.

    Args:
        cache: keys or values, [..., slots, kv_heads * head_dim], float32 or bfloat16, finite.
        kv_heads: how many heads a slot holds.

    Raises:
        ValueError: channels that are not so many heads.
    """
    *lead, slots, width = cache.shape
    if width % kv_heads:
        raise ValueError(f"{width} channels of a cache of shape {cache.shape} are not {kv_heads} heads")
    wide = cache.astype(jnp.float32).reshape(*lead, slots, kv_heads, width // kv_heads)
    scales = jnp.abs(wide).max(axis=-1) / LARGEST
    values = jnp.round(wide / jnp.where(scales > 0, scales, 1)[..., None])
    values = jnp.clip(values, -LARGEST, LARGEST).astype(jnp.int8)
    return Quantised(values.reshape(cache.shape), jnp.swapaxes(scales, -1, -2))


def dequantise(cache: Quantised) -> jax.Array:
    """float32 [..., slots, kv_heads * head_dim]."""
    scales = jnp.swapaxes(cache.scales, -1, -2)[..., None]
    values = cache.values.reshape(*scales.shape[:-1], -1).astype(jnp.float32)
    return (values * scales).reshape(cache.values.shape)
