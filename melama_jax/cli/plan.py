"""melama plan: a launch compiled for a slice nobody holds yet."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from melama_jax.cli.gin_flags import add_gin_arguments, gin_arguments

if TYPE_CHECKING:
    from melama_jax.planning.cost import Budget
    from melama_jax.planning.report import Plan, Prediction

HELP = "compile a training run for a TPU slice on this machine: does it fit, how fast, at what cost (exit 1: no fit)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's flags."""
    add_gin_arguments(parser)
    parser.add_argument(
        "--topology", required=True, metavar="SLICE", help="such as v5p-128, v5e-256 or v6e-8"
    )
    parser.add_argument(
        "--slices", type=int, default=1, metavar="N", help="so many of them, joined by network"
    )
    parser.add_argument(
        "--tokens",
        type=int,
        metavar="N",
        help="tokens of the whole run, for days and price (default: TRAIN_STEPS' worth, or the paper's 129 billion)",
    )
    parser.add_argument(
        "--prices", metavar="FILE", help="prices of chip-hours, instead of the package's table"
    )
    parser.add_argument("--json", metavar="FILE", help="write the plan as JSON too")


def run(args: argparse.Namespace) -> int:
    """0 if the run fits on the slice, 1 if it does not."""
    os.environ["JAX_PLATFORMS"] = "cpu"  # nothing is computed: a TPU that is here must stay free
    from melama_jax import files
    from melama_jax.errors import InputError
    from melama_jax.gin_edge import load_run
    from melama_jax.planning.report import PAPER_TOKENS, plan
    from melama_jax.planning.slices import find_slice

    where = find_slice(args.topology)
    if args.slices < 1:
        raise InputError("--slices", str(args.slices), "a whole number above 0")
    if args.json:
        files.require_writable_file(args.json)
    run, _ = load_run(
        gin_arguments(args), unset={"MODEL_DIR": "", "DATA_DIR": "", "TRAIN_STEPS": 1, "INIT_FROM": None}
    )
    tokens = args.tokens or (run.train_steps > 1 and run.train_steps * run.batch_size * run.seq_len)
    made = plan(run, where, args.slices, tokens or PAPER_TOKENS, args.prices)
    print("\n".join(lines(made)))
    if args.json:
        files.write_json(args.json, made.to_dict())
    return 0 if made.fits else 1


def lines(plan: Plan) -> list[str]:
    """The plan for a person."""
    many = f"{plan.slices} x " if plan.slices > 1 else ""
    mesh = " ".join(f"{axis}={size}" for axis, size in plan.mesh.items() if size > 1) or "one device"
    out = [f"{many}{plan.topology}: {plan.chips} chips, {mesh}; compiled in {plan.compile_seconds:.0f} s", ""]
    room = f"of {human(plan.hbm_bytes_per_chip)} a chip"
    if plan.memory is None:
        needed = human(plan.peak_bytes_per_chip) + " " if plan.peak_bytes_per_chip else ""
        out += [f"does not fit: needs {needed}{room}", f"  {plan.message}"]
    else:
        out.append(f"fits: {human(plan.memory.peak)} {room}")
        parts = {name: getattr(plan.memory, name) for name in plan.memory.__dataclass_fields__}
        out += [f"  {name:12} {human(size):>12}" for name, size in parts.items()]
        if plan.host_bytes_per_chip:
            out.append(f"  host memory  {human(plan.host_bytes_per_chip):>12}")
    out += ["", f"a step: {plan.tokens_per_step:,} tokens, {plan.flops_per_step:.4g} FLOPs (MFU convention)"]
    if plan.collectives:
        out.append("  sent between chips      network  overlappable  times a step  a chip receives")
    for row in plan.collectives:
        overlap = "yes" if row.asynchronous else "no"
        out.append(
            f"  {row.kind:23} {row.network:8} {overlap:13} {row.runs:12,} {human(row.received_bytes):>16}"
        )
    out += [f"  counted once, since its turns cannot be read: {loop}" for loop in plan.uncounted_loops]
    if plan.prediction is not None and plan.budget is not None:
        out += ["", *_predicted(plan.prediction, plan.budget)]
    return [*out, "", f"program {plan.program}"]


def _predicted(made: Prediction, spent: Budget) -> list[str]:
    rate = made.tokens_per_second_per_chip
    out = [
        f"predicted: {made.seconds:.3f} s a step, {rate:,.1f} tokens/s/chip, MFU {made.mfu:.1%} "
        f"({made.causal_mfu:.1%} counting attention causally)"
    ]
    out += [
        f"  {name:22} {seconds:8.3f} s {seconds / made.seconds:6.1%}" for name, seconds in made.parts.items()
    ]
    busy = ", ".join(f"{name} {seconds:.3f} s" for name, seconds in made.links_busy.items())
    out += [f"  busy, hidden or not: {busy}"] if busy else []
    out += [f"  priced by its bytes, for want of a schedule: {name}" for name in made.unpriced_kernels]
    cost = "" if spent.cost is None else f", {spent.cost:,.0f} {spent.currency}"
    days = f"{spent.days:,.1f} days, {spent.chip_hours:,.0f} chip-hours{cost}"
    return [*out, f"  {spent.tokens / 1e9:,.1f} billion tokens: {days}"]


def human(size: int) -> str:
    """Bytes in GiB, or in MiB below a tenth of one."""
    return f"{size / 2**30:.2f} GiB" if size >= 2**30 / 10 else f"{size / 2**20:.2f} MiB"
