"""The training step as a program: what a launch runs and what `melama plan` compiles, with a name for it."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import jax
import optax

from melama_jax.partitioning.rules import batch_sharding
from melama_jax.training.config import Run
from melama_jax.training.setup import Setup, state_shardings
from melama_jax.training.step import make_train_step

HASH_LENGTH = 12


def jit_train_step(
    run: Run, setup: Setup, optimizer: optax.GradientTransformation, bos_id: int | None
) -> Any:
    """The jitted step of a run, its state donated."""
    shardings = state_shardings(setup, run, optimizer)
    on_tpu = (
        setup.mesh.devices.flat[0].platform == "tpu"
    )  # other platforms' compilers know none of the options
    return jax.jit(
        make_train_step(
            setup.model, optimizer, bos_id, run.micro_batches, run.seed, setup.mesh, run.bad_batches
        ),
        in_shardings=(shardings, batch_sharding(setup.mesh)),
        out_shardings=(shardings, None),
        donate_argnums=0,
        compiler_options=dict(run.compiler_options) if on_tpu else None,
    )


def program_hash(lowered: jax.stages.Lowered) -> str:
    """A short name of a lowered program: equal programs, equal names, wherever they were lowered."""
    return sha256(lowered.as_text().encode()).hexdigest()[:HASH_LENGTH]
