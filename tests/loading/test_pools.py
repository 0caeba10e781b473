"""The order records come in: a permutation anew each epoch, Grain's own."""

from __future__ import annotations

import grain
from hypothesis import given
from hypothesis import strategies as st

from melama_jax.loading.pools import shuffled


@given(st.integers(1, 2**31), st.integers(0, 2**32 - 1), st.integers(0, 2**40))
def test_the_order_is_that_of_grains_shuffled_dataset(length, seed, drawn):
    dataset = grain.MapDataset.range(length).shuffle(seed=seed).repeat()
    assert shuffled(drawn, length, seed) == dataset[drawn]


@given(st.integers(1, 300), st.integers(0, 2**32 - 1), st.integers(0, 2**33))
def test_every_element_comes_once_an_epoch(length, seed, epoch):
    order = [shuffled(epoch * length + position, length, seed) for position in range(length)]
    assert sorted(order) == list(range(length))
