"""TrainState: what changes from step to step, and the frozen weights that do not."""

from __future__ import annotations

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from melama_jax.models import lora


@flax.struct.dataclass
class TrainState:
    """One training run's state.

    Args:
        step: int32, optimizer steps done.
        data_step: int32, batches read; ahead of `step` by those that were skipped.
        trained: the parameters that train (all of them, or the adapters).
        frozen: the parameters that do not; an empty dict without LoRA.
        opt_state: the optimizer's, over `trained` only.
    """

    step: jax.Array
    data_step: jax.Array
    trained: dict[str, Any]
    frozen: dict[str, Any]
    opt_state: optax.OptState

    @property
    def params(self) -> dict[str, Any]:
        """The whole parameter tree."""
        return lora.join(self.trained, self.frozen)


def new_state(
    params: dict[str, Any], optimizer: optax.GradientTransformation, adapters_only: bool
) -> TrainState:
    """Step 0 of a run over these parameters."""
    trained, frozen = lora.split(params) if adapters_only else (params, {})
    zero = jnp.zeros((), jnp.int32)
    return TrainState(zero, zero, trained, frozen, optimizer.init(trained))
