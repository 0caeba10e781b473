"""The owners' files of MIBE's data sets -> TASK.jsonl and TASK.train.jsonl.

Every .json, .jsonl and .tsv below a folder is looked into; what a file is shows from its first row, which split
it is from its name. What is read:
- PubMedQA (Jin et al. 2019, arXiv 1909.06146): {PMID: {QUESTION, CONTEXTS, final_decision, ...}}. In a file whose
  name tells no split (ori_pqal.json) the PMIDs of test_ground_truth.json beside it are test, the others training.
- MedQA-USMLE (Jin et al. 2020, arXiv 2009.13081): JSON lines {question, options {A: ...}, answer_idx}, or a TSV
  whose options are a Python list of {'key', 'value'}. Five options are task medqa, four medqa_4. The Chinese
  questions and the second copies beside them in the owners' folder are passed over.
- MedMCQA (Pal et al. 2022, arXiv 2203.14371): JSON lines {question, opa .. opd, cop 1 .. 4}. Its test split has
  no answers, so the paper and we score the dev split.
"""

from __future__ import annotations

import ast
import csv
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from melama_jax.errors import InputError
from melama_jax.evaluation.rows import Row, letter, write_rows
from melama_jax.files import (
    new_dir,
    read_json,
    read_jsonl,
    read_text,
    require_empty_dir,
    sha256_file,
    write_json,
)

MAX_OPTIONS_TEXT = 20_000
DECISIONS = ("yes", "no", "maybe")
GROUND_TRUTH = "test_ground_truth.json"
PASSED_OVER = {"Mainland", "Taiwan", "metamap_extracted_phrases", "US_qbank.jsonl"}  # MedQA's folder


Found = Iterator[tuple[str, Row | None]]  # (file to write to, the row, or None for one without an answer)


@dataclass
class RawFile:
    """One owner's file that was read, for the ledger (sources.json).

    Args:
        path: below the raw folder.
        sha256: of its bytes.
        rows: file written -> rows that went there.
        repeated: rows that an earlier file gave already.
        without_answer: rows whose answer the owners keep back.
    """

    path: str
    sha256: str
    rows: dict[str, int] = field(default_factory=dict)
    repeated: int = 0
    without_answer: int = 0


def prepare(raw: str | Path, output: str | Path) -> list[RawFile]:
    """Reads every file below `raw` that is a known data set and writes `output`, a new folder.

    Returns:
        What each file gave. The same is in output/sources.json.

    Raises:
        InputError: nothing known below `raw`, a broken row, two questions of one id, `output` not empty.
    """
    raw = Path(raw)
    if not raw.is_dir():
        raise InputError(raw, "no such folder", "a folder with the owners' files")
    require_empty_dir(output)
    splits: dict[str, dict[str, Row]] = {}
    ledger: list[RawFile] = []
    for path in sorted(raw.rglob("*")):
        reader = _reader(path) if not PASSED_OVER & set(path.relative_to(raw).parts) else None
        if reader is not None:
            source = RawFile(str(path.relative_to(raw)), sha256_file(path))
            _collect(source, reader(path), splits, path)
            ledger.append(source)
    if not splits:
        raise InputError(
            raw, "no file of PubMedQA, MedQA or MedMCQA", "the owners' .json, .jsonl or .tsv files"
        )
    with new_dir(output) as folder:
        for name, split in splits.items():
            write_rows(folder / name, split.values())
        write_json(folder / "sources.json", [vars(source) for source in ledger])
    return ledger


def _collect(source: RawFile, found: Found, splits: dict[str, dict[str, Row]], path: Path) -> None:
    """Adds a file's rows to the splits and to its line in the ledger."""
    for name, row in found:
        if row is None:
            source.without_answer += 1
            continue
        earlier = splits.setdefault(name, {}).setdefault(row.id, row)
        if earlier is row:
            source.rows[name] = source.rows.get(name, 0) + 1
        elif earlier == row:
            source.repeated += 1
        else:
            raise InputError(path, f"another question {row.id!r} of {name}", "one question an id")


def _reader(path: Path) -> Any:
    """The reader of a file's first row, by its fields; None for a file of something else."""
    if not path.is_file() or path.suffix not in (".json", ".jsonl", ".tsv"):
        return None
    with path.open("rb") as file:
        head = file.read(65_536).decode("utf-8", errors="ignore")
    if path.suffix == ".tsv":
        fields = set(head.split("\n", 1)[0].strip().split("\t"))
        return _medqa_tsv if {"question", "answer_idx", "options"} <= fields else None
    if re.match(r'\s*\{\s*"[^"]+"\s*:\s*\{', head) and '"QUESTION"' in head and '"CONTEXTS"' in head:
        return _pubmedqa
    try:
        first = json.loads(head.split("\n", 1)[0])
    except json.JSONDecodeError:
        return None
    if not isinstance(first, dict):
        return None
    if {"question", "opa", "opb", "opc", "opd"} <= first.keys():
        return _medmcqa
    return _medqa if {"question", "options", "answer_idx"} <= first.keys() else None


def _split(path: Path, test_words: tuple[str, ...] = ("test",)) -> str | None:
    """What follows TASK in the name of the file to write, from the words of the raw file's name."""
    words = set(re.split(r"[^a-z]+", path.stem.lower()))
    if "train" in words:
        return ".train.jsonl"
    if words & set(test_words):
        return ".jsonl"
    return ".valid.jsonl" if words & {"dev", "val", "valid"} else None


def _name(task: str, path: Path, test_words: tuple[str, ...] = ("test",)) -> str:
    split = _split(path, test_words)
    if split is None:
        raise InputError(path, "a name that tells no split", "train, dev or test among its words")
    return task + split


def _pubmedqa(path: Path) -> Found:
    questions = read_json(path)
    beside = path.with_name(GROUND_TRUTH)
    test = set(read_json(beside)) if _split(path) is None and beside.is_file() else None
    for pmid, fields in questions.items():
        where = f"{path} {pmid}"
        query = _field(where, fields, "QUESTION", str).strip()
        contexts = _field(where, fields, "CONTEXTS", list)
        if "final_decision" not in fields:
            yield "pubmedqa", None
            continue
        decision = _field(where, fields, "final_decision", str)
        if decision not in DECISIONS:
            raise InputError(f"{where} final_decision", repr(decision)[:60], "yes, no or maybe")
        context = " ".join(str(paragraph).strip() for paragraph in contexts)
        if test is None:
            name = _name("pubmedqa", path)
        else:
            name = "pubmedqa.jsonl" if pmid in test else "pubmedqa.train.jsonl"
        yield name, Row(pmid, query, decision, DECISIONS, DECISIONS.index(decision), context)


def _medqa(path: Path) -> Found:
    for number, fields in read_jsonl(path):
        options = _field(f"{path} line {number}", fields, "options", dict)
        yield _medqa_row(path, f"{path} line {number}", number, fields, options)


def _medqa_tsv(path: Path) -> Found:
    rows = csv.DictReader(io.StringIO(read_text(path), newline=""), delimiter="\t")
    for number, fields in enumerate(rows, start=1):
        where = f"{path} row {number}"
        yield _medqa_row(path, where, number, fields, _options_of(where, fields.get("options")))


def _options_of(where: str, text: str | None) -> dict[str, str]:
    """{"A": ...} from a Python list of {'key': 'A', 'value': ...}, read as a literal and never run."""
    expected = "a list of {'key': letter, 'value': text}"
    if not text or len(text) > MAX_OPTIONS_TEXT:
        raise InputError(f"{where} options", f"{len(text or '')} characters", expected)
    try:
        listed = ast.literal_eval(text)
        if not isinstance(listed, list) or not listed:
            raise TypeError("no list")
        return {option["key"]: option["value"] for option in listed}
    except (ValueError, SyntaxError, TypeError, KeyError, MemoryError, RecursionError) as error:
        raise InputError(f"{where} options", repr(text[:40]), expected) from error


def _medqa_row(
    path: Path, where: str, number: int, fields: dict[str, Any], options: dict[str, str]
) -> tuple[str, Row]:
    texts = list(options.values())
    letters = [letter(index) for index in range(len(options))]
    if len(options) not in (4, 5) or list(options) != letters or not all(isinstance(t, str) for t in texts):
        raise InputError(f"{where} options", f"{list(options)}", "texts under A to D or A to E")
    gold = _field(where, fields, "answer_idx", str)
    if gold not in options:
        raise InputError(f"{where} answer_idx", repr(gold)[:60], f"one of {', '.join(letters)}")
    name = _name("medqa" if len(options) == 5 else "medqa_4", path)
    query = _field(where, fields, "question", str).strip()
    return name, Row(f"{path.stem}-{number:05d}", query, gold, tuple(texts), letters.index(gold))


def _medmcqa(path: Path) -> Found:
    name = _name("medmcqa", path, test_words=("dev", "test"))
    for number, fields in read_jsonl(path):
        where = f"{path} line {number}"
        if fields.get("cop") is None:
            yield name, None
            continue
        gold = _field(where, fields, "cop", int) - 1
        if not 0 <= gold < 4:
            raise InputError(f"{where} cop", str(gold + 1), "1 to 4")
        choices = tuple(_field(where, fields, f"op{which}", str) for which in "abcd")
        query = _field(where, fields, "question", str).strip()
        yield name, Row(_field(where, fields, "id", str), query, letter(gold), choices, gold)


def _field(where: str, fields: dict[str, Any], name: str, kind: type) -> Any:
    if not isinstance(fields, dict) or name not in fields:
        raise InputError(where, f"no field {name!r}", f"a {kind.__name__} of that name")
    if not isinstance(fields[name], kind) or isinstance(fields[name], bool):
        raise InputError(f"{where} {name}", repr(fields[name])[:60], f"a {kind.__name__}")
    return fields[name]
