"""The forward flash attention kernel for TPU (method: Dao et al., FlashAttention-2, arXiv:2307.08691).

Scores are held transposed, [keys, queries]: what belongs to a query (maximum, sum, log-sum-exp) is then a row,
which broadcasts along sublanes for nothing, and the second product fills a matrix unit wider than head_dim.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from melama_jax.kernels.blocks import LANES, Blocks
from melama_jax.kernels.reference import MASKED

VMEM_LIMIT = 60 * 2**20  # bytes; a head's keys and values stay there whole
NT = (((1,), (1,)), ((), ()))  # a @ b.T
NN = (((1,), (0,)), ((), ()))  # a @ b


def dot(a: jax.Array, b: jax.Array, dims: Any) -> jax.Array:
    """Product accumulated in float32; float32 operands at full precision."""
    precision = lax.Precision.HIGHEST if a.dtype == jnp.float32 else lax.Precision.DEFAULT
    return lax.dot_general(a, b, dims, precision=precision, preferred_element_type=jnp.float32)


def mask_diagonal(scores: jax.Array) -> jax.Array:
    """Scores [keys, queries], the last keys being the queries themselves: hides keys after their query."""
    keys, queries = scores.shape
    key = lax.broadcasted_iota(jnp.int32, (queries, queries), 0)
    query = lax.broadcasted_iota(jnp.int32, (queries, queries), 1)
    square = jnp.where(key <= query, scores[keys - queries :], MASKED)
    return square if keys == queries else jnp.concatenate([scores[: keys - queries], square])


def mask_segments(scores: jax.Array, key_ids: jax.Array, query_ids: jax.Array) -> jax.Array:
    """Scores [keys, queries], key_ids [1, keys], query_ids [1, queries]: hides keys of other segments."""
    keys, queries = scores.shape
    column = jnp.broadcast_to(key_ids, (LANES, keys)).T
    return jnp.where(jnp.concatenate([column] * (queries // LANES), axis=1) == query_ids, scores, MASKED)


def transpose_into(source_ref: Any, target_ref: Any, size: int) -> None:
    """[1, 1, length, head_dim] into [head_dim, length], `size` rows at a time."""
    for start in range(0, target_ref.shape[1], size):
        target_ref[:, start : start + size] = source_ref[0, 0, start : start + size].T


def _kernel(
    segments: tuple[Any, Any, Any] | None,
    query_ref: Any,
    key_ref: Any,
    value_ref: Any,
    out_ref: Any,
    lse_ref: Any,
    value_t_ref: Any,
    acc_ref: Any,
    max_ref: Any,
    sum_ref: Any,
    *,
    blocks: Blocks,
) -> None:
    """One block of queries. `segments`: the two tables of blocks.visits, and the ids [1, 1, length]."""
    row, step, steps = pl.program_id(0), pl.program_id(3), pl.num_programs(3)
    base = pl.multiple_of(step * blocks.query, blocks.query)
    pieces = [slice(start, start + blocks.piece) for start in range(0, blocks.query, blocks.piece)]

    @pl.when(step == 0)
    def _() -> None:
        transpose_into(value_ref, value_t_ref, blocks.key)

    def scores(piece: slice, keys: Any, mask: Any) -> jax.Array:
        product = dot(key_ref[0, 0, keys], query_ref[0, 0, piece], NT)
        if mask is not None:
            ids_ref = mask[-1]
            query_ids = ids_ref[0, :, pl.ds(base + piece.start, blocks.piece)]
            product = mask_segments(product, ids_ref[0, :, keys], query_ids)
        return product

    def diagonal(piece: slice) -> jax.Array:
        return mask_diagonal(scores(piece, pl.ds(base, piece.stop), segments))

    # The diagonal first: its softmax needs no correction of earlier sums.
    # The next piece's scores are asked for before this one's softmax, so that the matrix units have work.
    coming = diagonal(pieces[0])
    for piece, after in zip(pieces, [*pieces[1:], None], strict=True):
        present = coming
        if after is not None:
            coming = diagonal(after)
        maximum = present.max(axis=0, keepdims=True)
        weights = jnp.exp2(present - maximum)
        max_ref[:, piece] = maximum
        sum_ref[:, piece] = weights.sum(axis=0, keepdims=True)
        values = value_t_ref[:, pl.ds(base, piece.stop)]
        acc_ref[:, piece] = dot(values, weights.astype(values.dtype), NN)

    def body(block: jax.Array, _: None, mask: Any) -> None:
        keys = pl.ds(pl.multiple_of(block * blocks.key, blocks.key), blocks.key)
        values = value_t_ref[:, keys]
        coming = scores(pieces[0], keys, mask)
        for piece, after in zip(pieces, [*pieces[1:], None], strict=True):
            present = coming
            if after is not None:
                coming = scores(after, keys, mask)
            before = max_ref[:, piece]
            maximum = jnp.maximum(before, present.max(axis=0, keepdims=True))
            weights = jnp.exp2(present - maximum)
            shrink = jnp.exp2(before - maximum)
            max_ref[:, piece] = maximum
            sum_ref[:, piece] = shrink * sum_ref[:, piece] + weights.sum(axis=0, keepdims=True)
            acc_ref[:, piece] = shrink * acc_ref[:, piece] + dot(values, weights.astype(values.dtype), NN)

    end = step * (blocks.query // blocks.key)
    whole = 0
    if segments is not None:
        first, whole = (table[row * steps + step] for table in segments[:2])
        lax.fori_loop(first, whole, partial(body, mask=segments), None)
    lax.fori_loop(whole, end, partial(body, mask=None), None)

    for piece in pieces:
        total = sum_ref[:, piece]
        out_ref[0, 0, piece] = (acc_ref[:, piece] / total).T.astype(out_ref.dtype)
        lse_ref[0, 0, :, piece] = max_ref[:, piece] + jnp.log2(total)


def forward(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    segments: tuple[jax.Array, jax.Array, jax.Array] | None,
    blocks: Blocks,
    interpret: bool,
) -> tuple[jax.Array, jax.Array]:
    """Causal attention of queries already scaled by log2(e) / sqrt(head_dim).

    Args:
        query: [batch, heads, length, head_dim], length a multiple of blocks.query.
        key: [batch, kv_heads, length, head_dim].
        value: as key.
        segments: None, or blocks.visits' two tables and the segment ids int32 [batch, 1, length].
        blocks: how the sequence is cut.
        interpret: run on any platform.

    Returns:
        out [batch, heads, length, head_dim] in query's dtype, and the base-2 log-sum-exp of each query's scaled
        scores, float32 [batch, heads, 1, length].
    """
    batch, heads, length, head_dim = query.shape
    kv_heads = key.shape[1]
    groups = heads // kv_heads
    queries = pl.BlockSpec((1, 1, blocks.query, head_dim), lambda b, k, g, i, *_: (b, k * groups + g, i, 0))
    rows = pl.BlockSpec((1, 1, 1, blocks.query), lambda b, k, g, i, *_: (b, k * groups + g, 0, i))
    keys = pl.BlockSpec((1, 1, length, head_dim), lambda b, k, g, i, *_: (b, k, 0, 0))
    ids = pl.BlockSpec((1, 1, length), lambda b, k, g, i, *_: (b, 0, 0))
    scratch: list[Any] = [
        pltpu.VMEM((head_dim, length), value.dtype),
        pltpu.VMEM((head_dim, blocks.query), jnp.float32),
        pltpu.VMEM((1, blocks.query), jnp.float32),
        pltpu.VMEM((1, blocks.query), jnp.float32),
    ]
    in_specs: list[Any] = [queries, keys, keys]
    operands: tuple[jax.Array, ...] = (query, key, value)
    tables: list[jax.Array] = []
    if segments is not None:
        *tables, segment_ids = segments
        in_specs, operands = [ids, *in_specs], (segment_ids, *operands)

    def kernel(*refs: Any) -> None:
        given, refs = (refs[:3], refs[3:]) if tables else (None, refs)
        _kernel(given, *refs, blocks=blocks)

    out, lse = pl.pallas_call(
        kernel,
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=len(tables),
            grid=(batch, kv_heads, groups, length // blocks.query),
            in_specs=in_specs,
            out_specs=[queries, rows],
            scratch_shapes=scratch,
        ),
        out_shape=[
            jax.ShapeDtypeStruct(query.shape, query.dtype),
            jax.ShapeDtypeStruct((batch, heads, 1, length), jnp.float32),
        ],
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "parallel", "parallel", "arbitrary"),
            vmem_limit_bytes=VMEM_LIMIT,
        ),
        interpret=interpret,
        name="flash_forward",
    )(*tables, *operands)
    return out, lse
