"""The training loop. What happens around a step is a hook's business."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from melama_jax.training.loss import Batch
from melama_jax.training.state import TrainState


@dataclass(frozen=True)
class StepEvent:
    """What a hook sees after a step.

    Args:
        step: optimizer steps done.
        state: the state after it.
        metrics: the step's metrics, still on the device: fetching them waits for the step.
        last: whether no step follows, because the run is complete or was told to stop.
    """

    step: int
    state: TrainState
    metrics: dict[str, Any]
    last: bool


class Hook(Protocol):
    """Something done around the steps: logging, evaluating, saving."""

    def after_step(self, event: StepEvent) -> None:
        """Called after every step, in the order the hooks were given."""
        ...


class Stop(Protocol):
    """Whether somebody asked the run to stop, so many batches into it; on every process after the same batch."""

    def __call__(self, batches: int) -> bool: ...


def run_loop(
    state: TrainState,
    train_step: Any,
    batches: Iterator[Batch],
    train_steps: int,
    hooks: Sequence[Hook],
    stop: Stop,
) -> TrainState:
    """Steps until `train_steps` or until `stop()`; returns the last state."""
    step, read = int(state.step), int(state.data_step)
    while step < train_steps:
        state, metrics = train_step(state, next(batches))
        step, read = step + 1, read + 1
        last = stop(read) or step == train_steps
        event = StepEvent(step, state, metrics, last)
        for hook in hooks:
            hook.after_step(event)
        if last:
            break
    return state
