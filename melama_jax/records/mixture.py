"""Which pool the k-th record of a mixture comes from, and what share of the tokens each pool then delivers.

A pool is all training records of one domain. Pools are interleaved record by record in fixed proportions, so
that after any number of records each pool stands within a record or two of its share.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_SCALE = 2**32  # integer weights this fine put shares within 1e-9 of those asked for
_PASS_DISTANCE = 0.0005
_PASS_SEARCH = 10_000


@dataclass(frozen=True)
class Pool:
    """How much one domain holds: its training records and the tokens in them that are not padding."""

    records: int
    tokens: int


@dataclass(frozen=True)
class Interleave:
    """An endless interleaving of pools in proportion to integer weights.

    Nested Beatty sequences, the scheme of Grain's own `mix`, kept in exact integers (Grain rounds its weights
    to about one percent of the smallest).

    Args:
        weights: positive integers, one a pool; records come in these proportions.
    """

    weights: tuple[int, ...]

    def __post_init__(self):
        if not self.weights or min(self.weights) < 1:
            raise ValueError(f"weights {self.weights}: at least one, all positive")

    def counts(self, records: int) -> tuple[int, ...]:
        """How many of the first `records` records come from each pool."""
        counts, left, remaining = [], records, sum(self.weights)
        for weight in self.weights:
            after = left * (remaining - weight) // remaining
            counts.append(left - after)
            left, remaining = after, remaining - weight
        return tuple(counts)

    def slot(self, k: int) -> tuple[int, int]:
        """(pool, index within that pool's endless sequence) of record `k`, counted from 0."""
        left, left_next, remaining = k, k + 1, sum(self.weights)
        for pool, weight in enumerate(self.weights):
            after = left * (remaining - weight) // remaining
            after_next = left_next * (remaining - weight) // remaining
            if left_next - after_next != left - after:
                return pool, left - after
            left, left_next, remaining = after, after_next, remaining - weight
        raise AssertionError("unreachable: the last pool takes what is left")

    def records_until(self, wanted: Sequence[int]) -> int:
        """The smallest number of records that holds at least `wanted[i]` of every pool i."""
        total = sum(self.weights)
        low = 0
        slack = len(self.weights)  # each level of the nesting rounds by less than one record
        high = max(math.ceil((n + slack) * total / w) for n, w in zip(wanted, self.weights, strict=True))
        while low < high:
            middle = (low + high) // 2
            if all(n >= m for n, m in zip(self.counts(middle), wanted, strict=True)):
                high = middle
            else:
                low = middle + 1
        return low


def interleave(
    pools: Mapping[str, Pool], rates: Mapping[str, float] | None
) -> tuple[tuple[str, ...], Interleave]:
    """The domains that take part, in the order of `pools`, and how they interleave.

    Args:
        pools: domain -> Pool; those without records take no part.
        rates: domain -> relative share of the *tokens*: records are weighted by rate over tokens a record, so
            that padding does not distort the shares. None: as they come, every record once a pass.
    """
    if rates is None:
        names = tuple(name for name, pool in pools.items() if pool.records)
        return names, Interleave(tuple(pools[name].records for name in names))
    names = tuple(name for name, pool in pools.items() if pool.records and rates.get(name, 0) > 0)
    weights = [rates[name] * pools[name].records / pools[name].tokens for name in names]
    total = sum(weights)
    return names, Interleave(tuple(max(1, round(weight / total * _SCALE)) for weight in weights))


def asked_shares(pools: Mapping[str, Pool], rates: Mapping[str, float] | None) -> dict[str, float]:
    """domain -> share of the tokens asked for, summing to 1; with no rates, what the pools hold."""
    asked = {
        name: float(pool.tokens if rates is None else rates.get(name, 0)) for name, pool in pools.items()
    }
    total = sum(asked.values())
    return {name: value / total for name, value in asked.items()} if total else asked


def delivered_tokens(
    pools: Mapping[str, Pool], rates: Mapping[str, float] | None, records: int
) -> dict[str, float]:
    """domain -> tokens within the first `records` records of the mixture.

    Exact over whole epochs of a pool; a part of an epoch counts the pool's mean tokens a record, since which
    records it holds depends on the seed.
    """
    names, mix = interleave(pools, rates)
    counts = dict(zip(names, mix.counts(records), strict=True))
    return {name: counts.get(name, 0) * pool.tokens / max(pool.records, 1) for name, pool in pools.items()}


def pass_records(pools: Mapping[str, Pool], rates: Mapping[str, float] | None) -> int:
    """How many records one pass over the mixture takes.

    A pass goes on until every record of every domain taking part was seen and the shares of the tokens stand
    within 0.05 point of those asked for. Records are whole, so on small data the second may take longer than
    the first; if it takes too long, the pass ends where shares stood nearest.
    """
    names, mix = interleave(pools, rates)
    first = mix.records_until([pools[name].records for name in names])
    asked = asked_shares(pools, rates)

    def distance(records: int) -> float:
        tokens = delivered_tokens(pools, rates, records)
        total = sum(tokens.values())
        return max(abs(tokens[name] / total - asked[name]) for name in names)

    ends = range(first, first + _PASS_SEARCH)
    return next((end for end in ends if distance(end) <= _PASS_DISTANCE), None) or min(ends, key=distance)
