"""Scores with their 95% confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist

import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 2000


@dataclass(frozen=True)
class Outcome:
    """One question's right label, and the label read from the model's answer; None where none could be."""

    gold: str
    parsed: str | None


@dataclass(frozen=True)
class Estimate:
    """A score from 0 to 1 with the ends of its 95% confidence interval.

    Args:
        value: the score.
        low, high: the interval's ends.
        n: questions.
        unparsed: how many of them had an answer no label could be read from; they count as wrong.
    """

    value: float
    low: float
    high: float
    n: int
    unparsed: int

    def to_json(self) -> dict[str, float]:
        """As metrics.json holds it."""
        return asdict(self)


def accuracy(outcomes: Sequence[Outcome]) -> Estimate:
    """Share of right answers, with Wilson's interval (Wilson 1927, JASA 22:209; without continuity correction)."""
    n = len(outcomes)
    share = sum(outcome.parsed == outcome.gold for outcome in outcomes) / n
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low = 0.0 if share == 0 else centre - half
    high = 1.0 if share == 1 else centre + half
    return Estimate(share, low, high, n, _unparsed(outcomes))


def macro_f1(outcomes: Sequence[Outcome], seed: int = 0) -> Estimate:
    """Mean over labels of F1, with a bootstrap percentile interval (Efron 1979).

    The labels are those that are right for some question, as in the paper's evaluation: an unparsed answer is a
    label of its own, which is right for none, so it costs its question's label recall and no label precision.

    Args:
        outcomes: at least one.
        seed: of the resampling.
    """
    counts = _confusion(outcomes)
    value = float(_macro_f1(counts[None])[0])
    # Resampling questions and counting the pairs is the same as drawing the counts of pairs.
    shares = counts.ravel() / counts.sum()
    drawn = np.random.default_rng(seed).multinomial(len(outcomes), shares, size=RESAMPLES)
    scores = _macro_f1(drawn.reshape(RESAMPLES, *counts.shape))
    low, high = np.quantile(scores, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(value, float(low), float(high), len(outcomes), _unparsed(outcomes))


METRICS: dict[str, Callable[[Sequence[Outcome]], Estimate]] = {"accuracy": accuracy, "macro_f1": macro_f1}


def _unparsed(outcomes: Sequence[Outcome]) -> int:
    return sum(outcome.parsed is None for outcome in outcomes)


def _confusion(outcomes: Sequence[Outcome]) -> np.ndarray:
    """int [labels, labels + 1]: questions by right label and read label; the last column is any other reading."""
    labels = sorted({outcome.gold for outcome in outcomes})
    place = {label: index for index, label in enumerate(labels)}
    counts = np.zeros((len(labels), len(labels) + 1), np.int64)
    for outcome in outcomes:
        read = len(labels) if outcome.parsed is None else place.get(outcome.parsed, len(labels))
        counts[place[outcome.gold], read] += 1
    return counts


def _macro_f1(counts: np.ndarray) -> np.ndarray:
    """Macro-F1 of each confusion matrix of [samples, labels, labels + 1]; a label with no counts scores 0."""
    right = np.diagonal(counts, axis1=1, axis2=2)
    total = counts.sum(axis=2) + counts.sum(axis=1)[:, :-1]  # gold + predicted = 2 tp + fn + fp
    return np.mean(2 * right / np.maximum(total, 1), axis=1)
