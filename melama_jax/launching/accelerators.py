"""What Google Cloud calls a slice, and the system image its machines start from."""

from __future__ import annotations

from melama_jax.planning.slices import Slice

# Cloud TPU's software versions for JAX, by chip (its page "TPU software versions").
_RUNTIME = {
    "v4": "tpu-ubuntu2204-base",
    "v5e": "v2-alpha-tpuv5-lite",
    "v5p": "v2-alpha-tpuv5",
    "v6e": "v2-alpha-tpuv6e",
}


def accelerator_type(where: Slice) -> str:
    """The slice's accelerator type: its own name, but v5litepod-256 for v5e-256."""
    return where.name.replace("v5e", "v5litepod")


def runtime_version(where: Slice) -> str:
    """The image Cloud TPU recommends for JAX on these chips."""
    return _RUNTIME[where.chip.name]
