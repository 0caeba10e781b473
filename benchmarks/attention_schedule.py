"""Attention kernels by the TPU compiler's own schedule: cycles per query head and TensorCore, no TPU needed.

    python benchmarks/attention_schedule.py --chip v5p [--seq-len 4096 --heads 2 --kv-heads 2 --head-dim 128 --segments]
    python benchmarks/attention_schedule.py --chip v5p --sweep      # renews splash's tile settings in splash_tiles.json

Without a case it runs them all. How cycles are counted: melama_jax/planning/schedule.py. JAX's splash attention runs
with the best of the tile settings that the sweep tried on that chip, the best forward and the best backward each.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from melama_jax.errors import InputError
from melama_jax.files import read_json, write_json
from melama_jax.planning.attention_cases import visible_pairs
from melama_jax.planning.bundles import read_program
from melama_jax.planning.scalar_program import execute
from melama_jax.planning.schedule import CORES, Core, Measure, measure_execution, slot_use
from melama_jax.planning.schedule_dump import CompileError, KernelDump, compile_dump

CASES = "melama_jax.planning.attention_cases"
TILES = Path(__file__).with_name("splash_tiles.json")
# The chip's VMEM less a margin: splash's larger tiles need more than the compiler's own limit for a kernel.
VMEM_KIB = {"v4": 15 * 1024, "v5e": 120 * 1024, "v5p": 90 * 1024, "v6e": 120 * 1024}
LEAST_SETTINGS = 10
FORWARD_PRODUCTS, BACKWARD_PRODUCTS = 2, 5
# (queries, keys, keys of one product), for the forward and the backward kernel alike; then fused (1) or separate (0).
SWEEP = [
    (512, 512, 512, 1),
    (512, 1024, 512, 1),
    (1024, 512, 512, 1),
    (1024, 1024, 256, 1),
    (1024, 1024, 512, 1),
    (1024, 1024, 1024, 1),
    (1024, 2048, 512, 1),
    (2048, 1024, 512, 1),
    (2048, 2048, 512, 1),
    (2048, 2048, 1024, 1),
    (512, 1024, 512, 0),
    (1024, 1024, 512, 0),
]


@dataclass(frozen=True)
class Case:
    """One shape of attention, bfloat16, causal."""

    seq_len: int = 4096
    heads: int = 2
    kv_heads: int = 2
    head_dim: int = 128
    segments: bool = False


ALL_CASES = [
    Case(),
    Case(segments=True),
    Case(heads=8, kv_heads=1),
    Case(seq_len=32768),
    Case(seq_len=32768, segments=True),
]


@dataclass(frozen=True)
class Kernel:
    """What one kernel of a program costs, per query head and TensorCore.

    Args:
        name: the instruction's.
        counted: whether it is part of attention: a Pallas kernel, or XLA's sum over splash's partial dq.
        backward: whether it is of the backward pass.
        cycles: by the queue model, or its memory traffic where that takes longer.
        least: bundles only.
        most: without queues before the matrix units.
        spills: vector registers spilled.
        work: what the arithmetic can be checked with.
    """

    name: str
    counted: bool
    backward: bool
    cycles: float
    least: float
    most: float
    spills: float
    work: str


def splash_arguments(case: Case, tiles: dict[str, int], backward: bool, core: Core) -> dict[str, Any]:
    """For attention_cases.splash: as many rows as cores, since only rows are shared between them in the backward."""
    return asdict(case) | {"backward": backward, "batch": core.chip.name_counts, "tiles": tiles}


def compile_and_measure(chip: str, target: str, arguments: dict[str, Any]) -> list[Kernel]:
    """Every kernel of the program, as the slowest core runs it."""
    core = CORES[chip]
    heads = arguments["heads"] * arguments["batch"] / core.chip.name_counts
    with tempfile.TemporaryDirectory() as folder:
        dumped = compile_dump(chip, f"{CASES}:{target}", arguments, Path(folder) / "dump", VMEM_KIB[chip])
        return [_measured(kernel, core, heads) for kernel in dumped]


def _measured(kernel: KernelDump, core: Core, heads: float) -> Kernel:
    program = read_program(kernel.bundles)
    runs = [execute(program, kernel.tables, number) for number in range(core.chip.name_counts)]
    done = [measure_execution(program, core, run) for run in runs]
    slowest = max(range(len(done)), key=lambda number: done[number].cycles)
    cost, use = done[slowest], slot_use(kernel.utilization, runs[slowest])
    partial = kernel.name.startswith("reduce")
    return Kernel(
        kernel.name,
        kernel.pallas or partial,
        partial or any(part in kernel.name for part in ("_dkv", "_dq", "bwd", "backward")),
        cost.cycles / heads,
        cost.range[0] / heads,
        cost.range[1] / heads,
        cost.spills / heads,
        _work(cost, use, heads),
    )


def _work(cost: Measure, use: dict[str, float], heads: float) -> str:
    kinds = sorted({kind for kind, _ in cost.vmatmuls})
    counts = {kind: sum(n for (of, _), n in cost.vmatmuls.items() if of == kind) / heads for kind in kinds}
    parts = [f"{count:,.0f} {kind} vmatmuls" for kind, count in counts.items()]
    parts += [
        f"busiest MXU {cost.mxu_cycles / heads:,.0f} cycles",
        f"DMA {cost.dma_cycles / heads:,.0f} cycles",
    ]
    parts += [f"{name} {share:.0%}" for name, share in use.items() if name in ("VALU", "EUP", "XLU", "VLOAD")]
    return ", ".join(parts)


def floor(case: Case, core: Core, products: int) -> float:
    """Cycles of the matrix units alone for the visible pairs, units half empty where head_dim is half their size."""
    filled = min(1.0, case.head_dim / core.size)
    pairs = visible_pairs(case.seq_len, case.segments)
    return products * pairs * case.head_dim / (core.macs_per_cycle * filled)


def run_case(chip: str, case: Case) -> Iterator[dict[str, Any]]:
    """Forward, then forward and backward: prints how each figure comes about and yields its row."""
    core, tiles = CORES[chip], best_tiles(chip, case.seq_len)
    for name, products in (
        ("forward", FORWARD_PRODUCTS),
        ("forward+backward", FORWARD_PRODUCTS + BACKWARD_PRODUCTS),
    ):
        print(f"\n{chip} {name}: {case}")
        arguments = splash_arguments(case, tiles, name != "forward", core)
        kernels = compile_and_measure(chip, "splash", arguments)
        counted = [kernel for kernel in kernels if kernel.counted]
        cycles, lowest = sum(kernel.cycles for kernel in counted), floor(case, core, products)
        for kernel in kernels:
            mark = "splash" if kernel.counted else "around it"
            span = f"{kernel.cycles:,.0f} ({kernel.least:,.0f} to {kernel.most:,.0f})"
            print(f"  {mark:9} {kernel.name}: {span}; {kernel.work}")
        print(
            f"  splash {cycles:,.0f} cycles a head; floor {lowest:,.0f}, {lowest / cycles:.0%} of it; tiles {tiles}"
        )
        yield {
            "chip": chip,
            "case": name,
            **asdict(case),
            "splash_cycles": round(cycles),
            "splash_range": [round(sum(k.least for k in counted)), round(sum(k.most for k in counted))],
            "splash_around_cycles": round(sum(k.cycles for k in kernels if not k.counted)),
            "splash_config": tiles,
            "splash_spills": round(sum(k.spills for k in counted)),
            "floor_cycles": round(lowest),
        }


def best_tiles(chip: str, seq_len: int) -> dict[str, int]:
    """Splash's best forward and best backward setting of the sweep on that chip."""
    stored = _stored(chip)
    fitting = [row for row in stored if "forward" in row and seq_len % max(row["tiles"].values()) == 0]
    if len(stored) < LEAST_SETTINGS or not fitting:
        raise InputError(TILES, f"{len(stored)} tile settings of splash for {chip}", "a whole sweep: --sweep")
    first = min(fitting, key=lambda row: row["forward"])["tiles"]
    second = min(fitting, key=lambda row: row["backward"])["tiles"]
    return {key: (second if key.startswith("back") or key == "fused" else first)[key] for key in first}


def sweep(chip: str, case: Case) -> None:
    """Tries every setting on the chip and stores forward and backward cycles, or why the compiler refused."""
    rows: list[dict[str, Any]] = []
    for q, kv, compute, fused in SWEEP:
        tiles = {"q": q, "kv": kv, "compute": compute}
        tiles |= {f"back_{key}": size for key, size in tiles.items()} | {"fused": fused}
        row: dict[str, Any] = {"tiles": tiles}
        try:
            kernels = compile_and_measure(chip, "splash", splash_arguments(case, tiles, True, CORES[chip]))
            for part, backward in (("forward", False), ("backward", True)):
                row[part] = round(sum(k.cycles for k in kernels if k.counted and k.backward == backward))
        except CompileError as error:
            row["refused"] = next(
                (
                    line
                    for line in reversed(str(error).splitlines())
                    if "RESOURCE_EXHAUSTED" in line or "Error" in line
                ),
                str(error).splitlines()[-1],
            )[:300]
        print(f"{chip} {row}", flush=True)
        rows.append(row)
        _store(chip, case, rows)  # after each, since a sweep takes minutes


def _stored(chip: str) -> list[dict[str, Any]]:
    return read_json(TILES)["chips"].get(chip, []) if TILES.exists() else []


def _store(chip: str, case: Case, rows: list[dict[str, Any]]) -> None:
    stored = read_json(TILES) if TILES.exists() else {"chips": {}}
    made = {"command": "python benchmarks/attention_schedule.py --sweep", "case": asdict(case)}
    versions = {name: version(name) for name in ("jax", "libtpu")}
    write_json(TILES, {"made": made | versions, "chips": stored["chips"] | {chip: rows}})


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--chip", choices=sorted(CORES), default="v5p")
    parser.add_argument("--seq-len", type=int)
    parser.add_argument("--heads", type=int, help="query heads of a row")
    parser.add_argument("--kv-heads", type=int)
    parser.add_argument("--head-dim", type=int)
    parser.add_argument("--segments", action="store_true", default=None, help="packed documents")
    parser.add_argument("--sweep", action="store_true", help="renew splash's tile settings for the chip")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write a JSON array, one object a case")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    """Runs what the arguments choose."""
    args = parse(arguments)
    names = ("seq_len", "heads", "kv_heads", "head_dim", "segments")
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if "heads" in given:
        given.setdefault("kv_heads", given["heads"])
    try:
        if args.sweep:
            sweep(args.chip, Case(**given))
            return 0
        if len(_stored(args.chip)) < LEAST_SETTINGS:
            print(f"{args.chip} has no sweep of splash's tile settings yet: that comes first, some minutes")
            sweep(args.chip, Case())
        cases = [Case(**given)] if given else ALL_CASES
        rows = [row for case in cases for row in run_case(args.chip, case)]
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"\n{'case':18}{'tokens':>8}{'heads':>8}{'packed':>8}{'splash':>10}{'range':>20}{'floor':>10}")
    for row in rows:
        shown = f"{row['splash_range'][0]:,} to {row['splash_range'][1]:,}"
        heads = f"{row['heads']}:{row['kv_heads']}"
        print(
            f"{row['case']:18}{row['seq_len']:>8}{heads:>8}{row['segments']!s:>8}{row['splash_cycles']:>10,}"
            f"{shown:>20}{row['floor_cycles']:>10,}"
        )
    print("Predicted cycles per query head and TensorCore, from the compiled schedule; nothing ran on a TPU.")
    if args.json:
        write_json(args.json, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
