"""What `melama plan` predicts for published and logged runs, against what they reached.

    python benchmarks/calibration.py [--row NAME ...]   # renews those rows in calibration.json; without --row all
    python benchmarks/calibration.py --show             # the table, from calibration.json

Each row of published_runs.json names its source. It is planned with the same model, slice, batch, sequence, remat,
offloading, attention (JAX's splash, the row's tiles) and XLA flags; flags this compiler no longer knows are left out
and listed. One method for all rows, no constant fitted. A 70B row takes two to ten minutes of two cores.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from statistics import median
from typing import Any

import jax

from melama_jax.files import read_json, write_json
from melama_jax.gin_edge import GinArguments, load_run
from melama_jax.planning.flops import weight_flops
from melama_jax.planning.report import Plan, plan
from melama_jax.planning.slices import find_slice

PUBLISHED = Path(__file__).with_name("published_runs.json")
RESULTS = Path(__file__).with_name("calibration.json")
UNSET = {"MODEL_DIR": "", "DATA_DIR": "", "TRAIN_STEPS": 1, "INIT_FROM": None}


def bindings(row: dict[str, Any], flags: dict[str, Any]) -> tuple[str, ...]:
    """The gin bindings that describe a row."""
    chips = row["chips"]
    kept = tuple(name for name in row["saved"] if name != "layer_input" or name in row["offloaded"])
    return (
        "MESH = @MeshShape()",
        f"MeshShape.fsdp = {chips}",
        f"BATCH_SIZE = {row['per_device_batch'] * chips}",
        f"SEQ_LEN = {row['seq_len']}",
        f"REMAT = {kept!r}" if kept else "REMAT = 'full'",
        f"OFFLOAD = {tuple(row['offloaded'])!r}",
        "Run.attention = 'splash'",
        "Run.splash_tiles = @SplashTiles()",
        *(f"SplashTiles.{name} = {value}" for name, value in tiles(row["attention"]).items()),
        f"Run.compiler_options = {flags!r}",
    )


def tiles(described: str) -> dict[str, Any]:
    """Splash's tiles from `splash: sa_block_q 512, kv 512, ..., fused backward`."""
    sizes = dict(re.findall(r"(\w+) (\d+)", described.replace("sa_block_", "")))
    names = {"q": "q", "kv": "kv", "compute": "kv_compute"}
    names |= {"back_q": "q_dkv", "back_kv": "kv_dkv", "back_compute": "kv_dkv_compute"}
    found: dict[str, Any] = {ours: int(sizes[theirs]) for ours, theirs in names.items()}
    return found | {"fused": "fused backward" in described}


def planned(row: dict[str, Any]) -> tuple[Plan, list[str]]:
    """(the row's plan, flags this compiler does not know)."""
    flags = {name: value for name, value in row["flags"].items() if name.startswith("xla_")}
    unknown: list[str] = []
    while True:
        given = {name: value for name, value in flags.items() if name not in unknown}
        run, _ = load_run(
            GinArguments((f"models/{row['model']}.gin", "runs/pretrain.gin"), bindings(row, given)), UNSET
        )
        try:
            return plan(run, find_slice(row["slice"]), row["slices"]), unknown
        except jax.errors.JaxRuntimeError as error:
            refused = re.search(r"No such compile option: '(\w+)'", str(error))
            if refused is None:
                raise
            unknown.append(refused[1])


def reached(row: dict[str, Any], made: Plan) -> float:
    """The published tokens/s/chip, from whichever figure was published."""
    published = row["published"]
    if rate := published.get("tokens_per_second_per_chip"):
        return float(rate)
    if seconds := published.get("step_seconds"):
        return made.tokens_per_step / made.chips / seconds
    return (
        published["mfu"]
        * find_slice(row["slice"]).chip.peak_flops
        * made.tokens_per_step
        / made.flops_per_step
    )


def measure(row: dict[str, Any]) -> dict[str, Any]:
    """One row of the table."""
    made, unknown = planned(row)
    assert made.prediction is not None, f"{row['name']}: {made.message}"
    run, _ = load_run(
        GinArguments((f"models/{row['model']}.gin", "runs/pretrain.gin"), bindings(row, {})), UNSET
    )
    assert run.model is not None
    useful = weight_flops(run.model) * made.tokens_per_step / made.chips
    published, predicted = reached(row, made), made.prediction.tokens_per_second_per_chip
    return {
        "name": row["name"],
        "slice": row["slice"],
        "published": published,
        "predicted": predicted,
        "error": predicted / published - 1,
        "mfu": made.prediction.mfu,
        "step_seconds": made.prediction.seconds,
        "dots_over_6n": made.prediction.dot_flops_per_chip / useful,
        "parts": made.prediction.parts,
        "peak_gib": (made.peak_bytes_per_chip or 0) / 2**30,
        "compile_seconds": made.compile_seconds,
        "flags_left_out": unknown,
    }


def show(results: dict[str, Any]) -> None:
    """The table."""
    print(f"{'run':28}{'slice':>10}{'published':>11}{'predicted':>11}{'error':>8}{'MFU':>7}{'dots/6N':>9}")
    for row in results.values():
        print(
            f"{row['name']:28}{row['slice']:>10}{row['published']:11,.1f}{row['predicted']:11,.1f}"
            f"{row['error']:+8.1%}{row['mfu']:7.1%}{row['dots_over_6n']:9.3f}"
        )
    print(f"median error {median(abs(row['error']) for row in results.values()):.1%} (tokens/s/chip)")


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--row", action="append", metavar="NAME")
    parser.add_argument("--show", action="store_true")
    args = parser.parse_args()
    results = read_json(RESULTS) if RESULTS.exists() else {}
    rows = {row["name"]: row for row in read_json(PUBLISHED) if row["per_device_batch"] and row["slice"]}
    for name in () if args.show else args.row or rows:
        results[name] = measure(rows[name])
        write_json(RESULTS, results)
    show(results)


if __name__ == "__main__":
    main()
