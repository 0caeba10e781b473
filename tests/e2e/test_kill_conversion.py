"""kill -9 at random moments of an import and an export: each goes on where it was, and ends with the same bits."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "kill_conversion.py"


@pytest.mark.parametrize(
    ("kills", "seed"), [(2, 1), pytest.param(10, 2, marks=pytest.mark.slow)], ids=["two", "ten"]
)
def test_killed_conversions_go_on(tmp_path, kills, seed):
    command = [sys.executable, SCRIPT, "--kills", str(kills), "--seed", str(seed), "--work", tmp_path]
    done = subprocess.run([*command, "--json", tmp_path / "proof.json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    proof = json.loads((tmp_path / "proof.json").read_text())
    assert proof["wrong"] == []
    for what in ("import", "export"):
        lives = [kill for kill in proof["kills"] if kill["what"] == what]
        assert any(kill["before"] < kill["after"] for kill in lives)  # some died with work done
        for one, after in itertools.pairwise(lives):
            assert after["before"] == one["after"]  # and the next began with that
