"""What a compiled step says about a launch: does it fit, what does it send, and how fast can it be at most."""

from __future__ import annotations

import dataclasses
import math
import time
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from melama_jax.planning.collectives import Collective, count_collectives
from melama_jax.planning.compile import OutOfMemory, TracedStep, compile_step, trace_step
from melama_jax.planning.flops import step_flops
from melama_jax.planning.hlo import parse, runs
from melama_jax.planning.slices import Slice
from melama_jax.training.config import Run


@dataclass(frozen=True)
class Memory:
    """Bytes of one chip's memory that a step holds; the parts add up to its peak.

    Args:
        weights: parameters, trained and frozen.
        optimizer: AdamW's two moments.
        batch: a step's tokens with the padding that TPU tiles bring to all arguments.
        temporaries: activations, gradients, gathered weights and scratch, reserved together.
        outputs: results that do not take an argument's place.
        program: the compiled code.
    """

    weights: int
    optimizer: int
    batch: int
    temporaries: int
    outputs: int
    program: int

    @property
    def peak(self) -> int:
        """All parts together."""
        return sum(dataclasses.astuple(self))


@dataclass(frozen=True)
class Plan:
    """The answer of `melama plan`. Bytes and rates are of one chip unless said otherwise.

    Args:
        topology: the slice's name.
        slices: how many of it.
        chips: chips in all.
        mesh: ways along each axis.
        fits: whether the compiler found room.
        hbm_bytes_per_chip: room there is.
        peak_bytes_per_chip: room it takes; where it does not fit, what the compiler says it lacks room for, or None.
        memory: its parts; None where it does not fit.
        host_bytes_per_chip: host memory that offloaded activations take.
        message: the compiler's refusal; empty where it fits.
        tokens_per_step: over all chips.
        flops_per_step: over all chips, by the MFU convention (planning/flops.py).
        collectives: empty where it does not fit.
        uncounted_loops: loops whose turns could not be read: what runs in them counts once, bounds stay bounds.
        step_seconds_at_least: lower bounds by what they come from: `compute`, causal FLOPs at peak rate; `ici`, bytes
            received at the full rate of all links. A real step takes longer than the larger.
        tokens_per_second_per_chip_at_most: what the larger bound leaves.
        compile_seconds: how long tracing and compiling took here.
    """

    topology: str
    slices: int
    chips: int
    mesh: dict[str, int]
    fits: bool
    hbm_bytes_per_chip: int
    peak_bytes_per_chip: int | None
    memory: Memory | None
    host_bytes_per_chip: int | None
    message: str
    tokens_per_step: int
    flops_per_step: int
    collectives: list[Collective] = field(default_factory=list)
    uncounted_loops: list[str] = field(default_factory=list)
    step_seconds_at_least: dict[str, float] = field(default_factory=dict)
    tokens_per_second_per_chip_at_most: float = 0.0
    compile_seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dataclasses.asdict(self)


def plan(run: Run, where: Slice, slices: int = 1) -> Plan:
    """Compiles the run's step for the slice and reads what comes out.

    Raises:
        InputError: run, model and slice do not go together, or the TPU compiler is not installed.
    """
    began = time.monotonic()
    step = trace_step(run, where, slices)
    compiled = compile_step(step)
    seconds = time.monotonic() - began
    chips = where.chips * slices
    memory, collectives, unknown, host = None, [], [], None
    if not isinstance(compiled, OutOfMemory):
        memory, host = read_memory(step, compiled)
        program = parse(compiled.as_text() or "")
        counts, unknown = runs(program)
        collectives = count_collectives(program, counts, chips)
    bounds = lower_bounds(step, run, where, chips, collectives)
    tokens = run.batch_size * run.seq_len
    return Plan(
        topology=where.name,
        slices=slices,
        chips=chips,
        mesh=dict(step.setup.mesh.shape),
        fits=memory is not None,
        hbm_bytes_per_chip=where.chip.hbm_bytes,
        peak_bytes_per_chip=memory.peak if memory else getattr(compiled, "needed_bytes", None),
        memory=memory,
        host_bytes_per_chip=host,
        message=compiled.message if isinstance(compiled, OutOfMemory) else "",
        tokens_per_step=tokens,
        flops_per_step=step_flops(step.config, run.lora, run.batch_size, run.seq_len),
        collectives=collectives,
        uncounted_loops=unknown,
        step_seconds_at_least=bounds,
        tokens_per_second_per_chip_at_most=tokens / chips / max(bounds.values()),
        compile_seconds=seconds,
    )


def read_memory(step: TracedStep, compiled: jax.stages.Compiled) -> tuple[Memory, int]:
    """(a chip's memory by its parts, host memory a chip uses), from the compiler's own account."""
    stats: Any = compiled.memory_analysis()
    weights = shard_bytes((step.state.trained, step.state.frozen))
    optimizer = shard_bytes(step.state.opt_state)
    memory = Memory(
        weights=weights,
        optimizer=optimizer,
        batch=stats.argument_size_in_bytes - weights - optimizer,
        temporaries=stats.temp_size_in_bytes,
        outputs=stats.output_size_in_bytes - stats.alias_size_in_bytes,
        program=stats.generated_code_size_in_bytes,
    )
    return memory, stats.host_temp_size_in_bytes + stats.host_argument_size_in_bytes


def shard_bytes(tree: Any) -> int:
    """Bytes of a tree of jax.ShapeDtypeStruct that lie on one device."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * np.dtype(leaf.dtype).itemsize
        for leaf in jax.tree.leaves(tree)
    )


def lower_bounds(
    step: TracedStep, run: Run, where: Slice, chips: int, collectives: list[Collective]
) -> dict[str, float]:
    """Seconds a step takes at least, by what limits it."""
    flops = step_flops(step.config, run.lora, run.batch_size, run.seq_len, causal=True)
    received = sum(row.received_bytes for row in collectives if row.network == "ici")
    bounds = {"compute": flops / chips / where.chip.peak_flops}
    if collectives:
        bounds["ici"] = received / where.chip.ici_bytes_per_second
    return bounds
