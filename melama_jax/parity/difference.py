"""How far two models' logits lie apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

TOLERANCE = 1e-4  # of the largest logit's size: what float32's rounding may add up to in two programs


@dataclass(frozen=True)
class Difference:
    """Two models' logits on the same prompts.

    Args:
        largest: the largest absolute difference of two logits.
        scale: the largest absolute logit of the first.
        same_choice: places where both give the highest logit to the same token, as greedy decoding picks it.
        places: places compared.
    """

    largest: float
    scale: float
    same_choice: int
    places: int

    @property
    def tight(self) -> bool:
        """Whether rounding in float32 explains it; no where a logit is not a number."""
        return self.largest <= TOLERANCE * self.scale


def difference(first: np.ndarray, second: np.ndarray) -> Difference:
    """Of two float32 [prompts, tokens, vocab]."""
    same = first.argmax(-1) == second.argmax(-1)
    return Difference(
        largest=float(np.abs(first - second).max()),
        scale=float(np.abs(first).max()),
        same_choice=int(same.sum()),
        places=same.size,
    )
