"""The shipped slice files held to what they promise: each run fits, and what its plan took in time and memory.

    python benchmarks/plans.py [--only NAME ...] [--json FILE]

Continual pre-training of Llama-2 7B, 13B and 70B and LoRA of 70B on v4, v5p, v5e and v6e slices, LoRA of 7B on the
eight-chip ones; every plan in a process of its own, as `melama plan` makes it. Exit 1 where one does not fit.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from melama_jax.files import read_json, write_json

PODS = ("v4-128", "v5p-128", "v5e-256", "v6e-256")
RUNS = [
    *(("llama2_7b", "pretrain", slice_) for slice_ in PODS),
    *(("llama2_13b", "pretrain", slice_) for slice_ in PODS),
    *(("llama2_70b", "pretrain", slice_) for slice_ in PODS),
    *(("llama2_70b", "tune_lora", slice_) for slice_ in PODS),
    *(("llama2_7b", "tune_lora", slice_) for slice_ in ("v5e-8", "v6e-8")),
]
# Rows a step where the slice wants another number than the run's file says: LoRA's 64 are less than one a chip, and
# 70B's gathers on v6e-256 take as long as four rows' products (the slice's file says so).
BATCH = {
    ("llama2_70b", "tune_lora", "v5e-256"): 256,
    ("llama2_70b", "tune_lora", "v6e-256"): 256,
    ("llama2_70b", "pretrain", "v6e-256"): 1024,
}


def measure(model: str, kind: str, slice_: str, folder: Path) -> dict[str, Any]:
    """One plan's figures, with the seconds and the memory of its process."""
    answer = folder / "plan.json"
    files = (f"models/{model}.gin", f"runs/{kind}.gin", f"slices/{slice_}.gin")
    command = [sys.executable, "-m", "melama_jax", "plan", "--topology", slice_, "--json", str(answer)]
    command += [f"--gin_file={name}" for name in files]
    if (model, kind, slice_) in BATCH:
        command.append(f"--gin.BATCH_SIZE={BATCH[model, kind, slice_]}")
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - began
    if done.returncode not in (0, 1):
        raise SystemExit(f"{' '.join(command)}\n{done.stderr.strip()}")
    made = read_json(answer)
    return {
        "name": f"{model} {kind} {slice_}",
        "fits": made["fits"],
        "peak_gib": (made["peak_bytes_per_chip"] or 0) / 2**30,
        "hbm_gib": made["hbm_bytes_per_chip"] / 2**30,
        "mfu": made["predicted_mfu"],
        "tokens_per_second_per_chip": made["tokens_per_second_per_chip"],
        "waited": made["prediction"] and made["prediction"]["waited"],
        "seconds": seconds,
        # Of the largest process so far: plans run one after another, so an upper bound for each.
        "most_memory_gib": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20,
    }


def main() -> int:
    """Measures, prints, and says whether all fit."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", action="append", metavar="NAME", help="such as 'llama2_70b pretrain v5p-128'"
    )
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args()
    os.environ["JAX_PLATFORMS"] = "cpu"
    rows = []
    print(f"{'plan':36}{'fits':>6}{'GiB':>8}{'of':>7}{'MFU':>8}{'tokens/s/chip':>15}{'s':>6}{'RAM GiB':>9}")
    with tempfile.TemporaryDirectory() as folder:
        for model, kind, slice_ in RUNS:
            if args.only and f"{model} {kind} {slice_}" not in args.only:
                continue
            row = measure(model, kind, slice_, Path(folder))
            rows.append(row)
            rate = (
                "" if row["mfu"] is None else f"{row['mfu']:8.1%}{row['tokens_per_second_per_chip']:15,.1f}"
            )
            print(
                f"{row['name']:36}{'yes' if row['fits'] else 'NO':>6}{row['peak_gib']:8.1f}{row['hbm_gib']:7.1f}"
                f"{rate:23}{row['seconds']:6.0f}{row['most_memory_gib']:9.1f}",
                flush=True,
            )
    if args.json:
        write_json(args.json, rows)
    return 0 if all(row["fits"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
