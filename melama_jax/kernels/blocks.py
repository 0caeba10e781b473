"""How a sequence is cut for the flash kernels, and which of the pieces a row of blocks has to visit."""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

import jax
import jax.numpy as jnp

LANES = 128


@dataclass(frozen=True)
class Blocks:
    """Sizes in tokens, each a multiple of LANES; `piece` and `key` divide `query`.

    Args:
        query: queries of one grid step; it visits all the keys they see.
        piece: queries whose scores are in flight together; also the grain at which the diagonal is cut.
        key: keys of one turn of the loop below the diagonal, and of one softmax update.
    """

    query: int = 1024
    piece: int = 256
    key: int = 512

    def __post_init__(self) -> None:
        if any(size <= 0 or size % LANES for size in (self.query, self.piece, self.key)):
            raise ValueError(f"{self}: sizes must be positive multiples of {LANES}")
        if self.query % self.piece or self.query % self.key:
            raise ValueError(f"{self}: piece and key must divide query")

    def fit(self, length: int) -> Blocks:
        """These blocks, no larger than `length` needs, the queries' cut so that little is padded."""
        piece = min(self.piece, round_up(length, LANES))
        steps = -(-length // self.query)
        query = round_up(-(-length // steps), piece)
        return Blocks(query, piece, gcd(query, self.key))


def round_up(size: int, unit: int) -> int:
    """The smallest multiple of `unit` that is at least `size`."""
    return -(-size // unit) * unit


def visits(segment_ids: jax.Array, blocks: Blocks) -> tuple[jax.Array, jax.Array]:
    """Which key blocks below the diagonal each query block has to visit.

    Args:
        segment_ids: int32 [batch, length], length a multiple of blocks.query; in any order.
        blocks: how the sequence is cut.

    Returns:
        first, whole: int32 [batch * query blocks]. Key blocks before `first` share no segment with the queries;
        from `whole` up to the diagonal every key is of the queries' one segment, so nothing need be masked.
    """
    low_q, high_q = _extremes(segment_ids, blocks.query)
    low_k, high_k = _extremes(segment_ids, blocks.key)
    step, block = jnp.arange(low_q.shape[1])[:, None], jnp.arange(low_k.shape[1])[None, :]
    end = step * (blocks.query // blocks.key)
    below = block < end
    low_q, high_q, low_k, high_k = (
        low_q[:, :, None],
        high_q[:, :, None],
        low_k[:, None, :],
        high_k[:, None, :],
    )
    shared = below & (low_k <= high_q) & (low_q <= high_k)
    first = jnp.where(shared, block, end).min(-1)
    border = below & ~((low_k == high_k) & (low_q == high_q) & (low_k == low_q))
    whole = jnp.maximum(first, jnp.where(border, block + 1, 0).max(-1))
    return first.reshape(-1).astype(jnp.int32), whole.reshape(-1).astype(jnp.int32)


def _extremes(segment_ids: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
    cut = segment_ids.reshape(segment_ids.shape[0], -1, size)
    return cut.min(-1), cut.max(-1)
