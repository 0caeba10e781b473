"""Tokens that a Hugging Face folder adds to its SentencePiece model: the rows its embedding was grown by."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from melama_jax.errors import InputError
from melama_jax.text.hf_tokenizer import CONFIG_FILE, JSON_FILE, SPECIALS_FILE, json_object, token_text
from melama_jax.text.sentencepiece_to_hf import fast_tokenizer

ADDED_FILE = "added_tokens.json"
STATING_FILES = (CONFIG_FILE, SPECIALS_FILE, ADDED_FILE, JSON_FILE)
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


def added_tokens(files: Mapping[str, bytes], beyond: int, where: object) -> list[dict[str, Any]]:
    """The tokens with ids from `beyond`, in order, as entries of a tokenizer.json's added_tokens.

    tokenizer.json states them with their flags, tokenizer_config.json too since transformers 4.34, added_tokens.json
    by text and id alone; there, as in transformers, those that are named as special are special.

    Raises:
        InputError: a file is not what it should be, two tokens have one id, or their ids leave a gap.
    """
    config, specials, plain, whole = (json_object(files, name, where) for name in STATING_FILES)
    special_texts = {token_text(value) for value in _values(specials) + _values(config)}
    found: dict[int, dict[str, Any]] = {}
    try:
        for text, id_ in plain.items():
            special = text in special_texts
            flags = dict.fromkeys(_FLAGS, False) | {"special": special, "normalized": not special}
            found[int(id_)] = {"id": int(id_), "content": text, **flags}
        listed = {str(token["id"]): token for token in whole.get("added_tokens") or []}
        for id_, token in (listed | (config.get("added_tokens_decoder") or {})).items():
            flags = {name: bool(token.get(name, False)) for name in _FLAGS}
            found[int(id_)] = {"id": int(id_), "content": str(token["content"]), **flags}
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise InputError(where, f"added tokens that are none ({error!r})", "text and id of each") from error
    added = [found[id_] for id_ in sorted(found) if id_ >= beyond]
    if [token["id"] for token in added] != list(range(beyond, beyond + len(added))):
        ids = ", ".join(str(token["id"]) for token in added)
        raise InputError(where, f"added tokens with ids {ids}", f"each id from {beyond} on, without a gap")
    return added


def with_added_tokens(
    model: bytes, added: list[dict[str, Any]], files: Mapping[str, bytes]
) -> dict[str, bytes]:
    """A SentencePiece model and the tokens added to it as tokenizer.json, with the files that name the special ones.

    They are looked for in the text as it is: `normalized` ones would get the dummy prefix of a text, and then be found
    after a space only.
    """
    spec = json.loads(fast_tokenizer(model).to_str())
    spec["added_tokens"] += [token | {"normalized": False} for token in added]
    named = {name: files[name] for name in (CONFIG_FILE, SPECIALS_FILE) if name in files}
    return {JSON_FILE: json.dumps(spec, ensure_ascii=False).encode(), **named}


def _values(fields: Mapping[str, Any]) -> list[Any]:
    """What special tokens a file names: bos_token and the like, and the lists of more."""
    named = [value for name, value in fields.items() if name.endswith("_token")]
    more = [fields.get(name) for name in ("additional_special_tokens", "extra_special_tokens")]
    return named + [value for values in more if isinstance(values, list) for value in values]
