"""XPK: a JobSet on a GKE cluster of TPU slices, single or several.

Flags as in `xpk workload create`; XPK puts the working folder on top of a base image and runs the command there, on
every host.
"""

from __future__ import annotations

from melama_jax.errors import InputError
from melama_jax.launching.accelerators import accelerator_type
from melama_jax.launching.launch import Commands, Launch, on_every_host

BASE_IMAGE = "python:3.11"
MAX_RESTARTS = 50  # what XPK's own pages advise for a run that continues by itself


def xpk(launch: Launch, cluster: str | None) -> Commands:
    """Submits the workload to `cluster`, which must hold such slices."""
    if not cluster:
        raise InputError("--cluster", "none given", "the GKE cluster to run on, made by `xpk cluster create`")
    if launch.spot:
        raise InputError(
            "--spot", "with xpk", "nothing: spot nodes are asked for by `xpk cluster create --spot`"
        )
    return Commands(
        argvs=(
            [
                *("xpk", "workload", "create"),
                f"--workload={launch.name}",
                f"--cluster={cluster}",
                f"--tpu-type={accelerator_type(launch.where)}",
                f"--num-slices={launch.slices}",
                *([f"--zone={launch.zone}"] if launch.zone else []),
                *([f"--project={launch.project}"] if launch.project else []),
                f"--base-docker-image={BASE_IMAGE}",
                "--script-dir=.",
                f"--max-restarts={MAX_RESTARTS}",
                f"--command={on_every_host(launch.gin)}",
            ],
        )
    )
