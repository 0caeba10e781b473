"""FLOPs of a step against published figures."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from melama_jax.models.config import LlamaConfig, LoraConfig
from melama_jax.planning.flops import step_flops

LLAMA2_7B = LlamaConfig(32000, 4096, 11008, 32, 32, 32, 128, 4096)
LLAMA2_70B = LlamaConfig(32000, 8192, 28672, 80, 64, 8, 128, 4096)


def test_llama2_70b_costs_what_is_published():
    """444.5 GFLOP a token at 4096, the figure behind the published v6e recipe's MFU."""
    assert step_flops(LLAMA2_70B, None, 1, 4096) / 4096 == pytest.approx(444.5e9, rel=1e-4)


def test_causal_attention_is_half_of_the_square():
    whole, causal = (step_flops(LLAMA2_7B, None, 2, 4096, causal=causal) for causal in (False, True))
    assert whole - causal == 2 * 4096 * 6 * 32 * 32 * 128 * 4096


def test_a_window_leaves_a_band_of_the_square():
    near = dataclasses.replace(LLAMA2_7B, family="mistral", window=1024)
    places = np.arange(4096)
    seen = np.minimum(places + 1, 1024).sum() / 4096**2
    without = step_flops(LLAMA2_7B, None, 1, 4096) - 4096**2 * 12 * 32 * 32 * 128
    causal = step_flops(near, None, 1, 4096, causal=True) - without
    assert causal / (4096**2 * 12 * 32 * 32 * 128) == pytest.approx(seen, rel=1e-3)
    assert step_flops(near, None, 1, 4096) == step_flops(LLAMA2_7B, None, 1, 4096)


def test_frozen_weights_need_no_gradient_of_their_own():
    """Llama-2 7B has 6,738,415,616 weights (its Hugging Face page), 131,072,000 of them in the input embedding."""
    used = 6_738_415_616 - 131_072_000
    adapters = 32 * 16 * (4 * (4096 + 4096) + 3 * (4096 + 11008))  # rank 16 on all seven projections
    attention = 12 * 32 * 32 * 128 * 4096
    made = step_flops(LLAMA2_7B, LoraConfig(16, 32.0), 1, 4096)
    assert made == 4096 * (4 * used + 6 * adapters + attention)
