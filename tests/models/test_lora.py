"""LoRA against PEFT."""

from __future__ import annotations

import flax.linen as nn
import jax
import numpy as np
import peft
import pytest
import torch

from melama_jax.errors import InputError
from melama_jax.models import lora
from melama_jax.models.config import LoraConfig
from melama_jax.models.llama import Llama
from melama_jax.models.params import flatten, unflatten
from tests.models.hf import CONFIGS, our_params, random_model

CONFIG = CONFIGS["llama2_70b"]


def peft_pair(adapter: LoraConfig):
    """A PEFT model with random adapters, and our parameters with the same ones."""
    base = random_model(CONFIG)
    params = flatten(our_params(base, CONFIG))
    settings = peft.LoraConfig(
        r=adapter.rank,
        lora_alpha=adapter.alpha,
        target_modules=list(adapter.targets),
        init_lora_weights=False,
    )
    torch.manual_seed(1)
    model = peft.get_peft_model(base, settings).eval()
    weights = {name: weight.detach().numpy() for name, weight in model.named_parameters() if "lora_" in name}
    for target in adapter.targets:
        module = "self_attn" if target[0] in "qkvo" else "mlp"
        ours = "attention" if module == "self_attn" else "mlp"
        for leaf, theirs in (("lora_a", "lora_A"), ("lora_b", "lora_B")):
            params["layers", ours, target, leaf] = np.stack(
                [
                    weights[f"base_model.model.model.layers.{i}.{module}.{target}.{theirs}.default.weight"].T
                    for i in range(CONFIG.num_layers)
                ]
            )
    return model, unflatten(params)


@pytest.mark.parametrize("targets", [LoraConfig().targets, ("q_proj", "v_proj")])
def test_forward_equals_peft(targets):
    adapter = LoraConfig(4, 12.0, targets=targets)
    theirs, params = peft_pair(adapter)
    tokens = np.random.default_rng(0).integers(0, CONFIG.vocab_size, (2, 20)).astype(np.int32)
    positions = np.broadcast_to(np.arange(20, dtype=np.int32), tokens.shape)
    ours = np.asarray(jax.jit(Llama(CONFIG, adapter).apply)({"params": params}, tokens, positions))
    with torch.no_grad():
        wanted = theirs(torch.tensor(tokens, dtype=torch.long)).logits.numpy()
        plain = theirs.get_base_model()
        with theirs.disable_adapter():
            without = plain(torch.tensor(tokens, dtype=torch.long)).logits.numpy()
    assert np.abs(wanted - without).max() > 0.1  # the adapter does something
    assert np.abs(ours - wanted).max() <= 2e-5 * np.abs(wanted).max()
    merged = jax.jit(Llama(CONFIG).apply)({"params": lora.merge(params, adapter)}, tokens, positions)
    assert np.abs(np.asarray(merged) - ours).max() <= 1e-5 * max(1.0, np.abs(ours).max())


def test_split_and_join_are_inverse():
    _, params = peft_pair(LoraConfig(2, 4.0))
    adapter, base = lora.split(params)
    assert all(lora.is_lora_path(path) for path in flatten(adapter))
    assert not any(lora.is_lora_path(path) for path in flatten(base))
    assert flatten(lora.join(adapter, base)).keys() == flatten(params).keys()


def test_a_new_adapter_changes_nothing_and_dropout_needs_training():
    adapter = LoraConfig(4, 8.0, dropout=0.5)
    model = Llama(CONFIG, adapter)
    tokens = np.random.default_rng(0).integers(0, CONFIG.vocab_size, (1, 12)).astype(np.int32)
    positions = np.arange(12, dtype=np.int32)[None]
    params = nn.unbox(jax.jit(model.init)(jax.random.key(0), tokens, positions)["params"])
    _, base = lora.split(params)
    apply = jax.jit(model.apply, static_argnums=4)
    with_adapter = apply({"params": params}, tokens, positions)
    without = jax.jit(Llama(CONFIG).apply)({"params": base}, tokens, positions)
    np.testing.assert_array_equal(with_adapter, without)
    flat = flatten(params)
    tilted = unflatten({p: leaf + 0.1 if p[-1] == "lora_b" else leaf for p, leaf in flat.items()})
    quiet = apply({"params": tilted}, tokens, positions)
    noisy = apply({"params": tilted}, tokens, positions, None, False, rngs={"dropout": jax.random.key(1)})
    assert np.abs(np.asarray(quiet) - np.asarray(noisy)).max() > 1e-3


def test_an_unknown_target_is_named():
    with pytest.raises(InputError, match="qq_proj"):
        LoraConfig(targets=("qq_proj",))
