"""Dropout whose mask costs a fraction of a draw for each number, and is the same however an array is sharded.

Threefry takes a hundred operations a number. LoRA drops from seven inputs a layer, and again in the backward pass: on
v6e-8 that was three tenths of Llama-2 7B's predicted step (gin_configs/slices/v6e-8.gin). Here each row and each
column is drawn by Threefry, and a number's bits are a hash of its two draws.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp


def dropout(x: jax.Array, rate: float, key: jax.Array) -> jax.Array:
    """x with each number zeroed with probability `rate`, the others over 1 - `rate` (Srivastava et al. 2014).

    Args:
        x: [..., columns]; the axes before the last are taken for rows, so merging them changes no mask.
        rate: from 0, below 1.
        key: of jax.random.
    """
    if rate == 0:
        return x
    kept = kept_mask(key, x.shape, rate)
    return jnp.where(kept, x * (1 / (1 - rate)), 0).astype(x.dtype)


def kept_mask(key: jax.Array, shape: tuple[int, ...], rate: float) -> jax.Array:
    """bool of `shape`: False with probability `rate`, to the nearest 2**-32."""
    row_key, column_key = jax.random.split(key)
    rows = jax.random.bits(row_key, (*shape[:-1], 1))
    columns = jax.random.bits(column_key, shape[-1:])
    return _hash(rows ^ columns) >= jnp.uint32(round(rate * 2**32))


def _hash(x: jax.Array) -> jax.Array:
    """uint32 to uint32, one to one: each bit of x turns each bit of the hash half of the time.

    Shifts and factors are those of lowbias32, found by search (Wellons 2018, nullprogram.com/blog/2018/07/31).
    """
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)
