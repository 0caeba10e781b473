"""Which blocks the flash kernels use on which chip, as `benchmarks/tune_attention_blocks.py` found them.

The tuner compiles candidates for each chip and takes those with the fewest cycles by the compiler's schedule, at 4,096
tokens of head_dim 128; its measurements, versions and command are in benchmarks/attention_blocks.json.
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
DEFAULT_CHIP = "v5p"  # for generations not tuned: its blocks fit 64 MiB of VMEM


@dataclass(frozen=True)
class Cut:
    """How the forward and the backward kernel cut the sequence."""

    forward: Blocks
    backward: Blocks


@dataclass(frozen=True)
class Cuts:
    """A chip's: for rows of one segment, and for packed rows."""

    plain: Cut
    packed: Cut


# A forward pass holds only keys and values in VMEM, a backward pass their float32 gradients too. v4's 16 MiB leave
# little choice: these are the largest whose backward pass takes 4,096 keys at once.
WHOLE = 32768
TABLE: dict[str, Cuts] = {
    "v4": Cuts(*[Cut(Blocks(512, 128, 512, resident=4096), Blocks(512, 128, 512, resident=4096))] * 2),
    "v5e": Cuts(
        Cut(Blocks(2048, 128, 512, resident=WHOLE), Blocks(2048, 128, 1024)),
        Cut(Blocks(1024, 256, 256, 2, resident=WHOLE), Blocks(512, 128, 256)),
    ),
    "v5p": Cuts(
        Cut(Blocks(2048, 128, 1024, resident=WHOLE), Blocks(2048, 128, 1024)),
        Cut(Blocks(1024, 128, 256, resident=WHOLE), Blocks(512, 128, 256)),
    ),
    "v6e": Cuts(
        Cut(Blocks(2048, 256, 1024, 2, resident=WHOLE), Blocks(2048, 256, 1024, 2)),
        Cut(Blocks(1024, 256, 256, 2, resident=WHOLE), Blocks(1024, 256, 256, 2)),
    ),
}


def chip_of(device_kind: str) -> str:
    """The generation's name (`v5e`) for jax.Device.device_kind; DEFAULT_CHIP for what the table does not know."""
    return _KINDS.get(device_kind, DEFAULT_CHIP)


def blocks_for(chip: str, packed: bool) -> Cut:
    """Blocks for one call of flash_attention.

    Args:
        chip: a generation's name, as chip_of gives it.
        packed: whether rows hold several segments.
    """
    cuts = TABLE[chip]
    return cuts.packed if packed else cuts.plain
