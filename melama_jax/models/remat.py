"""What the backward pass keeps of each layer, what waits in host memory, and what is computed again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from melama_jax.errors import InputError

# Activations a layer names, in the order they are made: q_proj and k_proj as rotated, since that is what attention's
# backward pass wants. layer_input is kept under every policy, but only by this name can it wait in host memory.
NAMES = (
    "layer_input",
    "q_proj",
    "k_proj",
    "v_proj",
    "attention_out",
    "o_proj",
    "gate_proj",
    "up_proj",
    "down_proj",
)

# Policy -> the activations it keeps. "none" keeps whatever there is (no remat), "products" all of them by name, so that
# only norms, rotary and SiLU are computed again; "full" keeps only each layer's input.
POLICIES: dict[str, tuple[str, ...]] = {
    "none": NAMES,
    "products": NAMES,
    "full": (),
    "attention": ("attention_out",),
    "projections": ("q_proj", "k_proj", "v_proj", "attention_out", "o_proj"),
    "all_but_mlp_input": ("q_proj", "k_proj", "v_proj", "attention_out", "o_proj", "up_proj", "down_proj"),
}


def remat_policy(kept: str | tuple[str, ...], offload: tuple[str, ...] = ()) -> Callable[..., Any] | None:
    """A jax.checkpoint policy; None means no remat at all.

    Args:
        kept: one of POLICIES, or the activations themselves, among NAMES.
        offload: activations that are kept too, but in pinned host memory.

    Raises:
        InputError: an unknown policy or activation.
    """
    names = POLICIES.get(kept) if isinstance(kept, str) else kept
    if names is None or set(names) - set(NAMES):
        expected = f"one of {', '.join(POLICIES)}, or a tuple of names among {', '.join(NAMES)}"
        raise InputError("REMAT", repr(kept), expected)
    unknown = set(offload) - set(NAMES)
    if unknown:
        raise InputError("OFFLOAD", ", ".join(sorted(unknown)), f"names among {', '.join(NAMES)}")
    if offload:
        return jax.checkpoint_policies.save_and_offload_only_these_names(
            names_which_can_be_saved=[name for name in names if name not in offload],
            names_which_can_be_offloaded=list(offload),
            offload_src="device",
            offload_dst="pinned_host",
        )
    return None if kept == "none" else jax.checkpoint_policies.save_only_these_names(*names)
