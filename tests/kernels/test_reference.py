"""Plain attention against float64 NumPy written row by row."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from melama_jax.kernels import reference
from melama_jax.kernels.attention import attention, cached_attention

# Compiled whole: one at a time, each operation of each drawn shape would be a program of its own.
at_once = jax.jit(attention, static_argnames="window")
cached_at_once = jax.jit(cached_attention, static_argnames="window")


def one_by_one(query, key, value, seen):
    """softmax(q.k / sqrt(d)) v for each query alone; `seen[b, i]` lists the slots query i may see."""
    out = np.zeros(query.shape)
    groups = query.shape[2] // key.shape[2]
    for b, i, h in np.ndindex(query.shape[:3]):
        slots = np.flatnonzero(seen[b, i])
        if len(slots):
            scores = key[b, slots, h // groups] @ query[b, i, h] / np.sqrt(query.shape[3])
            weights = np.exp(scores - scores.max())
            out[b, i, h] = (weights / weights.sum()) @ value[b, slots, h // groups]
    return out


@st.composite
def cases(draw):
    kv_heads, groups = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    batch, length, head_dim = draw(st.integers(1, 2)), draw(st.integers(1, 9)), draw(st.sampled_from([2, 8]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size = draw(st.sampled_from([1.0, 300.0]))  # large logits must not overflow
    query = size * rng.standard_normal((batch, length, kv_heads * groups, head_dim))
    key, value = (rng.standard_normal((batch, length, kv_heads, head_dim)) for _ in range(2))
    segments = np.sort(rng.integers(0, 4, (batch, length)), axis=1)
    return query, key, value, segments


@settings(max_examples=20, deadline=None)
@given(cases(), st.none() | st.integers(1, 10))
def test_causal_attention_within_segments_and_window(case, window):
    query, key, value, segments = case
    distance = np.arange(query.shape[1])[:, None] - np.arange(query.shape[1])
    near = (distance >= 0) & (distance < (window or query.shape[1]))
    seen = near & (segments[:, :, None] == segments[:, None, :])
    operands = (x.astype(np.float32) for x in (query, key, value))
    ours = at_once(*operands, segments, window=window)
    np.testing.assert_allclose(ours, one_by_one(query, key, value, seen), atol=2e-4)


@pytest.mark.parametrize("window", [1, 100, 127, 128])
def test_splash_is_given_the_same_window(window):
    """Its own mask, which its kernels follow, against the plain one."""
    from melama_jax.kernels.splash import mask_of

    np.testing.assert_array_equal(
        mask_of(256, window)[:, :], reference.causal_segment_mask(256, None, window)[0]
    )


@settings(max_examples=12, deadline=None)
@given(cases(), st.integers(1, 9), st.none() | st.integers(1, 10))
def test_cached_attention_sees_slots_up_to_its_position(case, slots, window):
    query, key, value, _ = case
    slots = min(slots, key.shape[1])
    key, value = key[:, :slots], value[:, :slots]
    positions = np.random.default_rng(0).integers(0, slots, query.shape[:2])
    distance = positions[:, :, None] - np.arange(slots)
    seen = (distance >= 0) & (distance < (window or slots))
    flat = (
        np.stack([0 * x, x]).reshape(2, len(x), slots, -1) for x in (key, value)
    )  # the second of two layers
    ours = cached_at_once(
        *(x.astype(np.float32) for x in (query, *flat)),
        positions,
        np.int32(1),
        window=window,
    )
    np.testing.assert_allclose(ours, one_by_one(query, key, value, seen), atol=2e-4)


def test_a_query_that_sees_nothing_gives_zeros_and_zero_gradients():
    rng = np.random.default_rng(0)
    query, key, value = (jnp.asarray(rng.standard_normal((1, 3, 2, 4)), jnp.float32) for _ in range(3))
    mask = jnp.asarray([[[True, False, False], [False] * 3, [True, True, True]]])

    def total(query, key, value):
        return (reference.masked_attention(query, key, value, mask) ** 2).sum()

    out = reference.masked_attention(query, key, value, mask)
    assert not np.asarray(out[0, 1]).any() and np.asarray(out[0, 0]).any()
    gradients = jax.jit(jax.grad(total, argnums=(0, 1, 2)))(query, key, value)
    assert all(np.isfinite(np.asarray(g)).all() for g in gradients)
    assert not np.asarray(gradients[0][0, 1]).any() and np.asarray(gradients[0][0, 2]).any()


@pytest.mark.parametrize(
    ("query", "key", "value", "segments", "said"),
    [
        ((1, 4, 3, 8), (1, 4, 2, 8), (1, 4, 2, 8), None, r"\(1, 4, 3, 8\).*\(1, 4, 2, 8\)"),
        ((1, 4, 2, 8), (1, 4, 2, 8), (1, 5, 2, 8), None, r"\(1, 4, 2, 8\).*\(1, 5, 2, 8\)"),
        ((1, 4, 2, 8), (1, 5, 2, 8), (1, 5, 2, 8), None, "lengths"),
        ((1, 4, 2, 8), (1, 4, 2, 8), (1, 4, 2, 8), (1, 5), r"\(1, 5\).*\(1, 4, 2, 8\)"),
        ((1, 4, 2), (1, 4, 2), (1, 4, 2), None, "head_dim"),
    ],
)
def test_shapes_that_do_not_fit_are_named(query, key, value, segments, said):
    ids = None if segments is None else jnp.zeros(segments, jnp.int32)
    with pytest.raises(ValueError, match=said):
        attention(jnp.zeros(query), jnp.zeros(key), jnp.zeros(value), ids)


def test_mixed_dtypes_are_named():
    x = jnp.zeros((1, 4, 2, 8))
    with pytest.raises(ValueError, match=r"bfloat16.*float32"):
        attention(x.astype(jnp.bfloat16), x, x)
