"""What every room asks of a tokenizer, and how one is opened, whatever its kind."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from melama_jax.errors import InputError
from melama_jax.files import require_file
from melama_jax.text import hf_tokenizer, sentencepiece_tokenizer
from melama_jax.text.hf_tokenizer import HfTokenizer
from melama_jax.text.sentencepiece_tokenizer import SentencePieceTokenizer


class Tokenizer(Protocol):
    """Text to token ids and back. Special tokens typed in a text are text; callers put ids in themselves.

    Attributes:
        vocab_size: one more than the largest id it can produce; a model's vocabulary may be larger.
        bos_id: the id each training segment starts from.
        eos_id: the id that ends a document and an assistant's turn.
        pad_id: the pad token's id, else unk's, else eos's.
    """

    vocab_size: int
    bos_id: int
    eos_id: int
    pad_id: int

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`, no bos or eos; InputError where `text` is not Unicode (a lone surrogate)."""
        ...

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of each text, faster."""
        ...

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Token ids and each token's (start, end) in characters of `text`; starts and ends never fall."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Text of `ids`; ids that hold none (specials, padding rows past the vocabulary) are passed over."""
        ...

    def files(self) -> dict[str, bytes]:
        """File name to content: what to store so that `tokenizer_from_files` builds it again."""
        ...


def load_tokenizer(path: str | os.PathLike[str]) -> Tokenizer:
    """Opens a tokenizer.

    Args:
        path: a SentencePiece `*.model`, a Hugging Face `*.json` (the config files beside it are read too),
            or a folder with `tokenizer.model` or `tokenizer.json`; the first is preferred.

    Raises:
        InputError: nothing is there, or it is no tokenizer.
    """
    path = Path(path)
    if path.is_dir():
        path = _tokenizer_file(path)
    content = require_file(path).read_bytes()
    if path.suffix != ".json":
        return SentencePieceTokenizer(content, path)
    files = {hf_tokenizer.JSON_FILE: content}
    for name in (hf_tokenizer.CONFIG_FILE, hf_tokenizer.SPECIALS_FILE):
        if (path.parent / name).is_file():
            files[name] = (path.parent / name).read_bytes()
    return HfTokenizer(files, path)


def tokenizer_from_files(files: dict[str, bytes]) -> Tokenizer:
    """The tokenizer whose `files()` these are, as a checkpoint or a data folder stores them."""
    if sentencepiece_tokenizer.MODEL_FILE in files:
        return SentencePieceTokenizer(files[sentencepiece_tokenizer.MODEL_FILE])
    if hf_tokenizer.JSON_FILE in files:
        return HfTokenizer(files)
    raise InputError(
        "tokenizer files", ", ".join(sorted(files)) or "none", "tokenizer.model or tokenizer.json"
    )


def _tokenizer_file(folder: Path) -> Path:
    for name in (sentencepiece_tokenizer.MODEL_FILE, hf_tokenizer.JSON_FILE):
        if (folder / name).is_file():
            return folder / name
    raise InputError(folder, "a folder without a tokenizer", "tokenizer.model or tokenizer.json in it")
