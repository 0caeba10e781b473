"""Documents of token ids -> fixed-length Records. Pure: no files, no randomness, order in is order out.

A record's tokens are targets. A text of n tokens is n + 1 of them, the last one end-of-text. There is no BOS
among them: a trainer feeds BOS where a segment starts (see DESIGN.md, section 3).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from melama_jax.records.record import Record

OPEN_RECORDS = 64  # how many records a conversation may still go into; bounds time and memory a conversation


class _Sheet:
    """A record being filled from the left."""

    def __init__(self, seq_len: int):
        self.tokens = np.zeros(seq_len, np.int32)
        self.segment_ids = np.zeros(seq_len, np.int32)
        self.positions = np.zeros(seq_len, np.int32)
        self.weights = np.zeros(seq_len, np.float32)
        self.documents: list[int] = []
        self.used = 0

    @property
    def room(self) -> int:
        return len(self.tokens) - self.used

    def put(self, document: int, tokens: np.ndarray, weights: np.ndarray | float) -> None:
        """Adds a segment; it must fit."""
        place = slice(self.used, self.used + len(tokens))
        self.documents.append(document)
        self.tokens[place] = tokens
        self.segment_ids[place] = len(self.documents)
        self.positions[place] = np.arange(len(tokens))
        self.weights[place] = weights
        self.used += len(tokens)

    def record(self) -> Record:
        documents = np.array(self.documents, np.int64)
        return Record(self.tokens, self.segment_ids, self.positions, self.weights, documents)

    def as_one_segment(self) -> Record:
        """As the paper's code has it: one segment whatever the documents, its first token untrained."""
        self.segment_ids[: self.used] = 1
        self.positions[: self.used] = np.arange(self.used)
        self.weights[0] = 0
        return self.record()


def pack_segments(documents: Iterable[tuple[int, np.ndarray]], seq_len: int, eos_id: int) -> Iterator[Record]:
    """Texts one after another, cut at `seq_len`; every text is a segment of its own.

    A text that goes on in the next record starts a new segment there, at position 0. Only the last record is
    padded (segment 0, weight 0).

    Args:
        documents: (document number, int32 [n] token ids without end-of-text).
        seq_len: targets a record.
        eos_id: the end-of-text id put after every text.
    """
    return (sheet.record() for sheet in _sheets(documents, seq_len, eos_id))


def pack_paper(documents: Iterable[tuple[int, np.ndarray]], seq_len: int, eos_id: int) -> Iterator[Record]:
    """As the code released with Me-LLaMA packs: texts joined by end-of-text, cut, attention across texts.

    One segment a record, positions 0..seq_len-1, the first token untrained since nothing stands before it.
    document_ids lists the texts of that one segment.
    """
    return (sheet.as_one_segment() for sheet in _sheets(documents, seq_len, eos_id))


def pack_conversations(
    conversations: Iterable[tuple[int, np.ndarray, np.ndarray]], seq_len: int
) -> Iterator[Record]:
    """Conversations, each whole and a segment of its own: first fit, in order.

    Each goes into the oldest record with room for it; a record is closed when it is full or OPEN_RECORDS newer
    ones are open.

    Args:
        conversations: (document number, int32 [n] token ids, bool [n] trained on).
        seq_len: targets a record; ValueError for a longer conversation.
    """
    sheets: list[_Sheet] = []
    for number, tokens, trained in conversations:
        if len(tokens) > seq_len:
            raise ValueError(f"a conversation of {len(tokens)} tokens in records of {seq_len}")
        sheet = next((sheet for sheet in sheets if sheet.room >= len(tokens)), None)
        if sheet is None:
            if len(sheets) == OPEN_RECORDS:
                yield sheets.pop(0).record()
            sheet = _Sheet(seq_len)
            sheets.append(sheet)
        sheet.put(number, tokens, trained.astype(np.float32))
        if not sheet.room:
            sheets.remove(sheet)
            yield sheet.record()
    for sheet in sheets:
        yield sheet.record()


def _sheets(documents: Iterable[tuple[int, np.ndarray]], seq_len: int, eos_id: int) -> Iterator[_Sheet]:
    sheet = _Sheet(seq_len)
    for number, ids in documents:
        targets = np.append(ids, np.int32(eos_id))
        start = 0
        while start < len(targets):
            piece = targets[start : start + sheet.room]
            sheet.put(number, piece, 1.0)
            start += len(piece)
            if not sheet.room:
                yield sheet
                sheet = _Sheet(seq_len)
    if sheet.used:
        yield sheet
