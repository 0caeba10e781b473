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
DEFAULT_CHIP = "v5e"


@dataclass(frozen=True)
class Cut:
    """How the forward and the backward kernel cut the sequence."""

    forward: Blocks
    backward: Blocks


# chip -> (plain, packed).
TABLE: dict[str, tuple[Cut, Cut]] = {
    "v4": (Cut(Blocks(), Blocks(512, 256, 256)), Cut(Blocks(), Blocks(512, 256, 256))),
    "v5e": (Cut(Blocks(), Blocks()), Cut(Blocks(), Blocks())),
    "v5p": (Cut(Blocks(), Blocks()), Cut(Blocks(), Blocks())),
    "v6e": (Cut(Blocks(), Blocks()), Cut(Blocks(), Blocks())),
}


def chip_of(device_kind: str) -> str:
    """The generation's name (`v5e`) for jax.Device.device_kind; DEFAULT_CHIP for what the table does not know."""
    return _KINDS.get(device_kind, DEFAULT_CHIP)


def blocks_for(chip: str, length: int, head_dim: int, packed: bool) -> Cut:
    """Blocks for one call of flash_attention.

    Args:
        chip: a generation's name, as chip_of gives it.
        length: tokens of a row.
        head_dim: of each head.
        packed: whether rows hold several segments.
    """
    plain, several = TABLE[chip]
    return several if packed else plain
