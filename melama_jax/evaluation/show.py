"""Scores and progress for a terminal."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from melama_jax.evaluation import results
from melama_jax.evaluation.metrics import Estimate


def table(metrics: Mapping[str, Mapping[str, Estimate]]) -> str:
    """Task, metric, value with its 95% interval, questions, unparsed answers: one line each."""
    lines = [f"{'task':<10} {'metric':<10} {'value':>6}  {'95% interval':<15} {'n':>6} {'unparsed':>8}"]
    for task, estimates in metrics.items():
        for name, e in estimates.items():
            interval = f"{e.low:.3f} to {e.high:.3f}"
            lines.append(f"{task:<10} {name:<10} {e.value:>6.3f}  {interval:<15} {e.n:>6} {e.unparsed:>8}")
    return "\n".join(lines)


@contextlib.contextmanager
def progress_shown() -> Iterator[results.Progress]:
    """A progress callback: a bar on a terminal, plain lines on standard error elsewhere."""
    if not sys.stderr.isatty():
        yield lambda task, done, total: print(f"{task}: {done}/{total}", file=sys.stderr, flush=True)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        bars: dict[str, int] = {}

        def show(task: str, done: int, total: int) -> None:
            if task not in bars:
                bars[task] = int(bar.add_task(task, total=total))
            bar.update(bars[task], completed=done)  # pyright: ignore[reportArgumentType]

        yield show
