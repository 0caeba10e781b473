"""SkyPilot: a managed job, which SkyPilot starts again elsewhere when its slice is withdrawn.

Fields as in SkyPilot's YAML specification, TPU names as in its Cloud TPU page; it syncs the working folder itself and
runs `setup` and `run` on every host of the slice.
"""

from __future__ import annotations

import json
import shlex

from melama_jax.errors import InputError
from melama_jax.launching.accelerators import accelerator_type, runtime_version
from melama_jax.launching.launch import Commands, Launch, train_arguments


def skypilot(launch: Launch) -> Commands:
    """Writes the task and submits it as a managed job."""
    if launch.slices > 1:
        raise InputError(
            "--slices", str(launch.slices), "1: SkyPilot starts single slices; use xpk for several"
        )
    if launch.project:
        raise InputError("--project", launch.project, "nothing: SkyPilot takes it from its own configuration")
    path = f"launches/{launch.name}/task.yaml"
    return Commands(
        files={path: task_yaml(launch)},
        argvs=(["sky", "jobs", "launch", "--yes", f"--name={launch.name}", path],),
    )


def task_yaml(launch: Launch) -> str:
    """The task. Scalars are written as JSON strings, which YAML reads as they are."""
    infra = f"gcp/*/{launch.zone}" if launch.zone else "gcp"
    train = shlex.join(["bash", "tpu/start_train.sh", *train_arguments(launch.gin)])
    return f"""name: {json.dumps(launch.name)}
workdir: .
resources:
  infra: {json.dumps(infra)}
  accelerators: {json.dumps("tpu-" + accelerator_type(launch.where))}
  accelerator_args:
    runtime_version: {json.dumps(runtime_version(launch.where))}
  use_spot: {json.dumps(launch.spot)}
setup: {json.dumps("bash tpu/setup_vm.sh")}
run: {json.dumps(train)}
"""
