"""What the attention benchmark compiles and holds its figures against."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from melama_jax.errors import InputError
from melama_jax.planning.attention_cases import packed_segments, visible_pairs
from melama_jax.planning.bundles import read_program
from melama_jax.planning.schedule import CORES, measure
from melama_jax.planning.schedule_dump import compile_dump

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "attention_schedule.py"


@pytest.fixture
def benchmark_file():
    spec = importlib.util.spec_from_file_location("attention_schedule", BENCHMARK)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_packed_segments_are_documents_one_after_another():
    segments = packed_segments(32768)
    steps = np.diff(segments)
    assert segments.shape == (32768,) and segments[0] == 1 and set(np.unique(steps)) == {0, 1}
    assert 400 < np.median(np.bincount(segments)[1:]) < 1100
    np.testing.assert_array_equal(segments, packed_segments(32768))


def test_visible_pairs_are_half_of_each_documents_square():
    segments = packed_segments(1024)
    pairs = int((segments[:, None] == segments[None, :]).sum())
    assert visible_pairs(1024, segments=True) == pairs // 2
    assert visible_pairs(1024, segments=False) == 1024**2 // 2


def test_floors_are_those_of_the_units(benchmark_file):
    """Two products forward and five backward; v6e's units are half empty at head_dim 128, full at 256."""
    case, wide = benchmark_file.Case(), benchmark_file.Case(head_dim=256)
    assert benchmark_file.floor(case, CORES["v5p"], 2) == 32768
    assert benchmark_file.floor(case, CORES["v5p"], 5) == 81920
    assert benchmark_file.floor(case, CORES["v6e"], 2) == 16384
    assert benchmark_file.floor(wide, CORES["v6e"], 2) == 16384


def test_splash_runs_with_its_best_forward_and_its_best_backward(benchmark_file, monkeypatch, tmp_path):
    tiles = [
        {
            "q": size,
            "kv": size,
            "compute": size,
            "back_q": size,
            "back_kv": size,
            "back_compute": size,
            "fused": 1,
        }
        for size in (256, 512, 1024)
    ]
    rows = [{"forward": 3, "backward": 1}, {"forward": 1, "backward": 3}, {"refused": "no room"}]
    stored = [{"tiles": one, **row} for one, row in zip(tiles, rows, strict=True)]
    (tmp_path / "tiles.json").write_text(json.dumps({"chips": {"v5p": stored}}))
    monkeypatch.setattr(benchmark_file, "TILES", tmp_path / "tiles.json")
    with pytest.raises(InputError, match="--sweep"):
        benchmark_file.best_tiles("v5p", 4096)  # three settings are no sweep
    monkeypatch.setattr(benchmark_file, "LEAST_SETTINGS", 3)
    best = benchmark_file.best_tiles("v5p", 4096)
    assert best == tiles[0] | {"q": 512, "kv": 512, "compute": 512}
    assert benchmark_file.best_tiles("v5p", 256 * 3)["q"] == 256
    with pytest.raises(InputError, match="--sweep"):
        benchmark_file.best_tiles("v6e", 4096)


def test_splash_multiplies_the_blocks_its_mask_leaves(tmp_path):
    """512 tokens in tiles of 256: three of four blocks; probabilities are float32, 8 rows a vmatmul."""
    pytest.importorskip("libtpu", reason="needs the TPU compiler: pip install 'melama-jax[tpu]'")
    tiles = {
        "q": 256,
        "kv": 256,
        "compute": 256,
        "back_q": 256,
        "back_kv": 256,
        "back_compute": 256,
        "fused": 1,
    }
    arguments = {"seq_len": 512, "heads": 1, "kv_heads": 1, "head_dim": 128, "segments": True}
    arguments |= {"backward": False, "batch": 1, "tiles": tiles}
    target = "melama_jax.planning.attention_cases:splash"
    (kernel,) = (k for k in compile_dump("v5e", target, arguments, tmp_path / "dump") if k.pallas)
    made = measure(read_program(kernel.bundles), CORES["v5e"], kernel.tables)
    macs = 3 * 256**2 * 128
    for kind, rows in (("bf16", 16), ("f32", 8)):
        assert sum(n for (of, _), n in made.vmatmuls.items() if of == kind) == macs // (rows * 128 * 128)
