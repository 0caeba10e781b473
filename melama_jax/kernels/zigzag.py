"""The order in which a split sequence gives every device equal causal work.

Cut into 2n stripes over n devices, device d holds stripes d and 2n - 1 - d, one early and one late, whose queries
see 2n + 1 stripes between them whatever d is (as in Llama 3's context parallelism, arXiv:2407.21783, section 3.3.2,
and striped attention, Brandon et al. 2023, arXiv:2311.09431). Both functions run inside shard_map.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax


def to_zigzag(x: jax.Array, axis_name: str) -> jax.Array:
    """From the text's order, device d holding stripes 2d and 2d + 1, to the zigzag order.

    Args:
        x: this device's [batch, 2 * stripe, ...].
        axis_name: the mesh axis over which the sequence is split.

    Raises:
        ValueError: a length that cannot be halved.
    """
    even = lax.axis_index(axis_name) % 2 == 0
    first, second = (
        lax.ppermute(half, axis_name, moves)
        for half, moves in zip(halves(x), _moves(lax.axis_size(axis_name)), strict=True)
    )
    # An even device's early stripe has an even number and was a first half; an odd one's was a second half.
    return jnp.concatenate([jnp.where(even, first, second), jnp.where(even, second, first)], axis=1)


def from_zigzag(x: jax.Array, axis_name: str) -> jax.Array:
    """The inverse of to_zigzag."""
    even = lax.axis_index(axis_name) % 2 == 0
    early, late = halves(x)
    sent = jnp.where(even, early, late), jnp.where(even, late, early)
    back = [[(there, here) for here, there in moves] for moves in _moves(lax.axis_size(axis_name))]
    returned = [lax.ppermute(half, axis_name, moves) for half, moves in zip(sent, back, strict=True)]
    return jnp.concatenate(returned, axis=1)


def halves(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """[batch, length, ...] cut in two along its length; ValueError where that is odd."""
    length = x.shape[1]
    if length % 2:
        raise ValueError(f"{length} tokens a device: an even number is needed, two stripes")
    return x[:, : length // 2], x[:, length // 2 :]


def _moves(devices: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """(from, to) of the first halves and of the second; each is a permutation of the devices."""

    def home(stripe: int) -> int:
        return min(stripe, 2 * devices - 1 - stripe)

    return [(d, home(2 * d)) for d in range(devices)], [(d, home(2 * d + 1)) for d in range(devices)]
