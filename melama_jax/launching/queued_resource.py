"""Google Cloud queued resources: the request waits for capacity, and the machines train from their first boot.

Flags as in `gcloud compute tpus queued-resources create`. Every host runs the start-up script at every boot, so a
slice that was restarted continues the run by itself; one that was withdrawn has to be asked for again.
"""

from __future__ import annotations

from collections.abc import Sequence

from melama_jax.errors import InputError
from melama_jax.launching.accelerators import accelerator_type, runtime_version
from melama_jax.launching.launch import Commands, Launch, on_every_host

_STARTUP = """#!/usr/bin/env bash
# Runs as root on every host of the slice at every boot.
set -euo pipefail
export HOME=/root
mkdir -p /opt/melama_jax
cd /opt/melama_jax
gcloud storage cp {code} code.tar.gz
tar --extract --gzip --file=code.tar.gz
{train}
"""


def queued_resource(launch: Launch, code: str | None, own_files: Sequence[str] = ()) -> Commands:
    """Packs the checkout as committed (and stops where it is not), uploads it, and asks for the slice.

    Args:
        launch: what and where.
        code: gs://BUCKET/NAME.tar.gz that the checkout is uploaded to and the hosts read it from.
        own_files: gin files that must be committed to go along.
    """
    if (
        not code
        or not code.startswith("gs://")
        or not code.endswith(".tar.gz")
        or set(code) & set(" '\"$`\\\n")
    ):
        raise InputError("--code", str(code), "where the checkout is uploaded to: gs://BUCKET/NAME.tar.gz")
    folder = f"launches/{launch.name}"
    archive, startup = f"{folder}/code.tar.gz", f"{folder}/startup.sh"
    nodes = (
        [f"--node-id={launch.name}"]
        if launch.slices == 1
        else [f"--node-count={launch.slices}", f"--node-prefix={launch.name}"]
    )
    create = [
        *("gcloud", "compute", "tpus", "queued-resources", "create", launch.name),
        f"--accelerator-type={accelerator_type(launch.where)}",
        f"--runtime-version={runtime_version(launch.where)}",
        *nodes,
        *([f"--zone={launch.zone}"] if launch.zone else []),
        *([f"--project={launch.project}"] if launch.project else []),
        *(["--spot"] if launch.spot else []),
        f"--metadata-from-file=startup-script={startup}",
    ]
    project = [f"--project={launch.project}"] if launch.project else []
    return Commands(
        files={startup: _STARTUP.format(code=code, train=on_every_host(launch.gin))},
        argvs=(
            ["git", "diff", "--exit-code", "--stat", "HEAD"],
            *([["git", "ls-files", "--error-unmatch", "--", *own_files]] if own_files else []),
            ["git", "archive", "--format=tar.gz", f"--output={archive}", "HEAD"],
            ["gcloud", "storage", "cp", archive, code, *project],
            create,
        ),
    )
