"""Processes of their own, with several devices each."""

from __future__ import annotations

import os

# Programs here are small and run a few times, and compiling them is most of their cost: LLVM optimises nothing, XLA's
# older emitters make the fusions in a third of the time of its newer ones, and no program is split between threads.
QUICK_TO_COMPILE = (
    "--xla_backend_optimization_level=0 "
    "--xla_cpu_use_fusion_emitters=false "
    "--xla_cpu_parallel_codegen_split_count=1"
)


def with_devices(count: int) -> dict[str, str]:
    """The environment of a process that sees so many CPU devices."""
    flags = f"{QUICK_TO_COMPILE} --xla_force_host_platform_device_count={count}"
    return {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
