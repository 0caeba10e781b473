"""A LoRA run that starts from somebody's PEFT adapter goes on with it, and hands it back to PEFT."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file

from melama_jax.checkpoints.hf_export import to_hf
from melama_jax.checkpoints.open import open_model
from melama_jax.checkpoints.peft_import import from_peft
from melama_jax.errors import InputError
from melama_jax.models.config import LoraConfig
from melama_jax.training.config import AdamW
from melama_jax.training.train import train
from tests.checkpoints.test_peft import make_adapter
from tests.training.conftest import CONFIG, small_run

LORA = LoraConfig(2, 6.0, dropout=0.25, targets=("down_proj", "q_proj"))


@pytest.fixture(scope="module")
def adapter(data, tmp_path_factory) -> Path:
    """FOLDER/peft, its base FOLDER/base with two end tokens, and both as one model directory, FOLDER/start."""
    folder = tmp_path_factory.mktemp("adapter")
    shape = transformers.LlamaConfig(
        vocab_size=CONFIG.vocab_size,
        hidden_size=CONFIG.embed_dim,
        intermediate_size=CONFIG.mlp_dim,
        num_hidden_layers=CONFIG.num_layers,
        num_attention_heads=CONFIG.num_heads,
        num_key_value_heads=CONFIG.num_kv_heads,
        max_position_embeddings=CONFIG.max_seq_len,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    transformers.LlamaForCausalLM(shape).save_pretrained(folder / "base")
    shutil.copy(data / "tokenizer.model", folder / "base" / "tokenizer.model")
    (folder / "base" / "generation_config.json").write_text(json.dumps({"eos_token_id": [5, 2], "top_k": 7}))
    config = {
        "r": LORA.rank,
        "lora_alpha": 6,
        "lora_dropout": LORA.dropout,
        "target_modules": list(LORA.targets),
    }
    make_adapter(folder / "peft", folder / "base", **config)
    from_peft(folder / "peft", folder / "base", folder / "start")
    return folder


def run_from(adapter, data, folder, **changes):
    settings = {"model": None, "init_from": str(adapter / "start"), "train_steps": 1, "lora": LORA, **changes}
    return small_run(data, folder, **settings)


def test_training_goes_on_with_the_adapter_and_peft_reads_it_again(adapter, data, tmp_path):
    at_rest = run_from(adapter, data, tmp_path / "at_rest", optimizer=AdamW(learning_rate=0.0))
    train(at_rest, show=None)
    to_hf(tmp_path / "at_rest", tmp_path / "same", adapter_only=True)
    given, same = (load_file(f / "adapter_model.safetensors") for f in (adapter / "peft", tmp_path / "same"))
    assert given.keys() == same.keys()
    assert all(torch.equal(given[name], same[name]) for name in given)  # a rate of 0 shows where it began

    # Another dropout is the run's own affair.
    tuned = run_from(adapter, data, tmp_path / "tuned", lora=dataclasses.replace(LORA, dropout=0.0))
    train(tuned, show=None)
    to_hf(tmp_path / "tuned", tmp_path / "out", adapter_only=True)
    base = transformers.AutoModelForCausalLM.from_pretrained(adapter / "base")
    loaded = peft.PeftModel.from_pretrained(base, tmp_path / "out").state_dict()
    for name, tensor in load_file(tmp_path / "out" / "adapter_model.safetensors").items():
        assert torch.equal(loaded[name.replace(".weight", ".default.weight")], tensor)
        assert not torch.equal(tensor, given[name])
        torch.testing.assert_close(tensor, given[name], rtol=0, atol=0.01)


def test_a_run_keeps_every_end_token_of_what_it_started_from(adapter, data, tmp_path):
    run = run_from(adapter, data, tmp_path / "run")
    train(run, show=None)
    assert open_model(tmp_path / "run").card.generation_config["eos_token_id"] == [5, 2]
    train(dataclasses.replace(run, train_steps=2), show=None)  # resumed, too
    to_hf(tmp_path / "run", tmp_path / "merged", merge_lora=True)
    written = transformers.GenerationConfig.from_pretrained(tmp_path / "merged")
    assert (written.bos_token_id, written.eos_token_id, written.top_k) == (1, [5, 2], 7)


@pytest.mark.parametrize(
    "lora",
    [None, dataclasses.replace(LORA, rank=4), dataclasses.replace(LORA, alpha=4.0), LoraConfig(2, 6.0)],
)
def test_adapters_of_another_shape_are_refused_in_one_line(adapter, data, tmp_path, lora):
    with pytest.raises(
        InputError, match=r"Run\.lora with INIT_FROM.*rank=2, alpha=6\.0.*q_proj.*down_proj"
    ) as error:
        train(run_from(adapter, data, tmp_path / "run", lora=lora), show=None)
    assert "\n" not in str(error.value)
