"""Several hosts, one run: each runs the same program, and JAX joins them."""

from __future__ import annotations

import jax
from jax._src import (
    cloud_tpu_init,  # the public name says only whether, not on what: this is what JAX itself asks
)


def initialize_if_pod() -> bool:
    """Joins the hosts of a TPU slice (or of several slices) into one run; says whether it did.

    Must come before anything touches a device. On a machine without TPUs, and where JAX_PLATFORMS leaves them out, it
    does nothing. On Cloud TPU and on GKE jax.distributed.initialize() finds coordinator, host count and this host's
    number by itself; on a single host it joins that one alone.
    """
    if not (cloud_tpu_init.running_in_cloud_tpu_vm and _wants_tpu()) or jax.distributed.is_initialized():
        return False
    jax.distributed.initialize()
    return True


def _wants_tpu() -> bool:
    platforms: str | None = jax.config.jax_platforms  # pyright: ignore[reportAttributeAccessIssue]
    return platforms is None or "tpu" in platforms.split(",")
