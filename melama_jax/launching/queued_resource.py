"""Google Cloud queued resources: the request waits for capacity, and the machines train from their first boot.

Flags as in `gcloud compute tpus queued-resources create`. Every host runs the start-up script at every boot, so a
slice that was restarted continues the run by itself. One that was withdrawn has to be asked for again: for spot
capacity the last command, tpu/requeue.sh, stays and does that until the run's status says that it ended.
"""

from __future__ import annotations

from collections.abc import Sequence

from melama_jax.launching.accelerators import accelerator_type, runtime_version
from melama_jax.launching.launch import (
    GRACE_SECONDS,
    MOUNT,
    RESTARTS,
    Commands,
    Launch,
    require_bucket,
    set_up_line,
    train_line,
)

_HOME = "/opt/melama_jax"  # the checkout on each host

# The unit that runs start-up scripts has KillMode=process: at shutdown its script alone is told, no child of it. So
# training has a unit of its own, which is told first: systemd stops a unit before all that it comes after, and the
# bucket and the network stay while it saves. tpu/mount_bucket.sh sees to what the mount itself needs for that. What is
# run is in a file, since systemd replaces $ in the arguments of a command.
_STARTUP = """#!/usr/bin/env bash
# Runs as root on every host of the slice at every boot.
set -euo pipefail
export HOME=/root PATH="$PATH:/snap/bin"
mkdir -p {home}
cd {home}
until gcloud storage cp {code} code.tar.gz &&
  tar --extract --gzip --file=code.tar.gz &&
  {set_up}; do
  sleep 30
done
cat > run.sh <<'END_OF_RUN'
exec bash tpu/until_done.sh {status} {restarts} {train}
END_OF_RUN
exec systemd-run --wait --collect --unit=melama --working-directory={home} --setenv=HOME=/root \\
  --property=After=network-online.target --property=RequiresMountsFor={mount} \\
  --property=KillMode=mixed --property=TimeoutStopSec={grace} --property=OOMPolicy=continue bash run.sh
"""


def queued_resource(launch: Launch, own_files: Sequence[str] = ()) -> Commands:
    """Packs the checkout as committed (and stops where it is not), uploads it, and asks for the slice.

    Args:
        launch: what and where; its bucket takes the checkout and the run's status.
        own_files: gin files that must be committed to go along.
    """
    folder = f"launches/{launch.name}"
    archive, startup, status = (f"{folder}/{name}" for name in ("code.tar.gz", "startup.sh", "status"))
    bucket = f"gs://{require_bucket(launch)}"
    content = _STARTUP.format(
        home=_HOME,
        mount=MOUNT,
        grace=GRACE_SECONDS,
        code=f"{bucket}/{archive}",
        set_up=set_up_line(launch),
        status=f"{MOUNT}/{status}",
        restarts=RESTARTS,
        train=train_line(launch),
    )
    project = [f"--project={launch.project}"] if launch.project else []
    request = [launch.name, *_flags(launch), *project, f"--metadata-from-file=startup-script={startup}"]
    return Commands(
        files={startup: content, status: "running\n"},
        argvs=(
            ["git", "diff", "--exit-code", "--stat", "HEAD"],
            *([["git", "ls-files", "--error-unmatch", "--", *own_files]] if own_files else []),
            ["git", "archive", "--format=tar.gz", f"--output={archive}", "HEAD"],
            *(["gcloud", "storage", "cp", file, f"{bucket}/{file}", *project] for file in (archive, status)),
            ["bash", "tpu/requeue.sh", f"{bucket}/{status}", *request]
            if launch.spot
            else ["gcloud", "compute", "tpus", "queued-resources", "create", *request],
        ),
    )


def _flags(launch: Launch) -> list[str]:
    """The slice, as the request's flags say it."""
    return [
        f"--accelerator-type={accelerator_type(launch.where)}",
        f"--runtime-version={runtime_version(launch.where)}",
        *(
            [f"--node-id={launch.name}"]
            if launch.slices == 1
            else [f"--node-count={launch.slices}", f"--node-prefix={launch.name}"]
        ),
        *(["--spot"] if launch.spot else []),
        *([f"--zone={launch.zone}"] if launch.zone else []),
    ]
