"""How splash attention is cut; beside splash.py so that naming it does not import Pallas."""

from __future__ import annotations

from dataclasses import dataclass

from melama_jax.fields import require_types


@dataclass(frozen=True)
class SplashTiles:
    """Splash's sizes in tokens, cut down to divisors of the length where they are none.

    Args:
        q: queries of a block, forward.
        kv: keys of a block.
        compute: keys of one product.
        back_q: queries of a block, backward.
        back_kv: keys of a block.
        back_compute: keys of one product.
        fused: whether the backward pass is one kernel; two make no partial sums.
    """

    q: int = 1024
    kv: int = 1024
    compute: int = 512
    back_q: int = 1024
    back_kv: int = 1024
    back_compute: int = 512
    fused: bool = True

    def __post_init__(self) -> None:
        require_types(self)


DEFAULT_TILES = SplashTiles()
