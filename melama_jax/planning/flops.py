"""FLOPs of one step, by the convention MFU is quoted in, and the least that causal attention needs."""

from __future__ import annotations

from melama_jax.models.config import LlamaConfig, LoraConfig
from melama_jax.models.params import count, param_shapes


def step_flops(
    config: LlamaConfig, lora: LoraConfig | None, batch_size: int, seq_len: int, causal: bool = False
) -> int:
    """FLOPs of one training step over all chips, nothing computed twice.

    A weight costs 2 FLOPs a token in the forward pass, 2 for the gradient of its input and, if it trains, 2 for its
    own: 6 N (Kaplan et al. 2020, arXiv 2001.08361), 4 N for weights frozen under adapters. N leaves the input
    embedding out, which is looked up; a tied one counts, as the output head. Attention adds 12 x layers x heads x
    head_dim x seq_len a token over the whole square (Chowdhery et al. 2022, arXiv 2204.02311, appendix B): the
    published convention of MFU.

    Args:
        config: the model.
        lora: its adapters, if only they train.
        batch_size: sequences a step.
        seq_len: tokens a sequence.
        causal: the least there is to do instead: what a causal mask and the model's window leave of attention (each
            row one document), and of a first layer that is frozen no gradient of its input. The convention knows no
            window.
    """
    a_token = weight_flops(config, lora)
    attention = 12 * config.num_layers * config.num_heads * config.head_dim * seq_len
    if causal:
        near = min(config.window or seq_len, seq_len)
        seen = seq_len * near - near**2 // 2  # pairs, of seq_len**2
        attention = attention * seen // seq_len**2
        a_token -= 2 * count(param_shapes(config)["layers"]) // config.num_layers if lora else 0
    return batch_size * seq_len * (a_token + attention)


def weight_flops(config: LlamaConfig, lora: LoraConfig | None = None) -> int:
    """FLOPs of one token against the weights, forward and backward: 6 N, see step_flops."""
    looked_up = 0 if config.tie_embeddings else config.vocab_size * config.embed_dim
    frozen = count(param_shapes(config)) - looked_up
    adapters = count(param_shapes(config, lora)) - looked_up - frozen if lora else 0
    return 4 * frozen + 6 * adapters if lora else 6 * frozen
