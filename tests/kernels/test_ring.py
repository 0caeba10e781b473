"""Ring attention on eight CPU devices: equal to plain attention, its work balanced, nothing but keys sent."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

DEVICES = 8


@pytest.fixture(scope="module")
def report():
    flags = f"--xla_force_host_platform_device_count={DEVICES} --xla_backend_optimization_level=0"
    env = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    command = [sys.executable, "-m", "tests.kernels.ring_program"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def test_output_and_gradients_equal_plain_attention(report):
    assert len(report["error"]) == 6
    for case, (out, *gradients) in report["error"].items():
        assert out < 1e-6 and max(gradients) < 2e-6, case


def test_zigzag_gives_each_device_one_early_and_one_late_stripe(report):
    for devices, (stripes, undone) in report["order"].items():
        assert stripes == [[d, 2 * int(devices) - 1 - d] for d in range(int(devices))]
        assert undone


def test_every_device_does_the_same_work_and_none_that_is_masked(report):
    forward, both = report["work"]
    stripe = 2
    for parts in forward:
        assert len(parts) == DEVICES  # one at each turn
        assert [part for part in parts if part[2]] == [[2 * stripe, 2 * stripe, True]]
        assert {queries * keys for queries, keys, causal in parts if not causal} == {2 * stripe * stripe}
    for parts, gradient_too in zip(forward, both, strict=True):
        assert gradient_too == sorted(parts * 2)
    pairs = sum(
        queries * (queries + 1) // 2 if causal else queries * keys
        for parts in forward
        for queries, keys, causal in parts
    )
    length = 2 * stripe * DEVICES
    assert pairs == length * (length + 1) // 2  # exactly the pairs a causal mask leaves


def test_parts_that_share_no_segment_are_skipped(report):
    forward, _ = report["work, every stripe a segment"]
    assert forward == [[[4, 4, True]]] * DEVICES


def test_only_keys_values_and_their_gradients_travel(report):
    keys, ids = "f32[1,12,1,8]", "s32[1,12]"
    assert report["transfers"] == [[keys, "collective-permute"], [ids, "collective-permute"]]


def test_a_policy_that_keeps_the_output_spares_a_trip_round_the_ring(report):
    assert report["loops"] == {"kept": 2, "full": 3}


def test_a_length_that_is_not_two_stripes_a_device_is_named(report):
    assert "3 tokens a device" in report["refusal"]
