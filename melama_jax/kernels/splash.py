"""JAX's own splash attention (Pallas, TPU only) behind our signature."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as kernels
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks

from melama_jax.kernels.reference import OUT_NAME

LANES = 128
BLOCK = 1024
BLOCK_COMPUTE = 512


def supports(query: jax.Array) -> bool:
    """Whether splash takes this shape: lengths and heads in whole lanes."""
    return query.shape[1] % LANES == 0 and query.shape[3] % LANES == 0


def splash_attention(
    query: jax.Array, key: jax.Array, value: jax.Array, segment_ids: jax.Array | None = None
) -> jax.Array:
    """Causal self-attention within segments. Shapes as in reference.causal_attention."""
    length, heads = query.shape[1], query.shape[2]
    block = _divisor(length, BLOCK)
    compute = _divisor(block, BLOCK_COMPUTE)
    sizes = kernels.BlockSizes(
        block_q=block,
        block_kv=block,
        block_kv_compute=compute,
        block_q_dkv=block,
        block_kv_dkv=block,
        block_kv_dkv_compute=compute,
        use_fused_bwd_kernel=True,
    )
    mask = masks.MultiHeadMask([masks.CausalMask((length, length))] * heads)
    attend = kernels.make_splash_mha(
        mask=mask, head_shards=1, q_seq_shards=1, block_sizes=sizes, residual_checkpoint_name=OUT_NAME
    )
    scaled = (query * query.shape[-1] ** -0.5).astype(query.dtype)
    ids = None if segment_ids is None else kernels.SegmentIds(q=segment_ids, kv=segment_ids)
    heads_first = (jnp.swapaxes(x, 1, 2) for x in (scaled, key, value))
    out: Any = jax.vmap(attend, in_axes=(0, 0, 0, None if ids is None else 0))(*heads_first, ids)
    return jnp.swapaxes(out, 1, 2)


def _divisor(length: int, most: int) -> int:
    """The largest whole number of lanes that divides `length`, at most `most`."""
    return max(size for size in range(LANES, min(length, most) + 1, LANES) if length % size == 0)
