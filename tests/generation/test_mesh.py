"""Decoding and scoring with the weights split over a mesh of four devices."""

from __future__ import annotations

import os
import subprocess
import sys

PROGRAM = """
import flax.linen as nn, jax, numpy as np
from melama_jax.generation.decode import generate
from melama_jax.generation.score import log_likelihoods
from melama_jax.models.config import LlamaConfig
from melama_jax.models.llama import Llama
from melama_jax.models.params import boxed_param_shapes
from melama_jax.partitioning.mesh import MeshShape, make_mesh
from melama_jax.partitioning.rules import param_shardings

model = Llama(LlamaConfig(64, 32, 48, 2, 4, 2, 8, 64))
shapes = boxed_param_shapes(model)
params = jax.tree.map(lambda s: 0.3 * jax.random.normal(jax.random.key(s.size), s.shape),
                      nn.unbox(shapes))
mesh = make_mesh(MeshShape(fsdp=2, tensor=2))
split = jax.device_put(params, param_shardings(shapes, mesh))
assert len(split["lm_head"]["kernel"].sharding.device_set) == 4
prompts = [[1, 5, 9], [1], [1, 4, 4, 4, 33, 21]]
for kwargs in ({}, {"temperature": 0.7, "seed": 5}):
    assert generate(model, split, prompts, 6, **kwargs) == generate(model, params, prompts, 6, **kwargs)
pairs = [([1, 5], [9, 2, 7]), ([1], [3])]
np.testing.assert_allclose(log_likelihoods(model, split, pairs), log_likelihoods(model, params, pairs), rtol=1e-4)
print("equal")
"""


def test_a_mesh_gives_the_same_tokens_and_likelihoods():
    env = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=env, capture_output=True, text=True, timeout=300
    )
    assert done.stdout.strip() == "equal", done.stderr[-2000:]
