"""Where a run's numbers go: metrics.jsonl and TensorBoard events in the run folder."""

from __future__ import annotations

import json
from pathlib import Path

from tensorboardX import SummaryWriter

from melama_jax import files


class Silent:
    """The log of every process of a pod but the first: takes rows and writes nothing."""

    def write(self, step: int, numbers: dict[str, float]) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""


class MetricsLog(Silent):
    """Appends rows of numbers under a step.

    A resumed run drops the rows after the step it resumes from, so that no step stands there twice.

    Args:
        directory: the run folder.
        resumed_step: the step the run starts or resumes from.
    """

    def __init__(self, directory: Path, resumed_step: int):
        self._path = directory / "metrics.jsonl"
        if self._path.exists():
            self._drop_after(resumed_step)
        self._file = self._path.open("a", encoding="utf-8")
        # Event files are named by the second: without a suffix a run resumed within it would overwrite the earlier.
        self._board = SummaryWriter(
            str(directory / "tensorboard"),
            purge_step=resumed_step + 1,
            filename_suffix=f".from-{resumed_step}",
        )

    def write(self, step: int, numbers: dict[str, float]) -> None:
        """One JSON line {"step": ..., name: number, ...} and one TensorBoard point a name."""
        self._file.write(json.dumps({"step": step, **numbers}) + "\n")
        self._file.flush()
        for name, number in numbers.items():
            self._board.add_scalar(name, number, step)

    def close(self) -> None:
        """Flushes and closes both."""
        self._file.close()
        self._board.close()

    def _drop_after(self, step: int) -> None:
        kept = []
        for line in self._path.read_text(encoding="utf-8").splitlines():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                continue  # the last line of a killed run may be cut short
            if row["step"] <= step:
                kept.append(line)
        files.write_text(self._path, "".join(line + "\n" for line in kept))
