"""Quantised frozen matrices: how far off they are, and that the model computes what their codes say."""

from __future__ import annotations

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from melama_jax.models import lora, quantised
from melama_jax.models.config import LlamaConfig, LoraConfig
from melama_jax.models.llama import Llama
from melama_jax.models.params import flatten, random_params, unflatten

CONFIG = LlamaConfig(61, 256, 384, 2, 2, 1, 64, 32, family="qwen2")  # 256 and 384 are whole groups, 64 none
LORA = LoraConfig(rank=3, alpha=6.0)

matrices = st.tuples(st.sampled_from([2, 6, 128, 256]), st.integers(1, 4)).flatmap(
    lambda shape: arrays.arrays(
        np.float32, shape, elements=st.floats(-(2.0**100), 2.0**100, width=32) | st.floats(-2, 2, width=32)
    )
)


@settings(max_examples=80, deadline=None)
@given(matrices, st.sampled_from(quantised.KINDS))
def test_a_weight_is_off_by_half_its_scale_at_most(kernel, kind):
    codes, scales = quantised.quantise(kernel, kind)
    count = kernel.shape[0] // 128 if kind == "int4" and kernel.shape[0] >= 128 else 1
    assert scales.shape == (count, kernel.shape[1])
    made = quantised.dequantise(codes, scales, kind, np.float32)
    off = np.abs(made.astype(np.float64) - kernel).reshape(count, -1, kernel.shape[1])
    # Beside the half: float32's own rounding of the quotient and of the product.
    size = np.abs(kernel).astype(np.float64).reshape(off.shape)
    assert (off <= scales[:, None] / 2 + 2.0**-21 * size).all()
    # A scale is no larger than it must be: the largest weight of its group has the largest code.
    largest = {"int8": 127, "int4": 7}[kind] * scales
    assert (np.abs(size.max(axis=1) / largest - 1) < 2.0**-21)[size.max(axis=1) > 2.0**-118].all()


@pytest.mark.parametrize("kind", quantised.KINDS)
def test_numpy_and_jax_make_the_same_bits(kind):
    kernel = np.random.default_rng(0).standard_normal((2, 256, 5)).astype(np.float32)
    for host, device in zip(
        quantised.quantise(kernel, kind), quantised.quantise(jnp.asarray(kernel), kind), strict=True
    ):
        assert host.dtype == device.dtype
        np.testing.assert_array_equal(host, device)


@pytest.fixture(scope="module")
def weights():
    """Random weights by path, no adapter's zeros left."""
    made = flatten(nn.unbox(jax.jit(random_params, static_argnums=0)(Llama(CONFIG, LORA), jax.random.key(0))))
    noise = np.random.default_rng(1)
    return {
        path: jnp.asarray(0.1 * noise.standard_normal(leaf.shape), jnp.float32)
        if lora.is_lora_path(path) or path[-1] == "bias"
        else leaf
        for path, leaf in made.items()
    }


@pytest.mark.parametrize(("kind", "remat"), [("int8", "full"), ("int4", "none")])
def test_logits_and_adapters_gradients_are_those_of_the_dequantised_weights(weights, kind, remat):
    coded = jax.jit(quantised.quantise_params, static_argnums=1)(weights, kind)
    dequantise = jax.jit(quantised.dequantise, static_argnums=(2, 3))
    plain = dict(weights)
    for path in filter(quantised.is_quantised, weights):
        codes, scales = (coded[one] for one in quantised.codes_and_scales(path))
        plain[path] = dequantise(codes, scales, kind, jnp.float32)
    tokens = np.random.default_rng(0).integers(0, 61, (2, 9)).astype(np.int32)
    positions = np.broadcast_to(np.arange(9, dtype=np.int32), tokens.shape)

    @partial(jax.jit, static_argnums=2)
    def both(trained, frozen, quantise):
        def logits(trained):
            return model.apply({"params": lora.join(trained, frozen)}, tokens, positions)

        model = Llama(CONFIG, LORA, remat=remat, quantise=quantise)
        out, pull = jax.vjp(logits, trained)
        return out, pull(jnp.cos(out))[0]

    def outcome(flat, quantise):
        return both(*lora.split(unflatten(flat)), quantise)

    found, expected = outcome(coded, kind), outcome(plain, None)
    assert np.abs(expected[0] - outcome(weights, None)[0]).max() > 1e-3  # quantising does something
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert np.abs(other).max() > 0
        np.testing.assert_allclose(one, other, rtol=0, atol=2e-6 * float(np.abs(other).max()))


def test_what_a_chip_holds_of_a_layer_is_what_planning_counts():
    shapes = flatten(jax.eval_shape(lambda: random_params(Llama(CONFIG, quantise="int4"), jax.random.key(0))))
    path = ("layers", "mlp", "gate_proj")
    codes, scales = (shapes[(*path, name)].value for name in (quantised.CODES, quantised.SCALES))
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in (codes, scales))
    weights = CONFIG.num_layers * CONFIG.embed_dim * CONFIG.mlp_dim
    assert size == weights * quantised.bytes_a_weight("int4")
    assert ("layers", "mlp", "gate_proj", "kernel") not in shapes and ("lm_head", "kernel") in shapes
