"""What the backward pass keeps of each layer, what waits in host memory, and what is computed again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from melama_jax.errors import InputError

# Activations a layer names, in the order they are made: projections in llama.py, attention_out in kernels/.
NAMES = ("q_proj", "k_proj", "v_proj", "attention_out", "o_proj", "gate_proj", "up_proj", "down_proj")

# Policy -> the activations it keeps. "none" keeps everything (no remat), "full" only each layer's input.
POLICIES: dict[str, tuple[str, ...]] = {
    "none": NAMES,
    "full": (),
    "attention": ("attention_out",),
    "projections": ("q_proj", "k_proj", "v_proj", "attention_out", "o_proj"),
    "all_but_mlp_input": ("q_proj", "k_proj", "v_proj", "attention_out", "o_proj", "up_proj", "down_proj"),
}


def remat_policy(name: str, offload: tuple[str, ...] = ()) -> Callable[..., Any] | None:
    """A jax.checkpoint policy; None means no remat at all.

    Args:
        name: one of POLICIES.
        offload: names among NAMES that are kept in pinned host memory instead of on the device.

    Raises:
        InputError: an unknown policy or activation.
    """
    if name not in POLICIES:
        raise InputError("REMAT", repr(name), f"one of {', '.join(POLICIES)}")
    unknown = set(offload) - set(NAMES)
    if unknown:
        raise InputError("OFFLOAD", ", ".join(sorted(unknown)), f"names among {', '.join(NAMES)}")
    kept = [activation for activation in POLICIES[name] if activation not in offload]
    if offload:
        return jax.checkpoint_policies.save_and_offload_only_these_names(
            names_which_can_be_saved=kept,
            names_which_can_be_offloaded=list(offload),
            offload_src="device",
            offload_dst="pinned_host",
        )
    return None if name == "none" else jax.checkpoint_policies.save_only_these_names(*kept)
