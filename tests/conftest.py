"""Fixtures every room's tests share."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Many tests compile the same small programs, some in other processes: compile each once a session.
_CACHE = tempfile.TemporaryDirectory(prefix="melama_jax_compiled_")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", _CACHE.name)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

SHARED = Path(__file__).resolve().parents[1].parent / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The team's folder of real material beside the checkout; tests that need it skip where it is missing."""
    if not (SHARED / "data").is_dir():
        pytest.skip("no ../shared beside this checkout: real material is missing, this test needs it")
    return SHARED / "data"
