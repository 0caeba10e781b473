"""Rows with a text in one of their fields: JSON Lines, a JSON list, CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from melama_jax.corpora.source import Source
from melama_jax.errors import InputError
from melama_jax.files import open_binary, read_json, read_jsonl
from melama_jax.records.document import Document

_LONGEST_FIELD = 2**28  # characters; Python's own limit of 131,072 is below a long hospital course


def read_jsonl_rows(path: Path, source: Source, name: str) -> Iterator[Document]:
    """JSON Lines (.gz or not), one document a line."""
    return (_document(row, source, f"{name}:{line}", f"{path} line {line}") for line, row in read_jsonl(path))


def read_json_rows(path: Path, source: Source, name: str) -> Iterator[Document]:
    """A JSON list of objects, one document each."""
    return (
        _document(row, source, f"{name}:{number}", f"{path} row {number}") for number, row in list_rows(path)
    )


def read_csv_rows(path: Path, source: Source, name: str) -> Iterator[Document]:
    """CSV with a header (.tsv: tabs; .gz or not), one document a row; quoted fields may hold line breaks."""
    with open_binary(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
        csv.field_size_limit(_LONGEST_FIELD)
        rows = csv.reader(text, strict=True, delimiter="\t" if ".tsv" in path.suffixes else ",")
        try:
            header = next(rows, [])
            for row in rows:
                where = f"{path} line {rows.line_num}"
                if row and len(row) != len(header):
                    raise InputError(where, f"{len(row)} fields", f"{len(header)}, as the header has")
                if row:
                    values = dict(zip(header, row, strict=True))
                    yield _document(values, source, f"{name}:{rows.line_num}", where)
        except csv.Error as error:
            raise InputError(
                f"{path} line {rows.line_num}", f"bad CSV ({error})", "CSV as RFC 4180"
            ) from error
        except UnicodeDecodeError as error:
            where = f"{path} after line {rows.line_num}"
            raise InputError(where, f"byte 0x{error.object[error.start]:02x}", "UTF-8 text") from error


def list_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(number from 1, object) of a JSON list of objects."""
    rows = read_json(path)
    if not isinstance(rows, list):
        raise InputError(path, f"a JSON {type(rows).__name__}", "a list of objects")
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise InputError(f"{path} row {number}", f"a JSON {type(row).__name__}", "an object")
        yield number, row


def text_of(row: Mapping[str, Any], field: str, where: str) -> str:
    """A row's field as text: a string, or a list of strings as paragraphs; null is no text."""
    if field not in row:
        raise InputError(
            where, f"no field {field!r} among {', '.join(row) or 'none'}", f"{field!r} with the text"
        )
    value = row[field]
    if value is None:
        return ""
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        value = "\n\n".join(value)
    if not isinstance(value, str):
        raise InputError(f"{where} field {field!r}", f"a JSON {type(value).__name__}", "a string")
    if not value.isascii():
        check_unicode(value, f"{where} field {field!r}")
    return value


def check_unicode(text: str, where: str) -> None:
    """InputError where a JSON escape made half a surrogate pair, which no encoding can write."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(where, f"a lone surrogate at character {error.start}", "Unicode text") from error


def id_of(row: Mapping[str, Any], field: str | None, otherwise: str, where: str) -> str:
    """A row's id: a string or an integer in `field`, or `otherwise` where no field is named."""
    if field is None:
        return otherwise
    value = row.get(field)
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise InputError(f"{where} field {field!r}", repr(value)[:40], "an id, a string or an integer")
    return str(value)


def _document(row: Mapping[str, Any], source: Source, otherwise: str, where: str) -> Document:
    fields = [source.text_field] if isinstance(source.text_field, str) else source.text_field
    text = "\n\n".join(part for part in (text_of(row, field, where) for field in fields) if part)
    return Document(
        id_of(row, source.id_field, otherwise, where), text, source.name, source.domain, source.licence
    )
