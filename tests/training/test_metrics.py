"""The numbers of a run that was stopped and resumed: every step once, none lost."""

from __future__ import annotations

import json

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from melama_jax.training.metrics import MetricsLog


@pytest.mark.parametrize("resumed", [1, 3])
def test_resuming_drops_what_comes_after_the_step_and_nothing_else(tmp_path, resumed):
    for begins, ends, value in ((0, 5, 1.0), (resumed, 6, 2.0)):
        log = MetricsLog(tmp_path, begins)
        for step in range(begins + 1, ends + 1):
            log.write(step, {"loss": value})
    expected = {step: 1.0 if step <= resumed else 2.0 for step in range(1, 7)}
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert {row["step"]: row["loss"] for row in rows} == expected and len(rows) == len(expected)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert {event.step: event.value for event in events.Scalars("loss")} == expected
