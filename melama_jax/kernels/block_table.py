"""Which blocks the flash kernels use on which chip, as `benchmarks/tune_attention_blocks.py` found them.

The tuner compiles candidates for each chip and takes those with the fewest cycles by the compiler's schedule; its
measurements, versions and command are in benchmarks/attention_blocks.json.
"""

from __future__ import annotations

from dataclasses import dataclass

from melama_jax.kernels.blocks import Blocks

# What jax.Device.device_kind says of each generation.
_KINDS = {
    "TPU v4": "v4",
    "TPU v5": "v5p",
    "TPU v5p": "v5p",
    "TPU v5 lite": "v5e",
    "TPU v5e": "v5e",
    "TPU v6 lite": "v6e",
    "TPU v6e": "v6e",
}
DEFAULT_CHIP = "v5e"  # for generations not tuned: its blocks suit both sizes of matrix unit
LONG = 8192  # tokens from which on the blocks tuned at 32,768 are used


@dataclass(frozen=True)
class Cut:
    """How the forward and the backward kernel cut the sequence."""

    forward: Blocks
    backward: Blocks


@dataclass(frozen=True)
class Cuts:
    """A chip's: rows of one segment, packed rows, and rows of LONG tokens or more."""

    plain: Cut
    packed: Cut
    long: Cut


_ALIKE = Cuts(*[Cut(Blocks(resident=32768), Blocks())] * 3)
_SMALL = Cuts(*[Cut(Blocks(512, 256, 256, resident=4096), Blocks(256, 256, 256, resident=2048))] * 3)
TABLE: dict[str, Cuts] = {"v4": _SMALL, "v5e": _ALIKE, "v5p": _ALIKE, "v6e": _ALIKE}


def chip_of(device_kind: str) -> str:
    """The generation's name (`v5e`) for jax.Device.device_kind; DEFAULT_CHIP for what the table does not know."""
    return _KINDS.get(device_kind, DEFAULT_CHIP)


def blocks_for(chip: str, length: int, packed: bool) -> Cut:
    """Blocks for one call of flash_attention.

    Args:
        chip: a generation's name, as chip_of gives it.
        length: tokens of a row.
        packed: whether rows hold several segments.
    """
    cuts = TABLE[chip]
    if length >= LONG:
        return cuts.long
    return cuts.packed if packed else cuts.plain
