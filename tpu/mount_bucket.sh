#!/usr/bin/env bash
# Mounts a Cloud Storage bucket on one TPU host, for every user of it; does nothing where it is mounted already.
#
#   tpu/mount_bucket.sh BUCKET FOLDER
#
# The bucket must have a hierarchical namespace: only there is renaming a folder one act, which a checkpoint that
# appears whole or not at all rests on. In others the rename is refused, and the first checkpoint fails.
set -euo pipefail
bucket="$1" folder="$2"

as_root() {
  if [[ $EUID -eq 0 ]]; then "$@"; else sudo "$@"; fi
}

if mountpoint --quiet "$folder"; then
  exit 0
fi
if ! command -v gcsfuse >/dev/null; then
  # As Cloud Storage FUSE's installation page says.
  export DEBIAN_FRONTEND=noninteractive
  site=https://packages.cloud.google.com/apt
  key=/usr/share/keyrings/cloud.google.asc
  # shellcheck disable=SC1091
  codename="$(. /etc/os-release && echo "$VERSION_CODENAME")"
  curl --fail --silent --show-error "$site/doc/apt-key.gpg" | as_root tee "$key" >/dev/null
  echo "deb [signed-by=$key] $site gcsfuse-$codename main" | as_root tee /etc/apt/sources.list.d/gcsfuse.list >/dev/null
  as_root apt-get update --quiet
  as_root apt-get install --quiet --yes gcsfuse
fi
as_root mkdir -p "$folder"
# Nothing of the folders is remembered: what one host writes, the others must see at once.
options=(-o allow_other --file-mode=666 --dir-mode=777 --metadata-cache-ttl-secs=0)
# The daemon gets a unit of its own, so that it does not end with the session or the unit this is called from; and at
# shutdown nothing stops it (DefaultDependencies=no), as an ordinary unit would be at once, under a run that is saving
# its last checkpoint. It ends when systemd unmounts the folder, after all that comes after that mount.
as_root systemd-run --quiet --collect --unit="gcsfuse-$bucket" --same-dir --service-type=forking \
  --property=DefaultDependencies=no \
  gcsfuse "${options[@]}" "$bucket" "$folder"
