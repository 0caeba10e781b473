"""Attention bound to a mesh: each device attends over its own rows and heads."""

from __future__ import annotations

import functools

import flax.linen as nn
import jax
from jax.sharding import Mesh

from melama_jax.errors import InputError
from melama_jax.kernels import reference
from melama_jax.kernels.attention import attention
from melama_jax.models.config import LlamaConfig
from melama_jax.models.llama import Attention
from melama_jax.partitioning.rules import RULES


def bind_attention(mesh: Mesh, config: LlamaConfig) -> Attention:
    """The attention a model on this mesh should use.

    A Pallas kernel cannot be partitioned by the compiler, so rows and heads are mapped by hand. Where the
    sequence is split, plain attention is left to the compiler, which gathers keys and values.
    """
    if config.num_kv_heads % mesh.shape["tensor"]:
        raise InputError(
            "MESH",
            f"tensor={mesh.shape['tensor']}",
            f"a divisor of the model's {config.num_kv_heads} kv heads",
        )
    if mesh.size == 1:
        return attention
    if mesh.shape["sequence"] > 1:
        return reference.causal_attention
    heads = nn.logical_to_mesh_axes(("batch", "length", "heads", "head_dim"), RULES)
    kv_heads = nn.logical_to_mesh_axes(("batch", "length", "kv_heads", "head_dim"), RULES)
    rows = nn.logical_to_mesh_axes(("batch", "length"), RULES)
    mapped = functools.partial(jax.shard_map, mesh=mesh, out_specs=heads, check_vma=False)

    def bound(
        query: jax.Array, key: jax.Array, value: jax.Array, segment_ids: jax.Array | None = None
    ) -> jax.Array:
        if segment_ids is None:
            return mapped(attention, in_specs=(heads, kv_heads, kv_heads))(query, key, value)
        return mapped(attention, in_specs=(heads, kv_heads, kv_heads, rows))(query, key, value, segment_ids)

    return bound
