"""Orbax arrays layer by layer: writing through its TypeHandler extension point, reading through TensorStore.

An Orbax tree is a set of Zarr arrays in one OCDBT key-value store, named by the path joined with dots
(https://orbax.readthedocs.io, "Checkpoint format"). Our stacked parameters are stored in chunks of one layer, so a
layer can be written and read without its neighbours.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import tensorstore as ts
from orbax.checkpoint.future import CommitFutureAwaitingContractedSignals

from melama_jax.checkpoints.weights import Weights, is_stacked, pieces
from melama_jax.models.params import Path, unflatten


class StreamedArray:
    """A leaf that stands for a parameter not yet read; Orbax saves it piece by piece."""

    def __init__(self, weights: Weights, path: Path):
        self.weights, self.path = weights, path
        self.shape, self.dtype = weights.leaves[path].shape, weights.leaves[path].dtype

    @property
    def chunk(self) -> tuple[int, ...]:
        """Shape of what is stored together: one layer, or all of it."""
        return (1, *self.shape[1:]) if is_stacked(self.path) else self.shape

    async def write(self, store: ts.TensorStore) -> None:
        """Copies the parameter into an open array of its shape; one piece in memory at a time."""
        for layer, piece in pieces(self.weights, self.path):
            await (store if layer is None else store[layer]).write(piece)


class StreamHandler(ocp.type_handlers.NumpyHandler):
    """Saves StreamedArray leaves, one after another, as what NumpyHandler reads."""

    async def serialize(
        self,
        values: Sequence[StreamedArray],
        infos: Sequence[ocp.type_handlers.ParamInfo],
        args: Sequence[ocp.SaveArgs] | None = None,
    ) -> Sequence[Any]:
        """Starts the write; the future ends when everything is stored."""
        write = CommitFutureAwaitingContractedSignals(self._write(values, infos), name="stream")
        return [write]

    async def _write(
        self, values: Sequence[StreamedArray], infos: Sequence[ocp.type_handlers.ParamInfo]
    ) -> None:
        for value, info in zip(values, infos, strict=True):
            await info.await_path_creation()
            spec = ocp.type_handlers.get_json_tspec_write(
                info,
                use_ocdbt=True,
                global_shape=value.shape,
                local_shape=value.chunk,
                dtype=value.dtype,
                process_index=jax.process_index(),
            )
            store = await ts.open(ts.Spec(spec), create=True, open=True, context=info.ts_context)
            await value.write(store)


def streamed_tree(weights: Weights) -> dict[str, Any]:
    """The parameter tree with a StreamedArray at every leaf, to be saved with stream_handler()."""
    return unflatten({path: StreamedArray(weights, path) for path in weights.leaves})


def tree_handler() -> ocp.PyTreeCheckpointHandler:
    """How every tree of ours is stored: uncompressed, as floating-point weights barely shrink but cost time."""
    return ocp.PyTreeCheckpointHandler(use_compression=False)


def stream_handler() -> ocp.PyTreeCheckpointHandler:
    """As tree_handler, for trees of StreamedArray."""
    registry = ocp.type_handlers.create_type_handler_registry(
        (StreamedArray, StreamHandler()), (jax.Array, ocp.type_handlers.ArrayHandler())
    )
    return ocp.PyTreeCheckpointHandler(use_compression=False, type_handler_registry=registry)


class OrbaxWeights:
    """Weights over the `params` items of a run: a step's, and the frozen weights beside it.

    Args:
        leaves: every parameter with its shape and dtype.
        folders: the Orbax item that holds each parameter.
    """

    def __init__(
        self, leaves: Mapping[Path, jax.ShapeDtypeStruct], folders: Mapping[Path, str | os.PathLike[str]]
    ):
        self.leaves, self._folders = leaves, folders
        self._opened: dict[Path, ts.TensorStore] = {}

    def read(self, path: Path, layer: int | None) -> np.ndarray:
        """See Weights.read."""
        if path not in self._opened:
            folder = os.fspath(self._folders[path])
            base = (folder if "://" in folder else f"file://{folder}") + "/"
            kvstore = {"driver": "ocdbt", "base": base, "path": ".".join(path) + "/"}
            self._opened[path] = ts.open({"driver": "zarr", "kvstore": kvstore}, read=True).result()
        store = self._opened[path]
        return (store if layer is None else store[layer]).read().result()
