"""An exported tokenizer folder as transformers opens it."""

from __future__ import annotations

import json

from melama_jax.text.hf_files import hf_tokenizer_files


def auto_tokenizer(folder, tokenizer, chat_template=None, *, model_config=True, **options):
    """`AutoTokenizer` of the folder we would export; `model_config` puts a LLaMA's config.json beside it."""
    from transformers import AutoTokenizer

    for name, content in hf_tokenizer_files(tokenizer, chat_template, **options).items():
        (folder / name).write_bytes(content)
    if model_config:
        (folder / "config.json").write_text(
            json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"]})
        )
    return AutoTokenizer.from_pretrained(folder)
