"""A run whose sequences are split across devices (its step on such meshes: test_meshes)."""

from __future__ import annotations

import jax
import pytest

from melama_jax.errors import InputError
from melama_jax.partitioning.mesh import MeshShape
from melama_jax.training.config import Run
from melama_jax.training.setup import set_up
from tests.training.conftest import CONFIG


def test_a_length_that_does_not_split_is_named():
    run = Run("model", "data", 10, 4, 60, CONFIG, mesh=MeshShape(sequence=4))
    with pytest.raises(InputError, match=r"SEQ_LEN: found 60; expected a multiple of 8.*sequence=4"):
        set_up(run, CONFIG, jax.devices() * 4)
