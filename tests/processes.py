"""Processes of their own, with several devices each."""

from __future__ import annotations

import os

# Programs here are small and run a few times: compiling them is most of their cost, and LLVM most of compiling.
QUICK_TO_COMPILE = "--xla_backend_optimization_level=0"


def with_devices(count: int) -> dict[str, str]:
    """The environment of a process that sees so many CPU devices."""
    flags = f"{QUICK_TO_COMPILE} --xla_force_host_platform_device_count={count}"
    return {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
