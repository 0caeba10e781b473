"""A training step whose sequences are split across devices gives one device's loss and gradients."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import jax
import pytest

from melama_jax.errors import InputError
from melama_jax.partitioning.mesh import MeshShape
from melama_jax.training.config import Run
from melama_jax.training.setup import set_up
from tests.training.conftest import CONFIG

PROGRAM = """
import json
import flax.linen as nn, jax, numpy as np, optax
from melama_jax.partitioning.mesh import MeshShape
from melama_jax.partitioning.rules import RULES, batch_sharding
from melama_jax.training.config import Run
from melama_jax.training.setup import initial_state, set_up
from melama_jax.training.train import jit_train_step
from tests.training.conftest import CONFIG

rng = np.random.default_rng(0)
starts = rng.random((4, 64)) < 0.1
starts[:, 0] = True
places = np.arange(64)
batch = {
    "tokens": rng.integers(0, CONFIG.vocab_size, (4, 64)),
    "segment_ids": starts.cumsum(1),
    "positions": places - np.maximum.accumulate(np.where(starts, places, 0), axis=1),
    "weights": (rng.random((4, 64)) < 0.8).astype(np.float32),
}
batch = {name: x if name == "weights" else x.astype(np.int32) for name, x in batch.items()}

def step(devices, **axes):
    \"\"\"Loss and the gradient of every weight, which this optimizer's state holds.\"\"\"
    run = Run("model", "data", 10, 4, 64, CONFIG, mesh=MeshShape(**axes), dtype="float32", remat="attention")
    setup = set_up(run, CONFIG, jax.devices()[:devices])
    optimizer = optax.trace(0.9)
    with setup.mesh, nn.logical_axis_rules(RULES):
        state = initial_state(setup, run, optimizer, None)
        placed = jax.device_put(batch, batch_sharding(setup.mesh))
        state, metrics = jit_train_step(run, setup, optimizer, 1)(state, placed)
    return float(metrics["loss"]), jax.tree.map(np.asarray, jax.tree.leaves(state.opt_state))

report = {}
loss, gradient = step(1)
for axes in MESHES:
    other_loss, other = step(4, **axes)
    error = max(np.abs(a - b).max() / np.abs(b).max() for a, b in zip(other, gradient, strict=True))
    report[str(axes)] = [other_loss / loss - 1, float(error)]
print(json.dumps(report))
"""
MESHES = [{"sequence": 4}, {"sequence": 2, "tensor": 2}]


def test_loss_and_gradients_equal_one_device():
    flags = "--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0"
    env = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    command = [sys.executable, "-c", f"MESHES = {MESHES}\n{PROGRAM}"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout)
    assert len(report) == len(MESHES)
    for case, (loss_error, gradient_error) in report.items():
        assert abs(loss_error) < 1e-6 and gradient_error < 5e-6, (case, loss_error, gradient_error)


def test_a_length_that_does_not_split_is_named():
    run = Run("model", "data", 10, 4, 60, CONFIG, mesh=MeshShape(sequence=4))
    with pytest.raises(InputError, match=r"SEQ_LEN: found 60; expected a multiple of 8.*sequence=4"):
        set_up(run, CONFIG, jax.devices() * 4)
