"""What a Llama's parameters look like, without making any."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from melama_jax.models.config import LlamaConfig, LoraConfig
from melama_jax.models.llama import Llama


def boxed_param_shapes(model: Llama) -> dict[str, Any]:
    """The parameter tree as jax.ShapeDtypeStruct, each boxed with its logical axis names."""
    tokens = jnp.zeros((1, 8), jnp.int32)
    return jax.eval_shape(lambda: model.init(jax.random.key(0), tokens, tokens))["params"]


def param_shapes(config: LlamaConfig, lora: LoraConfig | None = None) -> dict[str, Any]:
    """The parameter tree as float32 jax.ShapeDtypeStruct."""
    return nn.unbox(boxed_param_shapes(Llama(config, lora)))


def count(params: dict[str, Any]) -> int:
    """Parameters in a tree of arrays or shapes."""
    return int(sum(np.prod(leaf.shape, dtype=np.int64) for leaf in jax.tree.leaves(params)))
