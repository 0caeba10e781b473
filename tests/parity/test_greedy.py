"""64 greedy tokens on 20 prompts of a float32 export: what transformers picks is what our decoding picks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers

from benchmarks.export_agreement import MODELS, NEW_TOKENS, PROMPTS, by_transformers, ours, prompts_of
from melama_jax.conversion.hf_export import to_hf
from melama_jax.model_api import load


@pytest.mark.parametrize("name", list(MODELS))
def test_transformers_picks_our_tokens(tmp_path, name, request):
    if name == "stories260K":
        request.getfixturevalue("shared")
    run = MODELS[name](tmp_path)
    to_hf(run, tmp_path / "out", dtype="float32", max_shard_size="300KB")
    model = load(run, dtype="float32")
    prompts = prompts_of(model)
    made = ours(model, prompts)
    assert len(prompts) == PROMPTS and {len(ids) for ids in made} == {NEW_TOKENS}
    # One pass over our texts: if after each of their beginnings transformers picks our next token, then its own greedy
    # decoding, which starts from the same prompts, makes the same texts.
    rows = [prompt + ids for prompt, ids in zip(prompts, made, strict=True)]
    padded = np.zeros(
        (PROMPTS, max(len(row) for row in rows)), np.int64
    )  # on the right: later than what is compared
    for row, ids in zip(padded, rows, strict=True):
        row[: len(ids)] = ids
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    with torch.no_grad():
        choices = theirs(torch.from_numpy(padded)).logits.argmax(-1).numpy()
    for prompt, ids, picked in zip(prompts, made, choices, strict=True):
        assert picked[len(prompt) - 1 : len(prompt) + NEW_TOKENS - 1].tolist() == ids
    assert by_transformers(tmp_path / "out", prompts[:1]) == made[:1]  # and so it does, with its own cache
