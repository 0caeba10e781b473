"""Reading a source: its files, and the Documents or Conversations in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from melama_jax.corpora import conversations
from melama_jax.corpora.conversations import Conversation
from melama_jax.corpora.jats import read_pmc_jats
from melama_jax.corpora.plain import read_text_file
from melama_jax.corpora.pubmed import read_pubmed_xml
from melama_jax.corpora.source import Source
from melama_jax.corpora.tables import read_csv_rows, read_json_rows, read_jsonl_rows
from melama_jax.errors import InputError
from melama_jax.records.document import Document

# By the name a Source calls them: (path, source, the file's name in ids) -> what is in the file.
READERS: Mapping[str, Callable[[Path, Source, str], Iterator[Document | Conversation]]] = {
    "text": read_text_file,
    "jsonl": read_jsonl_rows,
    "json": read_json_rows,
    "csv": read_csv_rows,
    "pubmed_xml": read_pubmed_xml,
    "pmc_jats": read_pmc_jats,
    "alpaca": conversations.read_alpaca,
    "messages": conversations.read_messages,
    "pairs": conversations.read_pairs,
}


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
    for item in READERS[source.reader](path, source, path.relative_to(root).as_posix()):
        if not item.id or "\n" in item.id or "\r" in item.id:
            raise InputError(path, f"the document id {item.id!r}", "an id of one line")
        yield item


def read_source(source: Source, root: Path) -> Iterator[Document | Conversation]:
    """All files of a source, one after another."""
    for path in source_files(source, root):
        yield from read_file(source, root, path)
