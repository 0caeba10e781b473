"""SkyPilot: a managed job, which SkyPilot starts again elsewhere when its slice is withdrawn.

Fields as in SkyPilot's YAML specification, TPU names as in its Cloud TPU page; it syncs the working folder itself and
runs `setup` and `run` on every host of the slice.
"""

from __future__ import annotations

import json

from melama_jax.errors import InputError
from melama_jax.launching.accelerators import accelerator_type, runtime_version
from melama_jax.launching.launch import (
    RESTARTS,
    Commands,
    Launch,
    require_bucket,
    set_up_line,
    train_line,
)


def skypilot(launch: Launch) -> Commands:
    """Writes the task and submits it as a managed job."""
    if launch.slices > 1:
        raise InputError(
            "--slices", str(launch.slices), "1: SkyPilot starts single slices; use xpk for several"
        )
    if launch.project:
        raise InputError("--project", launch.project, "nothing: SkyPilot takes it from its own configuration")
    require_bucket(launch)
    path = f"launches/{launch.name}/task.yaml"
    return Commands(
        files={path: task_yaml(launch)},
        argvs=(["sky", "jobs", "launch", "--yes", f"--name={launch.name}", path],),
    )


def task_yaml(launch: Launch) -> str:
    """The task. A withdrawn slice is sought in the same region first: the bucket is there."""
    infra = f"gcp/*/{launch.zone}" if launch.zone else "gcp"
    return f"""name: {quoted(launch.name)}
workdir: .
resources:
  infra: {quoted(infra)}
  accelerators: {quoted("tpu-" + accelerator_type(launch.where))}
  accelerator_args:
    runtime_version: {quoted(runtime_version(launch.where))}
  use_spot: {json.dumps(launch.spot)}
  job_recovery:
    strategy: FAILOVER
    max_restarts_on_errors: {RESTARTS}
setup: {quoted(set_up_line(launch))}
run: {quoted(train_line(launch))}
"""


def quoted(text: str) -> str:
    """YAML's double-quoted scalar: JSON's escapes, but one escape for a character beyond the first 65,536."""
    escaped = (json.dumps(c)[1:-1] if ord(c) < 0x10000 else f"\\U{ord(c):08x}" for c in text)
    return f'"{"".join(escaped)}"'
