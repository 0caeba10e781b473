"""What a run does about hosts that stay away, die, hang or lag, and about batches that would spoil it. Plain data."""

from __future__ import annotations

from dataclasses import dataclass

from melama_jax.errors import InputError
from melama_jax.fields import require_types

POLICIES = ("skip", "rollback", "stop")


@dataclass(frozen=True)
class HostWatch:
    """How long the hosts of one run wait for each other; read where there are several.

    Args:
        join_within: seconds for every host to come, counted from each one's own start.
        dead_after: seconds of silence after which a host counts as dead. One whose process ends is noticed at once;
            this is for machines and networks that go without a word.
        hung_after: seconds without a new batch after which the host that took the fewest counts as hung. Must exceed
            what compiling, the longest held-out pass and the longest save take.
        slow_factor: a host that waits this many times longer than the median host for its data, three log intervals
            in a row, is named; 0 names none.
    """

    join_within: float = 300.0
    dead_after: float = 60.0
    hung_after: float = 1800.0
    slow_factor: float = 3.0

    def __post_init__(self) -> None:
        require_types(self)
        for name in ("join_within", "dead_after", "hung_after"):
            if not getattr(self, name) > 0:
                raise InputError(f"HostWatch.{name}", repr(getattr(self, name)), "seconds above 0")
        if not (self.slow_factor == 0 or self.slow_factor > 1):
            raise InputError("HostWatch.slow_factor", repr(self.slow_factor), "0 or a number above 1")


@dataclass(frozen=True)
class BadBatches:
    """What a run does about a batch whose loss or gradient is not finite, or whose loss jumps up.

    The update of such a batch is never applied: weights, moments and the step stay as they were, and the next batch
    is read. A jump is a loss above its running mean by more than `spike` running standard deviations.

    Args:
        policy: `skip` goes on with the next batch; `rollback` also returns to the newest checkpoint (to the start
            where there is none) and goes on from there with the batches after the bad one; `stop` ends the run.
        spike: standard deviations; 0 leaves jumps alone.
        memory: steps over which running mean and deviation forget; no jump is called before so many good ones.
        in_a_row: so many bad batches, or returns to the same checkpoint, one after the other end the run.
    """

    policy: str = "skip"
    spike: float = 6.0
    memory: int = 100
    in_a_row: int = 10

    def __post_init__(self) -> None:
        require_types(self)
        if self.policy not in POLICIES:
            raise InputError("BadBatches.policy", repr(self.policy), f"one of {', '.join(POLICIES)}")
        if not self.spike >= 0:
            raise InputError("BadBatches.spike", repr(self.spike), "0 or a number above")
        for name in ("memory", "in_a_row"):
            if getattr(self, name) < 1:
                raise InputError(f"BadBatches.{name}", repr(getattr(self, name)), "a whole number above 0")
