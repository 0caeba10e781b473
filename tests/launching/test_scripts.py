"""The scripts of tpu/: sound shell, and start_train.sh hands its arguments to training untouched."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "tpu"


@pytest.mark.skipif(
    shutil.which("shellcheck") is None, reason="needs shellcheck (apt-get install shellcheck)"
)
def test_shellcheck_finds_nothing():
    done = subprocess.run(
        ["shellcheck", *map(str, sorted(SCRIPTS.glob("*.sh")))], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


def test_start_train_runs_the_same_command_with_a_compile_cache(tmp_path):
    python = tmp_path / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$JAX_COMPILATION_CACHE_DIR" "$@"\n')
    python.chmod(0o755)
    env = {**os.environ, "MELAMA_VENV": str(tmp_path / "venv"), "HOME": "/home/me"}
    env.pop("JAX_COMPILATION_CACHE_DIR", None)
    arguments = ["--gin_file=a.gin", "--gin.MODEL_DIR=two words"]
    command = ["bash", str(SCRIPTS / "start_train.sh"), *arguments]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["/home/me/.cache/melama_jax", "-m", "melama_jax.train", *arguments]


def test_start_train_without_an_environment_says_what_to_run(tmp_path):
    env = {**os.environ, "MELAMA_VENV": str(tmp_path)}
    done = subprocess.run(["bash", str(SCRIPTS / "start_train.sh")], env=env, capture_output=True, text=True)
    assert done.returncode == 2 and "run tpu/setup_vm.sh first" in done.stderr
