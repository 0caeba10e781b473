#!/usr/bin/env bash
# Sets up one TPU host: a Python 3.11 environment with the versions of requirements.lock. Run it in the checkout; run
# again, it only brings the environment up to date.
#
#   MELAMA_VENV   where the environment goes (default: ~/melama-venv)
#   PYTHON        the interpreter to make it with (default: python3.11, installed with apt-get where it is missing)
set -euo pipefail
cd "$(dirname "$0")/.."
venv="${MELAMA_VENV:-$HOME/melama-venv}"
python="${PYTHON:-python3.11}"

as_root() {
  if [[ $EUID -eq 0 ]]; then "$@"; else sudo "$@"; fi
}

if ! command -v "$python" >/dev/null; then
  export DEBIAN_FRONTEND=noninteractive
  as_root apt-get update --quiet
  as_root apt-get install --quiet --yes python3.11 python3.11-venv
fi
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11) and "melama_jax needs Python 3.11 or newer: set PYTHON")'
if [[ ! -x "$venv/bin/python" ]]; then
  "$python" -m venv "$venv"
fi
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --constraint requirements.lock '.[tpu]'
echo "$(hostname): melama_jax is set up in $venv"
