"""What a step sends from chip to chip: each collective of the compiled text, with its bytes and how often it runs.

Chips of one slice talk over the interconnect (ICI), slices over the data-centre network (DCN).
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from dataclasses import dataclass

from melama_jax.planning.hlo import Instruction, Program, array_bytes

# Bytes a chip must receive, for each byte it puts in, in a group of n: the least any algorithm can do on a ring.
_RECEIVED = {
    "all-gather": lambda n: n - 1,
    "all-reduce": lambda n: 2 * (n - 1) / n,
    "reduce-scatter": lambda n: (n - 1) / n,
    "all-to-all": lambda n: (n - 1) / n,
    "ragged-all-to-all": lambda n: (n - 1) / n,
    "collective-permute": lambda n: 1,
}


@dataclass(frozen=True)
class Collective:
    """All collectives of one kind over one network, blocking and not kept apart.

    Args:
        kind: all-gather, all-reduce, reduce-scatter, all-to-all, collective-permute.
        network: "ici" within a slice, "dcn" across slices.
        asynchronous: whether it starts and ends as two instructions, so that compute may run between them.
        operations: instructions of the program.
        runs: how often they run in one step, together.
        received_bytes: what each chip receives in one step.
    """

    kind: str
    network: str
    asynchronous: bool
    operations: int
    runs: int
    received_bytes: int


def count_collectives(program: Program, counts: dict[str, int], chips: int) -> list[Collective]:
    """The collectives of one step, the heaviest first.

    Args:
        program: the compiled text, parsed.
        counts: how often each computation runs (hlo.runs).
        chips: devices in all, for collectives over all of them.
    """
    started = {
        _channel(instruction)
        for body in program.computations.values()
        if _has_target(body, "AsyncCollectiveStart")
        for instruction in body
    } - {None}
    asynchronous = _behind_a_start(program)
    totals: dict[tuple[str, str, bool], list[float]] = defaultdict(lambda: [0, 0, 0.0])
    for name, body in program.computations.items():
        if not counts[name]:
            continue
        starts = _has_target(body, "AsyncCollectiveStart")
        for instruction in body:
            # A collective fused with compute stands in the text three times: where it starts, meanwhile, ends.
            if not starts and _channel(instruction) in started:
                continue
            found = _collective(name, instruction, body, chips)
            if found is None:
                continue
            kind, network, received = found
            split = (
                starts or instruction.opcode.endswith("-start") or name in asynchronous or network == "dcn"
            )
            total = totals[kind, network, split]
            total[0] += 1
            total[1] += counts[name]
            total[2] += counts[name] * received
    rows = [Collective(*key, int(ops), int(times), round(size)) for key, (ops, times, size) in totals.items()]
    return sorted(rows, key=lambda row: -row.received_bytes)


def _collective(
    computation: str, instruction: Instruction, body: list[Instruction], chips: int
) -> tuple[str, str, float] | None:
    """(kind, network, bytes received a run) if the instruction is a collective."""
    if instruction.opcode == "send" and "_xla_megascale_transfer_type" in instruction.attributes:
        match = re.search(r'_xla_megascale_transfer_type="(\w+)"', instruction.attributes)
        kind = match[1].lower().replace("_", "-") if match else "send"
        # The runtime reduces between slices: what comes back is as large as what was sent.
        return kind, "dcn", _bytes_in(instruction, body)
    kind = instruction.opcode.removesuffix("-start")
    if kind not in _RECEIVED:
        return None
    if kind == "all-reduce" and computation.startswith("all-reduce-scatter"):
        kind = "reduce-scatter"  # how the TPU compiler writes one: an all-reduce of which each chip keeps its part
    size = group_size(instruction.attributes, chips)
    if size < 2:
        return None
    return kind, "ici", _RECEIVED[kind](size) * _bytes_in(instruction, body)


def _bytes_in(instruction: Instruction, body: list[Instruction]) -> int:
    """Bytes of an instruction's operands (a send's token has none)."""
    types = {i.name: i.type for i in body}
    return sum(array_bytes(types[name]) for name in instruction.operands)


def group_size(attributes: str, chips: int) -> int:
    """Chips that take part together, from any of the three ways replica groups are written."""
    if match := re.search(r"replica_groups=\[([\d,]+)\]", attributes):  # [groups,size]<=[iota]
        return int(match[1].split(",")[-1])
    if match := re.search(r"replica_groups=mesh\[([^\]]*)\]\s*\{([^}]*)\}", attributes):
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", match[1]))
        parts = re.findall(r"'(\w+)'(?::\(\d+\)(\d+))?", match[2])  # an axis, or `:(before)size` of one
        return math.prod(int(part or sizes[axis]) for axis, part in parts)
    if match := re.search(r"replica_groups=\{\{([\d,]+)\}", attributes):
        return len(match[1].split(","))
    return chips


def _behind_a_start(program: Program) -> set[str]:
    """Computations that an async-start or call-start runs."""
    found = set()
    for body in program.computations.values():
        for instruction in body:
            if instruction.opcode in ("async-start", "call-start"):
                found.update(re.findall(r"(?:calls|to_apply)=%?([\w.\-]+)", instruction.attributes))
    return found


def _channel(instruction: Instruction) -> str | None:
    match = re.search(r"channel_id=(\d+)", instruction.attributes)
    return match[1] if match else None


def _has_target(body: list[Instruction], target: str) -> bool:
    return any(f'custom_call_target="{target}"' in i.attributes for i in body)
