"""Attention against a key-value cache: what its arrays must be, and the plain way to compute it.

A cache's keys (and likewise its values) are [layers, batch, slots, kv_heads * head_dim]. So laid out, a slot's heads
lie side by side in whole lanes of a TPU, whatever head_dim is: nothing is padded and a block of slots is one piece.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from melama_jax.kernels.blocks import LANES
from melama_jax.kernels.quantised_cache import Quantised, dequantise
from melama_jax.kernels.reference import slot_attention

MOST_TOKENS = 8  # new tokens a row that the decode kernel takes; more are a prompt's
SLOT_BLOCK = 128  # what the decode kernel reads of a row's cache is rounded up to so many slots

Cache = jax.Array | Quantised


def plain_cached_attention(
    query: jax.Array,
    key: Cache,
    value: Cache,
    positions: jax.Array,
    layer: jax.Array | int,
    window: int | None = None,
) -> jax.Array:
    """As attention.cached_attention, on any platform, through reference.slot_attention."""

    def heads(cache: Cache) -> jax.Array:
        if isinstance(cache, Quantised):
            slots = dequantise(Quantised(cache.values[layer], cache.scales[layer])).astype(query.dtype)
        else:
            slots = cache[layer]
        return slots.reshape(*slots.shape[:2], -1, query.shape[3])

    return slot_attention(query, heads(key), heads(value), positions, window)


def refusal(query: jax.Array, key: Cache, window: int | None = None) -> str | None:
    """Why the decode kernel does not take these shapes, or None where it does."""
    slots, width = stored(key).shape[2:]
    if window is not None:
        return f"a window of {window} over {slots} slots"
    if query.shape[1] > MOST_TOKENS:
        return f"{query.shape[1]} new tokens a row are more than {MOST_TOKENS}"
    if slots % SLOT_BLOCK:
        return f"{slots} slots are not whole blocks of {SLOT_BLOCK}"
    if query.shape[3] not in (64, 96, 128, 256):
        return f"head_dim {query.shape[3]} is none of 64, 96, 128 and 256"
    if width % LANES and width != query.shape[3]:
        return f"{width} channels a slot are not whole lanes of {LANES}"
    if query.dtype not in (jnp.float32, jnp.bfloat16):
        return f"{query.dtype} is neither float32 nor bfloat16"
    return None


def check_cache(query: jax.Array, key: Cache, value: Cache, positions: jax.Array) -> None:
    """ValueError, naming both sides, where these cannot be one attention against a cache."""
    keys, values = stored(key), stored(value)
    if query.ndim != 4 or keys.ndim != 4:
        raise ValueError(
            f"query {query.shape} must be [batch, length, heads, head_dim] and "
            f"key {keys.shape} [layers, batch, slots, kv_heads * head_dim]"
        )
    if keys.shape != values.shape:
        raise ValueError(f"key of shape {keys.shape}, value of shape {values.shape}: they must be equal")
    kv_heads, rest = divmod(keys.shape[3], query.shape[3])
    if query.shape[0] != keys.shape[1] or rest or not kv_heads or query.shape[2] % kv_heads:
        raise ValueError(
            f"query {query.shape} and key {keys.shape}: batch must be equal, and heads a multiple of the kv heads "
            "whose head_dim make up a slot"
        )
    if positions.shape != query.shape[:2]:
        raise ValueError(f"positions of shape {positions.shape} for a query of shape {query.shape}")
    quantised = isinstance(key, Quantised)
    held = jnp.int8 if quantised else query.dtype
    if isinstance(value, Quantised) != quantised or not keys.dtype == values.dtype == held:
        raise ValueError(
            f"query {query.dtype}, key {keys.dtype}, value {values.dtype}: dtypes must be equal, or key and value "
            "both Quantised"
        )
    for cache in (key, value):
        if isinstance(cache, Quantised) and cache.scales.shape != (*keys.shape[:2], kv_heads, keys.shape[2]):
            raise ValueError(f"scales of shape {cache.scales.shape} for int8 values of shape {keys.shape}")


def stored(cache: Cache) -> jax.Array:
    """The array that is read: the values alone of a quantised cache."""
    return cache.values if isinstance(cache, Quantised) else cache
