"""Where a run's numbers go: metrics.jsonl and TensorBoard events in the run folder."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from tensorboard.compat.proto.event_pb2 import (  # names that protobuf makes on import
    Event,  # pyright: ignore[reportAttributeAccessIssue]
    SessionLog,  # pyright: ignore[reportAttributeAccessIssue]
)
from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]
from tensorboard.summary.writer.record_writer import RecordWriter

from melama_jax import files


class Silent:
    """The log of every process of a pod but the first: takes rows and writes nothing."""

    def write(self, step: int, numbers: dict[str, float]) -> None:
        """Does nothing."""

    def note(self, step: int, row: Mapping[str, Any]) -> None:
        """Does nothing."""

    def rewind(self, step: int) -> None:
        """Does nothing."""


class MetricsLog(Silent):
    """Appends rows of numbers under a step.

    A resumed run drops the rows after the step it resumes from, so that no step stands there twice. On a mounted bucket
    a row, and its points, are there once they are written.

    Args:
        directory: the run folder.
        resumed_step: the step the run starts or resumes from.
    """

    def __init__(self, directory: Path, resumed_step: int):
        self._directory, self._path = directory, directory / "metrics.jsonl"
        if self._path.exists():
            self._drop_after(resumed_step)
        self._path.touch()
        self._board = _Board(directory / "tensorboard", resumed_step)

    def write(self, step: int, numbers: dict[str, float]) -> None:
        """One JSON line {"step": ..., name: number, ...} and one TensorBoard point a name; OSError if it fails."""
        self._append({"step": step, **numbers})
        self._board.write(step, numbers)

    def note(self, step: int, row: Mapping[str, Any]) -> None:
        """A JSON line that is no point of a curve: it may hold texts and lists."""
        self._append({"step": step, **row})

    def rewind(self, step: int) -> None:
        """The run is back at an earlier step: drops the numbers after it; notes stay, they say why."""
        self._drop_after(step, keep_notes=True)
        self._board = _Board(self._directory / "tensorboard", step)

    def _append(self, row: Mapping[str, Any]) -> None:
        with _at_end(self._path) as file:
            file.write(json.dumps(row).encode() + b"\n")

    def _drop_after(self, step: int, keep_notes: bool = False) -> None:
        kept = []
        for line in self._path.read_text(encoding="utf-8").splitlines():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                continue  # the last line of a killed run may be cut short
            if row["step"] <= step or (keep_notes and "documents" in row):
                kept.append(line)
        files.write_text(self._path, "".join(line + "\n" for line in kept))


class _Board:
    """A TensorBoard event file, written in this thread.

    TensorBoard's own writer has a thread that dies unseen on a full disk, and then whoever adds to its queue waits for
    ever; PyTorch's and tensorboardX's bring PyTorch along, three seconds of a start.

    Args:
        directory: of the event files.
        resumed_step: points of earlier files after this step are hidden.
    """

    def __init__(self, directory: Path, resumed_step: int):
        directory.mkdir(parents=True, exist_ok=True)
        # Named by the second, as TensorBoard orders them, and by the step: a run may resume within it.
        name = f"events.out.tfevents.{time.time():010.0f}.{socket.gethostname()}.from-{resumed_step}"
        self._path = directory / name
        self._path.touch()
        start = SessionLog(status=SessionLog.START)
        self._append(Event(file_version="brain.Event:2"))
        self._append(Event(step=resumed_step + 1, session_log=start))

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        points = [Summary.Value(tag=name, simple_value=number) for name, number in numbers.items()]
        self._append(Event(step=step, summary=Summary(value=points)))

    def _append(self, event: Any) -> None:
        event.wall_time = time.time()
        with _at_end(self._path) as file:
            RecordWriter(file).write(event.SerializeToString())


@contextmanager
def _at_end(path: Path) -> Iterator[BinaryIO]:
    """The file, opened and closed for each row: a mounted bucket has none of a file that is still open."""
    with path.open("r+b") as file:  # makes none where the folder was unmounted
        file.seek(0, os.SEEK_END)
        yield file
