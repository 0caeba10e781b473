"""Document numbers back to the ids their sources gave them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from melama_jax.records.manifest import Manifest, split_document_id


def document_names(data_dir: str | Path, manifest: Manifest, numbers: Iterable[int]) -> list[str]:
    """`SOURCE/ID` of each document, without repetition and in order; never a word of its text.

    Reads through the id lists of the sources concerned, line by line: for the rare case, not for every batch. Where a
    list is gone, a document is `SOURCE line N` of it, from 0.

    Args:
        data_dir: the data folder.
        manifest: its ledger.
        numbers: as in Record.document_ids.
    """
    wanted = list(dict.fromkeys(numbers))
    lines: dict[int, set[int]] = {}
    for number in wanted:
        source, line = split_document_id(number)
        lines.setdefault(source, set()).add(line)
    names: dict[tuple[int, int], str] = {}
    for source, some in lines.items():
        name = manifest.sources[source].name
        names |= {(source, line): f"{name} line {line}" for line in some}
        path = Path(data_dir) / "documents" / f"{name}.txt"
        if path.is_file():
            with path.open(encoding="utf-8") as ids:
                names |= {(source, n): f"{name}/{one.rstrip()}" for n, one in enumerate(ids) if n in some}
    return [names[split_document_id(number)] for number in wanted]
