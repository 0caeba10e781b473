"""One training step on every kind of mesh: the loss and the gradients of one device, to float32's rounding.

Packed rows, grouped-query heads, eight CPU devices at most; the reference is one device and the whole batch at once.

What may differ is the order of float32 sums. A gradient here sums some 400 tokens' terms, each behind a few products
of width 64 to 96; with unit roundoff 2**-24 and errors of random sign that is some 2**-24 * sqrt(400) = 1.2e-6 of it.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys

import pytest

ROUNDING = 2**-24 * math.sqrt(400)


def case(micro_batches: int = 1, remat: str = "none", kind: str = "llama", **mesh: int) -> dict:
    devices = math.prod(mesh.values())
    return {"mesh": mesh, "devices": devices, "micro_batches": micro_batches, "remat": remat, "kind": kind}


CASES = {
    "1 device, micro-batches": case(2),
    "2, data": case(data=2),
    "2, fsdp": case(fsdp=2),
    "2, tensor": case(tensor=2),
    "2, sequence": case(sequence=2),
    "2, slice": case(slice=2),
    "4, fsdp and tensor": case(2, fsdp=2, tensor=2),
    "8, data": case(data=8),
    "8, fsdp": case(2, fsdp=8),
    "8, tensor": case(tensor=8),
    "8, sequence": case(1, "attention", sequence=8),
    "8, slice, data and fsdp": case(2, slice=2, data=2, fsdp=2),
    "8, fsdp, sequence and tensor": case(2, fsdp=2, sequence=2, tensor=2),
    "8, slice, fsdp and tensor, adapters": case(kind="adapters", slice=2, fsdp=2, tensor=2),
    "4, fsdp and tensor, biases and a window": case(kind="qwen2", fsdp=2, tensor=2),
    "4, fsdp and tensor, adapters on int8": case(kind="int8", fsdp=2, tensor=2),
}


@pytest.fixture(scope="module")
def report() -> dict:
    flags = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
    env = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    command = [sys.executable, "-m", "tests.training.mesh_program", json.dumps(list(CASES.values()))]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", CASES)
def test_a_step_is_one_device_s(report, name):
    apart = report["cases"][list(CASES).index(name)]
    assert apart["trained_tokens"] == 0
    assert apart["loss"] < ROUNDING and apart["grad_norm"] < ROUNDING
    assert apart["gradients"] < ROUNDING and apart["weights"] < ROUNDING


@pytest.mark.parametrize(
    "name", [name for name, one in CASES.items() if one["kind"] in ("llama", "adapters")]
)
def test_fsdp_and_tensor_split_the_state(report, name):
    mesh = CASES[name]["mesh"]
    ways = mesh.get("fsdp", 1) * mesh.get("tensor", 1)
    share = report["cases"][list(CASES).index(name)]["share"]
    assert 1 / ways <= share < 1.05 / ways  # norm scales are whole on every device


def test_rounding_is_far_below_one_token_of_four_hundred(report):
    apart = report["one token"]
    assert apart["loss"] > 10 * ROUNDING and apart["gradients"] > 1000 * ROUNDING
