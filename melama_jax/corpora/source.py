"""A source: one row of the gin table of corpora, and reading its files into Documents or Conversations."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from melama_jax.corpora.conversations import CONVERSATION_READERS, Conversation
from melama_jax.corpora.plain import UNITS
from melama_jax.corpora.readers import READERS
from melama_jax.errors import InputError
from melama_jax.fields import require_types
from melama_jax.records.document import DOMAINS, Document

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class Source:
    """Where texts of one kind come from.

    Args:
        name: names its files and its line in the ledger; letters, digits, `_`, `-`, `.`.
        domain: biomedical, clinical or general.
        reader: a name in READERS (texts) or CONVERSATION_READERS (instruction data).
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
        names = (*READERS, *CONVERSATION_READERS)
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


def source_files(source: Source, root: Path) -> list[Path]:
    """The files of a source below `root`, sorted; InputError where there are none."""
    if not root.is_dir():
        raise InputError(root, "no such folder", "the folder with the corpora")
    files = sorted(path for path in root.glob(source.pattern) if path.is_file())
    if not files:
        raise InputError(f"Source {source.name}", f"no file matching {root / source.pattern}", "at least one")
    return files


def read_file(source: Source, root: Path, path: Path) -> Iterator[Document | Conversation]:
    """The documents or conversations in one file of a source, in order; InputError names file and record."""
    reader = READERS.get(source.reader) or CONVERSATION_READERS[source.reader]
    for item in reader(path, source, path.relative_to(root).as_posix()):
        if not item.id or "\n" in item.id or "\r" in item.id:
            raise InputError(path, f"the document id {item.id!r}", "an id of one line")
        yield item


def read_source(source: Source, root: Path) -> Iterator[Document | Conversation]:
    """All files of a source, one after another."""
    for path in source_files(source, root):
        yield from read_file(source, root, path)
