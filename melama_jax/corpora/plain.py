"""Plain text files, whole or cut into paragraphs or WikiText articles."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from melama_jax.corpora.source import Source
from melama_jax.errors import InputError
from melama_jax.files import open_binary
from melama_jax.records.document import Document

_ARTICLE = re.compile(r"\s*= (?!=).*(?<!=) =\s*")  # ` = Title = `, not ` = = Section = = `


def read_text_file(path: Path, source: Source, name: str) -> Iterator[Document]:
    """UTF-8 text (.gz or not): one document a file, a paragraph or an article, as `source.unit` says.

    Ids are the file's name, with the line a paragraph or article starts on.
    """
    first, lines = 1, []
    for number, line in _lines(path):
        starts = (source.unit == "article" and _ARTICLE.fullmatch(line)) or (
            source.unit == "paragraph" and not line.strip()
        )
        if starts:
            yield from _document(lines, source, f"{name}:{first}")
            first, lines = number, []
        lines.append(line)
    yield from _document(lines, source, name if source.unit == "file" else f"{name}:{first}")


def _document(lines: list[str], source: Source, identity: str) -> Iterator[Document]:
    text = "".join(lines).strip()
    if text or source.unit == "file":
        yield Document(identity, text, source.name, source.domain, source.licence)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    with open_binary(path) as file:
        for number, raw in enumerate(file, start=1):
            try:
                yield number, raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise InputError(
                    f"{path} line {number}", f"byte 0x{raw[error.start]:02x}", "UTF-8 text"
                ) from error
