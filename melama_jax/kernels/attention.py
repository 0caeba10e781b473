"""The one `attention()`: checks the shapes, then chooses how to compute by platform and shape."""

from __future__ import annotations

import functools
import logging

import jax
import jax.numpy as jnp

from melama_jax.kernels import reference
from melama_jax.kernels.cached import Cache, check_cache, plain_cached_attention, refusal, stored


def attention(
    query: jax.Array, key: jax.Array, value: jax.Array, segment_ids: jax.Array | None = None
) -> jax.Array:
    """Causal self-attention within segments: a Pallas kernel on TPU where the shape allows, XLA elsewhere.

    Args:
        query: [batch, length, heads, head_dim].
        key: [batch, length, kv_heads, head_dim]; heads must be a multiple of kv_heads.
        value: as key.
        segment_ids: int32 [batch, length]; tokens see only their own segment. None: one segment a row.

    Returns:
        [batch, length, heads, head_dim] in query's dtype.

    Raises:
        ValueError: shapes or dtypes that do not go together, naming them.
    """
    check_shapes(query, key, value)
    if segment_ids is not None and segment_ids.shape != query.shape[:2]:
        raise ValueError(f"segment_ids of shape {segment_ids.shape} for a query of shape {query.shape}")
    from melama_jax.kernels import splash  # importing Pallas costs time that CPU runs need not pay

    if not splash.supports(query):
        return reference.causal_attention(query, key, value, segment_ids)
    # Which platform is known only at lowering (a laptop compiles for a TPU): so each gets its branch.
    return jax.lax.platform_dependent(
        query,
        key,
        value,
        segment_ids,
        tpu=splash.splash_attention,
        default=reference.causal_attention,
    )


def cached_attention(
    query: jax.Array, key: Cache, value: Cache, positions: jax.Array, layer: jax.Array | int = 0
) -> jax.Array:
    """Attention of new tokens against a key-value cache: a Pallas kernel on TPU for a few tokens, XLA elsewhere.

    Args:
        query: [batch, length, heads, head_dim].
        key: [layers, batch, slots, kv_heads * head_dim], or that Quantised; heads a multiple of kv_heads.
        value: as key.
        positions: int32 [batch, length]; each query sees slots 0 .. its position, and at -1 nothing.
        layer: int32 scalar, the one of the cache's layers that is meant.

    Returns:
        [batch, length, heads, head_dim] in query's dtype.

    Raises:
        ValueError: shapes or dtypes that do not go together, naming them.
    """
    check_cache(query, key, value, positions)
    why = refusal(query, key)
    _say_once(
        f"cached attention, query {query.shape}, cache {stored(key).shape} {stored(key).dtype}: "
        + (f"plain, for {why}" if why else "the decode kernel on TPU, plain elsewhere")
    )
    if why:
        return plain_cached_attention(query, key, value, positions, layer)
    from melama_jax.kernels import decode  # importing Pallas costs time that CPU runs need not pay

    return jax.lax.platform_dependent(
        query,
        key,
        value,
        positions,
        jnp.asarray(layer, jnp.int32),
        tpu=functools.partial(decode.decode_attention, cores=decode.tensor_cores()),
        default=plain_cached_attention,
    )


@functools.cache
def _say_once(choice: str) -> None:
    """A choice is made each time a program is traced; a log wants it once."""
    logging.getLogger(__name__).info(choice)


def check_shapes(query: jax.Array, key: jax.Array, value: jax.Array, same_length: bool = True) -> None:
    """ValueError, naming both sides, where query, key and value cannot be one attention."""
    if key.shape != value.shape:
        raise ValueError(f"key of shape {key.shape}, value of shape {value.shape}: they must be equal")
    if query.ndim != 4 or key.ndim != 4:
        raise ValueError(
            f"query {query.shape}, key {key.shape}: both must be [batch, length, heads, head_dim]"
        )
    if (query.shape[0], query.shape[3]) != (key.shape[0], key.shape[3]) or query.shape[2] % key.shape[2]:
        raise ValueError(
            f"query {query.shape} and key {key.shape}: batch and head_dim equal, heads a multiple"
        )
    if same_length and query.shape[1] != key.shape[1]:
        raise ValueError(f"query {query.shape} and key {key.shape}: lengths differ")
    if not query.dtype == key.dtype == value.dtype and same_length:
        raise ValueError(f"query {query.dtype}, key {key.dtype}, value {value.dtype}: dtypes must be equal")
