"""The backward flash attention kernel for TPU: one pass, five products (FlashAttention-2, arXiv:2307.08691, alg. 2).

As in the forward kernel, scores are transposed. Each grid step is one block of queries against all the keys they
see: its gradient is gathered in VMEM (transposed), and so are the keys' and values' for a whole key-value head, over
its query blocks and over the query heads that share it.
"""

from __future__ import annotations

from functools import partial
from math import log
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from melama_jax.kernels.blocks import Blocks
from melama_jax.kernels.flash_forward import (
    NN,
    NT,
    VMEM_LIMIT,
    dot,
    mask_diagonal,
    mask_segments,
    transpose_into,
)


def _kernel(
    segments: tuple[Any, Any, Any] | None,
    query_ref: Any,
    key_ref: Any,
    value_ref: Any,
    d_out_ref: Any,
    lse_ref: Any,
    share_ref: Any,
    d_query_ref: Any,
    d_key_ref: Any,
    d_value_ref: Any,
    key_t_ref: Any,
    d_query_t_ref: Any,
    d_key_acc_ref: Any,
    d_value_acc_ref: Any,
    *,
    blocks: Blocks,
    scale: float,
) -> None:
    """One block of queries. `segments`: the two tables of blocks.visits, and the ids [1, 1, length]."""
    row, group, step, steps = pl.program_id(0), pl.program_id(2), pl.program_id(3), pl.num_programs(3)
    base = pl.multiple_of(step * blocks.query, blocks.query)
    pieces = [slice(start, start + blocks.piece) for start in range(0, blocks.query, blocks.piece)]

    @pl.when((group == 0) & (step == 0))
    def _() -> None:
        transpose_into(key_ref, key_t_ref, blocks.key)
        d_key_acc_ref[...] = jnp.zeros_like(d_key_acc_ref)
        d_value_acc_ref[...] = jnp.zeros_like(d_value_acc_ref)

    def products(piece: slice, keys: Any, mask: Any, diagonal: bool) -> tuple[jax.Array, jax.Array]:
        """Scores and the probabilities' gradients, [keys, queries]."""
        product = dot(key_ref[0, 0, keys], query_ref[0, 0, piece], NT)
        if mask is not None:
            ids_ref = mask[-1]
            query_ids = ids_ref[0, :, pl.ds(base + piece.start, blocks.piece)]
            product = mask_segments(product, ids_ref[0, :, keys], query_ids)
        product = mask_diagonal(product) if diagonal else product
        return product, dot(value_ref[0, 0, keys], d_out_ref[0, 0, piece], NT)

    def gradients(piece: slice, product: jax.Array, d_weights: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Probabilities and the scores' gradients, in the operands' type for the products to come."""
        weights = jnp.exp2(product - lse_ref[0, 0, :, piece])
        d_scores = weights * (d_weights - share_ref[0, 0, :, piece])
        return weights.astype(d_out_ref.dtype), d_scores.astype(query_ref.dtype)

    def add(piece: slice, keys: Any, weights: jax.Array, d_scores: jax.Array, fresh: bool) -> None:
        d_value_acc_ref[keys] += dot(weights, d_out_ref[0, 0, piece], NN)
        d_key_acc_ref[keys] += dot(d_scores, query_ref[0, 0, piece], NN)
        d_query = dot(key_t_ref[:, keys], d_scores, NN)
        d_query_t_ref[:, piece] = d_query if fresh else d_query_t_ref[:, piece] + d_query

    coming = products(pieces[0], pl.ds(base, pieces[0].stop), segments, True)
    for piece, after in zip(pieces, [*pieces[1:], None], strict=True):
        present = coming
        if after is not None:
            coming = products(after, pl.ds(base, after.stop), segments, True)
        add(piece, pl.ds(base, piece.stop), *gradients(piece, *present), fresh=True)

    def body(block: jax.Array, _: None, mask: Any) -> None:
        keys = pl.ds(pl.multiple_of(block * blocks.key, blocks.key), blocks.key)
        coming = products(pieces[0], keys, mask, False)
        for piece, after in zip(pieces, [*pieces[1:], None], strict=True):
            present = coming
            if after is not None:
                coming = products(after, keys, mask, False)
            add(piece, keys, *gradients(piece, *present), fresh=False)

    end = step * (blocks.query // blocks.key)
    whole = 0
    if segments is not None:
        first, whole = (table[row * steps + step] for table in segments[:2])
        lax.fori_loop(first, whole, partial(body, mask=segments), None)
    lax.fori_loop(whole, end, partial(body, mask=None), None)

    for piece in pieces:
        d_query_ref[0, 0, piece] = (d_query_t_ref[:, piece] * scale).T.astype(d_query_ref.dtype)

    @pl.when((group == pl.num_programs(2) - 1) & (step == steps - 1))
    def _() -> None:
        # The queries were scaled by log2(e) beside 1 / sqrt(head_dim); the gradient knows only the latter.
        d_key_ref[0, 0] = (d_key_acc_ref[...] * log(2)).astype(d_key_ref.dtype)
        d_value_ref[0, 0] = d_value_acc_ref[...].astype(d_value_ref.dtype)


def backward(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    d_out: jax.Array,
    lse: jax.Array,
    share: jax.Array,
    segments: tuple[jax.Array, jax.Array, jax.Array] | None,
    blocks: Blocks,
    interpret: bool,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Gradients of flash_forward.forward with respect to the unscaled query, key and value.

    Args:
        query: [batch, heads, length, head_dim], scaled as there.
        key: [batch, kv_heads, length, head_dim].
        value: as key.
        d_out: the output's gradient, as query.
        lse: float32 [batch, heads, 1, length], as the forward pass gave it.
        share: float32 [batch, heads, 1, length], sum over head_dim of out * d_out.
        segments: as there.
        blocks: as there.
        interpret: as there.

    Returns:
        The three gradients, shaped and typed as query, key and value.
    """
    batch, heads, length, head_dim = query.shape
    kv_heads = key.shape[1]
    groups = heads // kv_heads
    queries = pl.BlockSpec((1, 1, blocks.query, head_dim), lambda b, k, g, i, *_: (b, k * groups + g, i, 0))
    rows = pl.BlockSpec((1, 1, 1, blocks.query), lambda b, k, g, i, *_: (b, k * groups + g, 0, i))
    keys = pl.BlockSpec((1, 1, length, head_dim), lambda b, k, g, i, *_: (b, k, 0, 0))
    ids = pl.BlockSpec((1, 1, length), lambda b, k, g, i, *_: (b, 0, 0))
    scratch: list[Any] = [
        pltpu.VMEM((head_dim, length), key.dtype),
        pltpu.VMEM((head_dim, blocks.query), jnp.float32),
        pltpu.VMEM((length, head_dim), jnp.float32),
        pltpu.VMEM((length, head_dim), jnp.float32),
    ]
    in_specs: list[Any] = [queries, keys, keys, queries, rows, rows]
    operands: tuple[jax.Array, ...] = (query, key, value, d_out, lse, share)
    tables: list[jax.Array] = []
    if segments is not None:
        *tables, segment_ids = segments
        in_specs, operands = [ids, *in_specs], (segment_ids, *operands)

    def kernel(*refs: Any) -> None:
        given, refs = (refs[:3], refs[3:]) if tables else (None, refs)
        _kernel(given, *refs, blocks=blocks, scale=head_dim**-0.5)

    d_query, d_key, d_value = pl.pallas_call(
        kernel,
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=len(tables),
            grid=(batch, kv_heads, groups, length // blocks.query),
            in_specs=in_specs,
            out_specs=[queries, keys, keys],
            scratch_shapes=scratch,
        ),
        out_shape=[jax.ShapeDtypeStruct(x.shape, x.dtype) for x in (query, key, value)],
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "parallel", "arbitrary", "arbitrary"),
            vmem_limit_bytes=VMEM_LIMIT,
        ),
        interpret=interpret,
        name="flash_backward",
    )(*tables, *operands)
    return d_query, d_key, d_value
