"""LoRA on a parameter tree: which leaves are adapters, and folding them into the base."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from flax import traverse_util

from melama_jax.models.config import LoraConfig

Params = dict[str, Any]


def is_lora_path(path: tuple[str, ...]) -> bool:
    """Whether a parameter path ends in an adapter's matrix."""
    return path[-1] in ("lora_a", "lora_b")


def split(params: Params) -> tuple[Params, Params]:
    """(adapter leaves, base leaves), both nested; joining them gives `params` back."""
    flat = traverse_util.flatten_dict(params)
    adapter = {path: leaf for path, leaf in flat.items() if is_lora_path(path)}
    base = {path: leaf for path, leaf in flat.items() if not is_lora_path(path)}
    return traverse_util.unflatten_dict(adapter), traverse_util.unflatten_dict(base)


def join(first: Params, second: Params) -> Params:
    """One tree of the leaves of both."""
    flat = traverse_util.flatten_dict(first) | traverse_util.flatten_dict(second)
    return traverse_util.unflatten_dict(flat)


def merge(params: Params, lora: LoraConfig) -> Params:
    """kernel + scale * lora_a @ lora_b, summed in float32 and given back in the kernel's dtype; no adapters left."""
    flat = traverse_util.flatten_dict(params)
    merged = {path: leaf for path, leaf in flat.items() if not is_lora_path(path)}
    for path, a in flat.items():
        if path[-1] != "lora_a":
            continue
        kernel = (*path[:-1], "kernel")
        b = flat[(*path[:-1], "lora_b")]
        update = lora.scale * jnp.matmul(a.astype(jnp.float32), b.astype(jnp.float32), precision="highest")
        merged[kernel] = (merged[kernel].astype(jnp.float32) + update).astype(merged[kernel].dtype)
    return traverse_util.unflatten_dict(merged)
