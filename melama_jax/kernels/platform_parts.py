"""Parts of attention, as ring attention wants them, by platform: the flash kernels on TPU, plain elsewhere."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax

from melama_jax.kernels.block_table import blocks_for
from melama_jax.kernels.parts import PLAIN, Parts, Result


@functools.cache
def platform_parts(kernel: str, chip: str) -> Parts:
    """How ring attention computes its parts.

    Args:
        kernel: `auto`, `flash` or `xla`, as attention.attention has it.
        chip: as there.
    """
    if kernel == "xla":
        return PLAIN
    from melama_jax.kernels.flash_parts import flash_parts

    def forward(
        query: jax.Array,
        key: jax.Array,
        value: jax.Array,
        query_ids: jax.Array | None,
        key_ids: jax.Array | None,
        causal: bool,
    ) -> Result:
        cut = blocks_for(chip, packed=query_ids is not None)

        def choice(parts: Parts) -> Callable[..., Any]:
            return lambda *arrays: parts.forward(*arrays, causal)  # pyright: ignore[reportCallIssue]

        on_tpu = choice(flash_parts(cut.forward, cut.backward))
        return jax.lax.platform_dependent(
            query, key, value, query_ids, key_ids, tpu=on_tpu, default=choice(PLAIN)
        )

    def backward(
        query: jax.Array,
        key: jax.Array,
        value: jax.Array,
        query_ids: jax.Array | None,
        key_ids: jax.Array | None,
        causal: bool,
        d_out: jax.Array,
        lse: jax.Array,
        share: jax.Array,
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        cut = blocks_for(chip, packed=query_ids is not None)

        def choice(parts: Parts) -> Callable[..., Any]:
            return lambda *arrays: parts.backward(*arrays[:5], causal, *arrays[5:])  # pyright: ignore[reportCallIssue]

        on_tpu = choice(flash_parts(cut.forward, cut.backward))
        given = (query, key, value, query_ids, key_ids, d_out, lse, share)
        return jax.lax.platform_dependent(*given, tpu=on_tpu, default=choice(PLAIN))

    return Parts(forward, backward)
