"""Causal flash attention for TPU in Pallas: packed segments, grouped-query, with its own backward pass.

A head's keys and values stay in VMEM whole, and in the backward pass their float32 gradients too: that bounds the
length (4096 tokens of head_dim 128 take some 16 MiB there, all that v4 has, and only in smaller blocks).
Every token sees itself, so no row is ever masked whole, padding included.
"""

from __future__ import annotations

from functools import partial
from math import e as EULER
from math import log2
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from melama_jax.kernels.blocks import Blocks, round_up, visits
from melama_jax.kernels.flash_backward import backward
from melama_jax.kernels.flash_forward import forward
from melama_jax.kernels.reference import OUT_NAME

BLOCKS = Blocks()


def flash_attention(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    segment_ids: jax.Array | None = None,
    *,
    blocks: Blocks = BLOCKS,
    backward_blocks: Blocks | None = None,
    interpret: bool = False,
) -> jax.Array:
    """Causal self-attention within segments, as reference.causal_attention, by the flash method.

    Args:
        query: [batch, length, heads, head_dim], bfloat16 or float32. Any length: it is padded to whole blocks.
        key: [batch, length, kv_heads, head_dim]; heads must be a multiple of kv_heads.
        value: as key.
        segment_ids: int32 [batch, length]; tokens see only their own segment. None: one segment a row.
        blocks: how the forward pass cuts the sequence; a size that the length does not need shrinks.
        backward_blocks: likewise the backward pass; None: as `blocks`.
        interpret: run the kernel's program on any platform, slowly, as tests do.

    Returns:
        [batch, length, heads, head_dim] in query's dtype.

    Raises:
        ValueError: segment ids that do not match the query.
    """
    if segment_ids is not None and segment_ids.shape != query.shape[:2]:
        raise ValueError(f"segment_ids of shape {segment_ids.shape} for a query of shape {query.shape}")
    length = query.shape[1]
    fitted = blocks.fit(length), (backward_blocks or blocks).fit(length)
    return _flash(query, key, value, segment_ids, *fitted, interpret)


@partial(jax.custom_vjp, nondiff_argnums=(4, 5, 6))
def _flash(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    segment_ids: jax.Array | None,
    blocks: Blocks,
    backward_blocks: Blocks,
    interpret: bool,
) -> jax.Array:
    return _flash_forward(query, key, value, segment_ids, blocks, backward_blocks, interpret)[0]


def _flash_forward(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    segment_ids: jax.Array | None,
    blocks: Blocks,
    backward_blocks: Blocks,
    interpret: bool,
) -> tuple[jax.Array, Any]:
    length = query.shape[1]
    padded = [_heads_first(x, blocks) for x in (_scaled(query), key, value)]
    out, lse = forward(padded[0], padded[1], padded[2], _segments(segment_ids, blocks), blocks, interpret)
    out = checkpoint_name(_heads_last(out, length), OUT_NAME)
    lse = checkpoint_name(lse[:, :, 0, :length], OUT_NAME)
    return out, (query, key, value, segment_ids, out, lse)


def _flash_backward(blocks: Blocks, cut: Blocks, interpret: bool, residuals: Any, d_out: jax.Array) -> Any:
    query, key, value, segment_ids, out, lse = residuals
    length = query.shape[1]
    # The softmax's own share of the scores' gradient (FlashAttention-2, algorithm 2, D).
    share = jnp.einsum("blhd,blhd->bhl", out, d_out, preferred_element_type=jnp.float32)
    lse, share = (_pad(x, cut, axis=2)[:, :, None, :] for x in (lse, share))
    query, key, value, d_out = (_heads_first(x, cut) for x in (_scaled(query), key, value, d_out))
    gradients = backward(query, key, value, d_out, lse, share, _segments(segment_ids, cut), cut, interpret)
    return *(_heads_last(x, length) for x in gradients), None


_flash.defvjp(_flash_forward, _flash_backward)


def _scaled(query: jax.Array) -> jax.Array:
    """For base-2 exponentials: scores come out in units of bits."""
    return (query.astype(jnp.float32) * (log2(EULER) * query.shape[-1] ** -0.5)).astype(query.dtype)


def _pad(x: jax.Array, blocks: Blocks, axis: int) -> jax.Array:
    missing = round_up(x.shape[axis], blocks.query) - x.shape[axis]
    widths = [(0, missing if i == axis else 0) for i in range(x.ndim)]
    return jnp.pad(x, widths) if missing else x


def _heads_first(x: jax.Array, blocks: Blocks) -> jax.Array:
    """Padding comes after every real token, so the causal mask alone keeps it out of sight."""
    return _pad(jnp.swapaxes(x, 1, 2), blocks, axis=2)


def _heads_last(x: jax.Array, length: int) -> jax.Array:
    return jnp.swapaxes(x[:, :, :length], 1, 2)


def _segments(segment_ids: jax.Array | None, blocks: Blocks) -> Any:
    if segment_ids is None:
        return None
    missing = round_up(segment_ids.shape[1], blocks.query) - segment_ids.shape[1]
    # Padding continues the last segment: a border there would only make work.
    padded = jnp.pad(segment_ids.astype(jnp.int32), ((0, 0), (0, missing)), mode="edge")
    return *visits(padded, blocks), padded[:, None, :]
