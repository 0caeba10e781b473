"""report.html of an evaluation: the scores, how they were asked for, and answers to look at."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from pathlib import Path

from melama_jax.evaluation.predictions import Prediction
from melama_jax.evaluation.results import Evaluation
from melama_jax.evaluation.tasks import TASKS
from melama_jax.files import write_text

SHOWN = 5  # answers shown a task
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse } th, td { padding: .25rem .75rem; border-bottom: 1px solid #ddd; text-align: left }
td.number { text-align: right; font-variant-numeric: tabular-nums }
pre { white-space: pre-wrap; background: #f6f6f4; padding: .75rem; font-size: .85rem }
"""


def write_report(path: str | Path, result: Evaluation, name: str) -> None:
    """Writes one page that reads offline. `name` is the model's."""
    body = [f"<h1>Evaluation of {_text(name or 'a model')}</h1>", _how(result), _scores(result)]
    if result.perplexity:
        body.append(_perplexity(result))
    body += [_answers(task, predictions) for task, predictions in result.predictions.items()]
    head = f'<html lang="en">\n<meta charset="utf-8">\n<title>Evaluation</title>\n<style>{_STYLE}</style>\n'
    write_text(path, "<!doctype html>\n" + head + "\n".join(body) + "\n</html>\n")


def _how(result: Evaluation) -> str:
    settings = result.settings
    how = (
        f"Answers are read by the <b>{settings.scorer}</b> scorer from greedy text of at most "
        f"{settings.max_new_tokens} tokens."
        if settings.by == "generation"
        else "The likeliest of the labels is taken as the answer."
    )
    examples = f"{settings.shots} examples (seed {settings.seed})" if settings.shots else "no examples"
    chat = "inside the checkpoint's chat template" if settings.chat else "without a chat template"
    limit = f" Only the first {settings.max_examples} of each task." if settings.max_examples else ""
    return f"<p>{how} Questions are put with {examples}, {chat}.{limit}</p>"


def _scores(result: Evaluation) -> str:
    rows = []
    for task, estimates in result.metrics_json().items():
        for metric, e in estimates.items():
            interval = f"{e['low']:.3f} to {e['high']:.3f}"
            cells = (TASKS[task].title, metric.replace("_", " "), f"{e['value']:.3f}", interval)
            rows.append((*cells, f"{e['n']:,}", f"{e['unparsed']:,}", f"{e['shortened']:,}"))
    head = ("task", "metric", "value", "95% interval", "questions", "unparsed", "shortened")
    note = (
        "<p>Unparsed: answers no label could be read from; they count as wrong. Shortened: questions whose "
        "prompt was cut to fit the model. Accuracy has Wilson's interval, macro-F1 a bootstrap interval.</p>"
    )
    return "<h2>Scores</h2>" + _table(head, rows, numbers_from=2) + note


def _perplexity(result: Evaluation) -> str:
    rows = [(domain, f"{p.value:.2f}", f"{p.tokens:,}") for domain, p in result.perplexity.items()]
    return "<h2>Perplexity on held-out text</h2>" + _table(
        ("domain", "perplexity", "tokens"), rows, numbers_from=1
    )


def _answers(task: str, predictions: Sequence[Prediction]) -> str:
    parts = [f"<h2>{_text(TASKS[task].title)}: what was asked and answered</h2>"]
    for prediction in predictions[:SHOWN]:
        read = "nothing" if prediction.parsed is None else prediction.parsed
        said = f"read as {_text(read)}, right is {_text(prediction.gold)}"
        parts.append(
            f"<details{' open' if prediction is predictions[0] else ''}><summary>{_text(prediction.id)}: {said}"
            f"{', prompt shortened' if prediction.shortened else ''}</summary>"
            f"<p>Prompt</p><pre>{_text(prediction.prompt)}</pre>"
            f"<p>Answer</p><pre>{_text(prediction.text)}</pre></details>"
        )
    return "\n".join(parts)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers_from: int) -> str:
    cells = "".join(f"<th>{_text(name)}</th>" for name in head)
    lines = [f"<tr>{cells}</tr>"]
    for row in rows:
        kinds = ["" if place < numbers_from else ' class="number"' for place in range(len(row))]
        cells = "".join(f"<td{kind}>{_text(cell)}</td>" for kind, cell in zip(kinds, row, strict=True))
        lines.append(f"<tr>{cells}</tr>")
    return "<table>" + "\n".join(lines) + "</table>"


def _text(text: str) -> str:
    return html.escape(text)
