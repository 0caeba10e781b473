"""The table of MIBE tasks: what each is called, how its answers look, how it is asked and scored.

MIBE is the benchmark of Me-LLaMA (Xie et al. 2024, arXiv 2402.12749). A task is added by adding its line here
and, where its answers are of a new kind, that kind's parser (parse.py) and metrics (metrics.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from melama_jax.errors import InputError
from melama_jax.evaluation.rows import letter
from melama_jax.evaluation.template import Template

Kind = Literal["letter", "word"]


@dataclass(frozen=True)
class Task:
    """One benchmark.

    Args:
        name: of its files, TASK.jsonl and TASK.train.jsonl, and in metrics.json.
        title: as pages write it.
        kind: how an answer is given: by the choice's letter, or by the choice's own word.
        choices: the words, or as many letters as rows have choices; read where a file of predictions has none.
        template: how a row is asked.
        metrics: names of metrics.METRICS.
        cut: the end a question without `context` may be shortened at: where the task's text stands, not its
            question. Clinical vignettes ask at their end, so they lose their start.
    """

    name: str
    title: str
    kind: Kind
    choices: tuple[str, ...]
    template: Template
    metrics: tuple[str, ...] = ("accuracy", "macro_f1")
    cut: Literal["start", "end"] = "start"

    def labels(self, choices: Sequence[str]) -> tuple[str, ...]:
        """What the model may answer, one a choice: ("A", "B", "C", "D"), ("yes", "no", "maybe")."""
        if self.kind == "letter":
            return tuple(letter(index) for index in range(len(choices)))
        return tuple(choices)

    def options(self, choices: Sequence[str]) -> tuple[str, ...]:
        """The choices that stand under letters; none where they are letters, listed in the query itself."""
        return tuple(choices) if self.kind == "letter" and tuple(choices) != self.labels(choices) else ()


_PUBMEDQA = Template(
    instruction=(
        "Below is the abstract of a biomedical study, followed by a research question. Decide what the "
        "abstract says to the question. Reply with one word ({labels}) and nothing else."
    ),
    context="Abstract: {context}",
)


def _exam(exam: str) -> Template:
    return Template(
        instruction=(
            f"Below is a question from {exam}, followed by its answer options. Exactly one option is right. "
            "Reply with the letter of that option ({labels}) and nothing else."
        )
    )


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task("pubmedqa", "PubMedQA", "word", ("yes", "no", "maybe"), _PUBMEDQA, cut="end"),
        Task("medqa", "MedQA", "letter", tuple("ABCDE"), _exam("a medical licensing examination")),
        Task(
            "medqa_4",
            "MedQA, four options",
            "letter",
            tuple("ABCD"),
            _exam("a medical licensing examination"),
        ),
        Task("medmcqa", "MedMCQA", "letter", tuple("ABCD"), _exam("a medical entrance examination")),
    )
}


def get_task(name: str) -> Task:
    """The task of that name; InputError names those there are."""
    if name not in TASKS:
        raise InputError("task", repr(name), f"one of {', '.join(TASKS)}")
    return TASKS[name]
