"""Training a small SentencePiece vocabulary of LLaMA's kind."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable

import sentencepiece

from melama_jax.errors import InputError

SPECIALS_AND_BYTES = 3 + 256
CHARACTER_COVERAGE = 0.99995  # LLaMA's; rarer characters are spelled in bytes


def train_sentencepiece(texts: Iterable[str], vocab_size: int) -> bytes:
    """A `tokenizer.model`: BPE with the settings in LLaMA's own (digits split, spaces kept, byte fallback).

    unk is 0, bos 1, eos 2, no pad; line breaks are spelled as a byte, as in LLaMA. The same texts and size
    give the same bytes.

    Args:
        texts: what to learn from; held in memory.
        vocab_size: pieces in all, 259 of which are the specials and the bytes.

    Raises:
        InputError: vocab_size leaves no room, or is more than the texts can fill.
    """
    lines = [line for text in texts for line in text.split("\n") if line]
    room = vocab_size - SPECIALS_AND_BYTES
    if room < 1 or not lines:
        found = f"vocab_size {vocab_size}" if lines else "no text"
        raise InputError("train_sentencepiece", found, f"text, and a vocab_size above {SPECIALS_AND_BYTES}")
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.Train(
            sentence_iterator=iter(lines),
            model_writer=model,
            vocab_size=vocab_size,
            character_coverage=_coverage(lines, room),
            model_type="bpe",
            byte_fallback=True,
            split_digits=True,
            allow_whitespace_only_pieces=True,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            max_sentence_length=1 << 20,  # bytes; longer lines would be left out in silence
            num_threads=1,
            minloglevel=2,
        )
    except RuntimeError as error:
        expected = "a vocab_size that the texts can fill: smaller, or more text"
        raise InputError("train_sentencepiece", f"vocab_size {vocab_size} ({error})", expected) from error
    return model.getvalue()


def _coverage(lines: list[str], room: int) -> float:
    """The share of characters that get a piece: LLaMA's, or less so that half of a small vocabulary is merges."""
    counts = Counter(character for line in lines for character in line)
    kept = sum(count for _, count in counts.most_common(max(1, room // 2)))
    return min(CHARACTER_COVERAGE, kept / counts.total())
