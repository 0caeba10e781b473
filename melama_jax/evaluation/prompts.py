"""Prompts: pieces of wording as data, put together so that a page can show exactly what was asked.

The wording is ours; the shape (what to do, how to reply, examples, the question) follows the prompts of the
Me-LLaMA group (github.com/BIDS-Xu-Lab/Biomedical-NLP-Benchmarks).
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from melama_jax.errors import InputError
from melama_jax.evaluation.rows import Row
from melama_jax.files import read_json

if TYPE_CHECKING:
    from melama_jax.evaluation.tasks import Task


@dataclass(frozen=True)
class Template:
    """The wording of a task. A prompt is

        instruction, blank line, [example, blank line, ...] question

    where a question is the lines context (if the row has one), query, options (if they are to be listed) and
    answer, and an example is the same with the right answer behind it.

    Args:
        instruction: what to do; {labels} becomes the row's labels, "A, B, C or D". "" leaves it out.
        query: holds {query}.
        context: holds {context}.
        option: one line an option; holds {label} and {text}.
        answer: what the answer follows.
    """

    instruction: str
    query: str = "Question: {query}"
    context: str = "Context: {context}"
    option: str = "{label}. {text}"
    answer: str = "Answer:"

    @classmethod
    def override(cls, template: Template, fields: Any, where: str) -> Template:
        """`template` with some pieces replaced; InputError names a piece or a place in it that is wrong."""
        places = {"query": ("{query}",), "context": ("{context}",), "option": ("{label}", "{text}")}
        names = [field.name for field in dataclasses.fields(cls)]
        if not isinstance(fields, dict):
            raise InputError(where, f"a JSON {type(fields).__name__}", f"an object of {', '.join(names)}")
        for name, text in fields.items():
            if name not in names:
                raise InputError(where, f"a piece {name!r}", f"pieces among {', '.join(names)}")
            if not isinstance(text, str):
                raise InputError(f"{where} {name}", repr(text)[:60], "a text")
            for place in places.get(name, ()):
                if place not in text:
                    raise InputError(f"{where} {name}", repr(text)[:60], f"a text with {place} in it")
        return dataclasses.replace(template, **fields)


def read_templates(path: str | Path | None, tasks: Sequence[Task]) -> dict[str, Template]:
    """Task name -> template, with the replacements of a JSON file {task: {piece: text}} where one is given."""
    templates = {task.name: task.template for task in tasks}
    if path is None:
        return templates
    replaced = read_json(path)
    if not isinstance(replaced, dict):
        raise InputError(path, f"a JSON {type(replaced).__name__}", "an object: task -> pieces of its prompt")
    for name, fields in replaced.items():
        if name not in templates:
            raise InputError(path, f"a task {name!r}", f"tasks of this run: {', '.join(templates)}")
        templates[name] = Template.override(templates[name], fields, f"{path} {name}")
    return templates


def build_prompt(task: Task, template: Template, row: Row, examples: Sequence[Row] = ()) -> str:
    """The whole prompt of a row; it ends where the answer starts."""
    blocks = [_fill(template.instruction, labels=_listed(task.labels(row.choices)))]
    for example in examples:
        blocks.append(f"{_question(task, template, example)} {task.labels(example.choices)[example.gold]}")
    blocks.append(_question(task, template, row))
    return "\n\n".join(block for block in blocks if block)


def choose_examples(pool: Sequence[Row], row: Row, shots: int) -> list[Row]:
    """The first `shots` rows of the pool that are not the question itself, by id or by words.

    Raises:
        InputError: the pool has too few.
    """
    chosen = list(itertools.islice((other for other in pool if not _same(other, row)), shots))
    if len(chosen) < shots:
        raise InputError("--shots", str(shots), f"at most the {len(chosen)} training questions there are")
    return chosen


def _same(one: Row, other: Row) -> bool:
    return one.id == other.id or one.query.split() == other.query.split()


def _question(task: Task, template: Template, row: Row) -> str:
    lines = [_fill(template.context, context=row.context)] if row.context else []
    lines.append(_fill(template.query, query=row.query))
    for label, text in zip(task.labels(row.choices), task.options(row.choices), strict=False):
        lines.append(_fill(template.option, label=label, text=text))
    return "\n".join([*lines, template.answer])


def _listed(labels: Sequence[str]) -> str:
    return f"{', '.join(labels[:-1])} or {labels[-1]}"


def _fill(piece: str, **values: str) -> str:
    """Puts values into their {places}, all in one pass: braces inside a value stay as they are."""
    return re.sub(r"\{(\w+)\}", lambda place: values.get(place[1], place[0]), piece)
