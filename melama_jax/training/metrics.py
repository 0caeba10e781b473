"""Where a run's numbers go: metrics.jsonl and TensorBoard events in the run folder."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import (  # names that protobuf makes on import
    Event,  # pyright: ignore[reportAttributeAccessIssue]
    SessionLog,  # pyright: ignore[reportAttributeAccessIssue]
)
from tensorboardX.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]

from melama_jax import files


class Silent:
    """The log of every process of a pod but the first: takes rows and writes nothing."""

    def write(self, step: int, numbers: dict[str, float]) -> None:
        """Does nothing."""

    def note(self, step: int, row: Mapping[str, Any]) -> None:
        """Does nothing."""

    def rewind(self, step: int) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""


class MetricsLog(Silent):
    """Appends rows of numbers under a step.

    A resumed run drops the rows after the step it resumes from, so that no step stands there twice. On a mounted bucket
    a row is there once it is written; TensorBoard's file only when the process ends.

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
        self.close()
        self._drop_after(step, keep_notes=True)
        self._board = _Board(self._directory / "tensorboard", step)

    def close(self) -> None:
        """Closes TensorBoard's file."""
        self._board.close()

    def _append(self, row: Mapping[str, Any]) -> None:
        """Opens and closes the file for each row: a mounted bucket has none of a file that is still open."""
        with self._path.open("r+", encoding="utf-8") as file:  # and makes none where the folder was unmounted
            file.seek(0, 2)
            file.write(json.dumps(row) + "\n")

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

    SummaryWriter's own thread dies unseen on a full disk, and then whoever adds to its queue waits for ever.

    Args:
        directory: of the event files.
        resumed_step: points of earlier files after this step are hidden.
    """

    def __init__(self, directory: Path, resumed_step: int):
        directory.mkdir(parents=True, exist_ok=True)
        # Event files are named by the second: without a suffix a run resumed within it would overwrite the earlier.
        self._writer = EventsWriter(str(directory / "events"), f".from-{resumed_step}")
        start = SessionLog(status=SessionLog.START)
        self._writer.write_event(Event(wall_time=time.time(), step=resumed_step + 1, session_log=start))

    def write(self, step: int, numbers: dict[str, float]) -> None:
        points = [Summary.Value(tag=name, simple_value=number) for name, number in numbers.items()]
        self._writer.write_event(Event(wall_time=time.time(), step=step, summary=Summary(value=points)))
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()
