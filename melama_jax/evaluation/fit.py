"""Prompts made to fit the model: what is left out is chosen, and counted, never cut without a word."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from melama_jax.errors import InputError
from melama_jax.evaluation.prompts import Template, build_prompt
from melama_jax.evaluation.rows import Row
from melama_jax.evaluation.tasks import Task


@dataclass(frozen=True)
class FittedPrompt:
    """A prompt as it is put, and whether anything was left out of it to fit."""

    text: str
    shortened: bool


def fit_prompt(
    task: Task,
    template: Template,
    row: Row,
    examples: Sequence[Row],
    room: int,
    count: Callable[[str], int],
) -> FittedPrompt:
    """The row's prompt in at most `room` tokens.

    Too long, it first loses its examples, one at a time from the front; then words of the row's context from
    its end (or, in a row without context, of its query from the end that task.cut names).

    Args:
        task: what is asked.
        template: how.
        row: the question.
        examples: answered before it.
        room: tokens there are.
        count: tokens of a prompt, everything the model puts around it included.

    Raises:
        InputError: it does not fit even with one word left.
    """
    for dropped in range(len(examples) + 1):
        text = build_prompt(task, template, row, examples[dropped:])
        if count(text) <= room:
            return FittedPrompt(text, shortened=dropped > 0)

    def with_words(kept: int) -> str:
        return build_prompt(task, template, _with_words(task, row, kept))

    fewest, most = 1, len((row.context or row.query).split())
    if count(with_words(fewest)) > room:
        raise InputError(
            f"{task.name} {row.id}",
            f"a prompt of {count(with_words(fewest))} tokens with its text cut to one word",
            f"at most {room}: a longer model, or fewer new tokens",
        )
    while most - fewest > 1:  # fewest fits, most does not
        middle = (fewest + most) // 2
        fewest, most = (middle, most) if count(with_words(middle)) <= room else (fewest, middle)
    return FittedPrompt(with_words(fewest), shortened=True)


def _with_words(task: Task, row: Row, kept: int) -> Row:
    if row.context:
        return dataclasses.replace(row, context=" ".join(row.context.split()[:kept]))
    words = row.query.split()
    return dataclasses.replace(
        row, query=" ".join(words[len(words) - kept :] if task.cut == "start" else words[:kept])
    )
