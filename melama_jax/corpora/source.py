"""A source: one row of the gin table of corpora. How its files are read is in read.py."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from melama_jax.errors import InputError
from melama_jax.fields import require_types
from melama_jax.records.document import DOMAINS

TEXT_READERS = ("text", "jsonl", "json", "csv", "pubmed_xml", "pmc_jats")
CONVERSATION_READERS = ("alpaca", "messages", "pairs")
UNITS = ("file", "paragraph", "article")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class Source:
    """Where texts of one kind come from.

    Args:
        name: names its files and its line in the ledger; letters, digits, `_`, `-`, `.`.
        domain: biomedical, clinical or general.
        reader: a name in TEXT_READERS or CONVERSATION_READERS (instruction data).
        pattern: glob below the input folder, such as `pubmed/*.xml.gz`.
        licence: what the texts are under, an SPDX name where there is one. JATS articles may state their own.
        text_field: jsonl, json, csv: the field or column with the text; several are joined by a blank line.
            pairs: the question's field and the answer's.
        id_field: jsonl, json, csv and conversations: the field with the id; None: file name and line.
        unit: text: what one document is: "file", "paragraph" (between blank lines) or "article" (WikiText's
            ` = Title = `).
        repeat: how often the source stands in its domain's pool (2: drawn twice as often as its size says).
        shards: how many files its training records go to; a shard is sorted and packed in memory.
        allow_phi: keeps clinical texts that hold what looks like a patient's contact data or numbers.
    """

    name: str
    domain: str
    reader: str
    pattern: str
    licence: str
    text_field: str | Sequence[str] = "text"
    id_field: str | None = None
    unit: str = "file"
    repeat: int = 1
    shards: int = 1
    allow_phi: bool = False

    def __post_init__(self):
        require_types(self)
        if not _NAME.fullmatch(self.name):
            raise InputError("Source.name", repr(self.name), "letters, digits, _, - or .")
        where = f"Source {self.name}"
        if self.domain not in DOMAINS:
            raise InputError(f"{where}: domain", repr(self.domain), f"one of {', '.join(DOMAINS)}")
        names = (*TEXT_READERS, *CONVERSATION_READERS)
        if self.reader not in names:
            raise InputError(f"{where}: reader", repr(self.reader), f"one of {', '.join(names)}")
        if self.unit not in UNITS:
            raise InputError(f"{where}: unit", repr(self.unit), f"one of {', '.join(UNITS)}")
        if Path(self.pattern).is_absolute() or ".." in Path(self.pattern).parts:
            raise InputError(f"{where}: pattern", repr(self.pattern), "a glob inside the input folder")
        if self.repeat < 1 or self.shards < 1:
            raise InputError(f"{where}: repeat, shards", f"{self.repeat}, {self.shards}", "at least 1")

    @property
    def is_conversations(self) -> bool:
        """Whether it holds instruction data."""
        return self.reader in CONVERSATION_READERS
