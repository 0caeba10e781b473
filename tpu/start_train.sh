#!/usr/bin/env bash
# What every host of a slice runs, after setup_vm.sh: the same command with the same arguments on each. The hosts find
# each other (jax.distributed). Run again with the same MODEL_DIR, the run continues where it stopped.
#
#   tpu/start_train.sh --gin_file=models/llama2_7b.gin --gin_file=runs/pretrain.gin --gin_file=slices/v5p-128.gin \
#     --gin.MODEL_DIR=DIR --gin.DATA_DIR=DIR --gin.TRAIN_STEPS=N
#
#   MELAMA_VENV                 the environment setup_vm.sh made (default: ~/melama-venv)
#   JAX_COMPILATION_CACHE_DIR   compiled programs, kept for the next start; a gs:// folder is shared by all hosts
#                               (default: ~/.cache/melama_jax)
set -euo pipefail
cd "$(dirname "$0")/.."
python="${MELAMA_VENV:-$HOME/melama-venv}/bin/python"
if [[ ! -x "$python" ]]; then
  echo "$0: no $python: run tpu/setup_vm.sh first" >&2
  exit 2
fi
export JAX_COMPILATION_CACHE_DIR="${JAX_COMPILATION_CACHE_DIR:-$HOME/.cache/melama_jax}"
exec "$python" -m melama_jax.train "$@"
