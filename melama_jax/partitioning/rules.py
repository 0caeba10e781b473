"""Which mesh axis each logical axis goes to: the one table, and the shardings that follow from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

RULES: tuple[tuple[str, str | tuple[str, ...] | None], ...] = (
    # activations
    ("batch", ("slice", "data", "fsdp")),
    ("length", "sequence"),
    ("act_embed", None),
    # weights; an activation's heads, mlp and vocab are split the same way
    ("embed", "fsdp"),
    ("embed_out", "fsdp"),  # of o_proj and down_proj; see ROWS
    ("heads", "tensor"),
    ("kv_heads", "tensor"),
    ("head_dim", None),
    ("mlp", "tensor"),
    ("vocab", "tensor"),
    ("norm", None),
    ("lora", None),
    ("layers", None),
)


# o_proj and down_proj by rows: a TPU turns a gradient to scatter it by columns, and not by rows. 70B's step on 64 v4
# chips (448 and 128 rows a chip) is predicted 0.6% faster so, on 256 v6e chips (112 and 32) 0.7% slower, and 13B's on
# 64 v4 chips (216) 0.7%: hence only where every device has a multiple of so many rows.
ROWS = (
    ("embed", "fsdp"),
    ("heads", ("tensor", "fsdp")),
    ("mlp", ("tensor", "fsdp")),
    *RULES,
)
_WHOLE = 64


def named_axes(entry: str | Sequence[str] | None) -> tuple[str, ...]:
    """The mesh axes that one dimension's entry of a PartitionSpec names."""
    return (entry,) if isinstance(entry, str) else tuple(entry or ())


def param_shardings(boxed_shapes: Any, mesh: Mesh) -> Any:
    """A NamedSharding for every parameter, from the logical names its box carries and its shape."""

    def place(names: PartitionSpec, param: Any) -> NamedSharding:
        return weight_sharding(names, param.shape, mesh)

    names = nn.get_partition_spec(boxed_shapes)
    return jax.tree.map(place, names, nn.unbox(boxed_shapes), is_leaf=lambda x: isinstance(x, PartitionSpec))


def weight_sharding(names: PartitionSpec, shape: tuple[int, ...], mesh: Mesh) -> NamedSharding:
    """How a weight of those logical names and that shape is laid out."""
    if "embed_out" in names:
        by_rows = nn.logical_to_mesh_sharding(names, mesh, ROWS)
        if _whole_rows(by_rows, shape):
            return by_rows
    return nn.logical_to_mesh_sharding(names, mesh, RULES)


def _whole_rows(sharding: NamedSharding, shape: tuple[int, ...]) -> bool:
    """Whether every device's part of each split dimension is a multiple of _WHOLE."""
    for size, axes in zip(shape, sharding.spec, strict=True):
        ways = math.prod(sharding.mesh.shape[axis] for axis in named_axes(axes))
        if ways > 1 and size % (_WHOLE * ways):
            return False
    return True


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """How [batch, length] arrays are laid out."""
    return NamedSharding(mesh, nn.logical_to_mesh_axes(("batch", "length"), RULES))  # pyright: ignore[reportArgumentType]


def replicated(mesh: Mesh) -> NamedSharding:
    """The same value on every device."""
    return NamedSharding(mesh, PartitionSpec())
