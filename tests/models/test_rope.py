"""Rotary embedding: the TPU's way to turn pairs gives the very numbers of the plain one."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from melama_jax.models.rope import quarter_turn, quarter_turn_by_product


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
@pytest.mark.parametrize("head_dim", [2, 64, 96, 128])
def test_the_product_moves_halves_exactly(dtype, head_dim):
    x = jax.random.normal(jax.random.key(head_dim), (2, 3, 2, head_dim)).astype(dtype)
    expected = np.concatenate([-x[..., head_dim // 2 :], x[..., : head_dim // 2]], axis=-1)
    for turn in (quarter_turn, quarter_turn_by_product):
        found = turn(x)
        assert found.dtype == jnp.float32
        np.testing.assert_array_equal(found, expected.astype(np.float32))
