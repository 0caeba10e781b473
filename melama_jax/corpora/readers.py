"""Readers of texts, by the name a Source calls them: (path, source, the file's name in ids) -> Documents."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from melama_jax.corpora.jats import read_pmc_jats
from melama_jax.corpora.plain import read_text_file
from melama_jax.corpora.pubmed import read_pubmed_xml
from melama_jax.corpora.tables import read_csv_rows, read_json_rows, read_jsonl_rows
from melama_jax.records.document import Document

if TYPE_CHECKING:
    from melama_jax.corpora.source import Source

Reader = Callable[[Path, "Source", str], Iterator[Document]]

READERS: dict[str, Reader] = {
    "text": read_text_file,
    "jsonl": read_jsonl_rows,
    "json": read_json_rows,
    "csv": read_csv_rows,
    "pubmed_xml": read_pubmed_xml,
    "pmc_jats": read_pmc_jats,
}
