"""A tiny random LLaMA, ours and Hugging Face's, with the same weights."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
import torch
from transformers import LlamaConfig as HfConfig
from transformers import LlamaForCausalLM

from melama_jax.models.config import LlamaConfig
from melama_jax.models.llama import Llama

CONFIG = LlamaConfig(
    vocab_size=61,
    embed_dim=32,
    mlp_dim=48,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
    max_seq_len=64,
)


class Twins(NamedTuple):
    """One model twice: ours with its parameters, and Hugging Face's."""

    model: Llama
    params: dict[str, Any]
    hf: LlamaForCausalLM


@pytest.fixture(scope="session")
def twins() -> Twins:
    """Random weights, wide enough that greedy choices are not all one token."""
    torch.manual_seed(0)
    hf = LlamaForCausalLM(
        HfConfig(
            vocab_size=CONFIG.vocab_size,
            hidden_size=CONFIG.embed_dim,
            intermediate_size=CONFIG.mlp_dim,
            num_hidden_layers=CONFIG.num_layers,
            num_attention_heads=CONFIG.num_heads,
            num_key_value_heads=CONFIG.num_kv_heads,
            head_dim=CONFIG.head_dim,
            max_position_embeddings=CONFIG.max_seq_len,
            rms_norm_eps=CONFIG.norm_eps,
            initializer_range=0.3,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=None,
        )
    ).eval()
    return Twins(Llama(CONFIG), _ours(hf), hf)


def _ours(hf: LlamaForCausalLM) -> dict[str, Any]:
    weights = {name: tensor.detach().numpy() for name, tensor in hf.state_dict().items()}

    def stacked(name: str) -> np.ndarray:
        layers = [weights[f"model.layers.{layer}.{name}.weight"] for layer in range(CONFIG.num_layers)]
        return np.stack([layer.T for layer in layers])

    def projections(where: str, *names: str) -> dict[str, Any]:
        return {name: {"kernel": stacked(f"{where}.{name}")} for name in names}

    params = {
        "embedder": {"embedding": weights["model.embed_tokens.weight"]},
        "layers": {
            "input_norm": {"scale": stacked("input_layernorm")},
            "attention": projections("self_attn", "q_proj", "k_proj", "v_proj", "o_proj"),
            "post_attention_norm": {"scale": stacked("post_attention_layernorm")},
            "mlp": projections("mlp", "gate_proj", "up_proj", "down_proj"),
        },
        "final_norm": {"scale": weights["model.norm.weight"]},
        "lm_head": {"kernel": weights["lm_head.weight"].T},
    }
    return jax.tree.map(jax.numpy.asarray, params)
