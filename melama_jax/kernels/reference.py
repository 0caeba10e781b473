"""Attention written plainly, the truth every faster way is held against.

All shapes are [batch, length, heads, head_dim]; key and value may have fewer heads (grouped-query).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

# What remat policies call attention's output. Each implementation names it, together with whatever else its
# backward pass needs from the forward one: keeping the output then spares the whole forward kernel.
OUT_NAME = "attention_out"
MASKED = -1e30  # finite: a row with nothing to attend to must give zeros, not NaN


def causal_segment_mask(length: int, segment_ids: jax.Array | None) -> jax.Array:
    """bool [batch or 1, length, length]: may query i (rows) see key j? Not later ones, not other segments."""
    causal = jnp.tril(jnp.ones((length, length), bool))[None]
    if segment_ids is None:
        return causal
    return causal & (segment_ids[:, :, None] == segment_ids[:, None, :])


def masked_attention(query: jax.Array, key: jax.Array, value: jax.Array, mask: jax.Array) -> jax.Array:
    """softmax(query . key / sqrt(head_dim)) . value under a mask; scores and softmax in float32.

    Args:
        query: [batch, length, heads, head_dim].
        key: [batch, slots, kv_heads, head_dim].
        value: [batch, slots, kv_heads, head_dim].
        mask: bool [batch or 1, length, slots].

    Returns:
        [batch, length, heads, head_dim] in query's dtype; zeros where a query may see nothing.
    """
    batch, length, heads, head_dim = query.shape
    groups = heads // key.shape[2]
    query_groups = query.reshape(batch, length, key.shape[2], groups, head_dim)
    scores = jnp.einsum("blkgd,bskd->bkgls", query_groups, key, preferred_element_type=jnp.float32)
    seen = mask[:, None, None]
    scores = jnp.where(seen, scores * head_dim**-0.5, MASKED)
    weights = jnp.where(seen, jnp.exp(scores - jnp.max(scores, axis=-1, keepdims=True)), 0.0)
    total = jnp.sum(weights, axis=-1, keepdims=True)
    weights = (weights / jnp.where(total == 0.0, 1.0, total)).astype(value.dtype)
    out = jnp.einsum("bkgls,bskd->blkgd", weights, value, preferred_element_type=jnp.float32)
    return out.reshape(batch, length, heads, head_dim).astype(query.dtype)


def causal_attention(
    query: jax.Array, key: jax.Array, value: jax.Array, segment_ids: jax.Array | None = None
) -> jax.Array:
    """Causal self-attention within segments (segment_ids int32 [batch, length], None: one segment a row)."""
    out = masked_attention(query, key, value, causal_segment_mask(query.shape[1], segment_ids))
    return checkpoint_name(out, OUT_NAME)


def slot_attention(query: jax.Array, key: jax.Array, value: jax.Array, positions: jax.Array) -> jax.Array:
    """Each query (at `positions` int32 [batch, length]) sees the cache's slots up to its own position."""
    mask = jnp.arange(key.shape[1])[None, None, :] <= positions[:, :, None]
    return masked_attention(query, key, value, mask)
