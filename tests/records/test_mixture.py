"""The interleaving: every pool's own sequence in order, shares right at any point, one pass as promised."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from melama_jax.records.mixture import (
    Interleave,
    Pool,
    asked_shares,
    delivered_tokens,
    interleave,
    pass_records,
)

WEIGHTS = st.lists(st.integers(1, 5000), min_size=1, max_size=5).map(tuple)


@given(WEIGHTS)
def test_slots_walk_every_pool_in_order_and_counts_agree(weights):
    mix = Interleave(weights)
    seen = [0] * len(weights)
    for k in range(200):
        assert mix.counts(k) == tuple(seen)
        pool, index = mix.slot(k)
        assert index == seen[pool]
        seen[pool] += 1


@given(WEIGHTS, st.integers(0, 10**9))
def test_counts_stay_within_one_record_a_level_of_the_share(weights, records):
    for count, weight in zip(Interleave(weights).counts(records), weights, strict=True):
        assert abs(count - records * weight / sum(weights)) <= len(weights)


@given(WEIGHTS, st.data())
def test_records_until_is_the_smallest(weights, data):
    wanted = [data.draw(st.integers(0, 300)) for _ in weights]
    mix = Interleave(weights)
    smallest = mix.records_until(wanted)
    assert all(count >= n for count, n in zip(mix.counts(smallest), wanted, strict=True))
    if smallest:
        assert any(count < n for count, n in zip(mix.counts(smallest - 1), wanted, strict=True))


def test_token_shares_are_what_was_asked_whatever_the_padding():
    pools = {"biomedical": Pool(100, 51_200), "clinical": Pool(30, 3_000), "general": Pool(10, 5_000)}
    rates = {"biomedical": 15.0, "clinical": 1.0, "general": 4.0}
    tokens = delivered_tokens(pools, rates, 1_000_000)
    total = sum(tokens.values())
    for name, share in asked_shares(pools, rates).items():
        assert tokens[name] / total == pytest.approx(share, abs=1e-5)


def test_a_pass_shows_every_record_and_ends_near_the_shares():
    pools = {
        "biomedical": Pool(211, 211 * 64),
        "clinical": Pool(9, 9 * 64 - 50),
        "general": Pool(40, 40 * 64),
    }
    rates = {"biomedical": 15.0, "clinical": 1.0, "general": 4.0}
    records = pass_records(pools, rates)
    names, mix = interleave(pools, rates)
    assert all(n >= pools[name].records for name, n in zip(names, mix.counts(records), strict=True))
    tokens = delivered_tokens(pools, rates, records)
    assert tokens["clinical"] / sum(tokens.values()) == pytest.approx(0.05, abs=0.001)
    assert tokens["biomedical"] / sum(tokens.values()) == pytest.approx(0.75, abs=0.001)


def test_without_rates_one_pass_is_every_record_once():
    pools = {"biomedical": Pool(7, 100), "clinical": Pool(0, 0), "general": Pool(12, 90)}
    assert pass_records(pools, None) == 19
    names, mix = interleave(pools, None)
    assert names == ("biomedical", "general")
    assert mix.counts(19) == (7, 12)


def test_a_rate_of_zero_drops_a_domain():
    pools = {"biomedical": Pool(7, 100), "general": Pool(12, 90)}
    assert interleave(pools, {"biomedical": 3, "general": 0})[0] == ("biomedical",)
