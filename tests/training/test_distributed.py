"""Joining the hosts of a pod: only on TPU machines, once, before anything else."""

from __future__ import annotations

import jax
import pytest
from jax._src import cloud_tpu_init

from melama_jax.training import distributed
from melama_jax.training.distributed import initialize_if_pod


@pytest.fixture
def calls(monkeypatch):
    made = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *args, **kwargs: made.append((args, kwargs)))
    return made


@pytest.mark.parametrize(
    ("on_tpu", "platforms", "joins"),
    [
        (True, "tpu,cpu", True),
        (True, None, True),
        (True, "cpu", False),
        (False, None, False),
        (False, "cpu", False),
    ],
)
def test_hosts_join_where_there_are_tpus(monkeypatch, calls, on_tpu, platforms, joins):
    monkeypatch.setattr(cloud_tpu_init, "running_in_cloud_tpu_vm", on_tpu)
    earlier = jax.config.jax_platforms
    try:
        jax.config.update("jax_platforms", platforms)
        assert initialize_if_pod() is joins
    finally:
        jax.config.update("jax_platforms", earlier)
    assert calls == [((), {})] * joins  # JAX finds coordinator, count and number by itself


def test_a_run_already_joined_is_left_alone(monkeypatch, calls):
    monkeypatch.setattr(cloud_tpu_init, "running_in_cloud_tpu_vm", True)
    monkeypatch.setattr(jax.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "_wants_tpu", lambda: True)
    assert initialize_if_pod() is False and calls == []
