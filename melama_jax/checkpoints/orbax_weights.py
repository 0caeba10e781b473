"""Orbax arrays layer by layer: writing through its TypeHandler extension point, reading through TensorStore.

An Orbax tree is a set of Zarr arrays in one OCDBT key-value store, named by the path joined with dots
(https://orbax.readthedocs.io, "Checkpoint format"). Our stacked parameters are stored in chunks of one layer, so a
layer can be written and read without its neighbours.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import tensorstore as ts
from etils import epath
from orbax.checkpoint.future import CommitFutureAwaitingContractedSignals

from melama_jax.checkpoints.damage import Damaged, reading
from melama_jax.checkpoints.fingerprints import Fingerprint, sum_of_bits
from melama_jax.checkpoints.weights import Weights, is_stacked, pieces
from melama_jax.models.params import Path, unflatten


class StreamedArray:
    """A leaf that stands for a parameter not yet read; Orbax saves it piece by piece.

    Args:
        weights: where it is read.
        path: which it is.
        prints: where its fingerprint goes once it is written.
    """

    def __init__(self, weights: Weights, path: Path, prints: dict[Path, Fingerprint]):
        self.weights, self.path, self._prints = weights, path, prints
        self.shape, self.dtype = weights.leaves[path].shape, weights.leaves[path].dtype

    @property
    def chunk(self) -> tuple[int, ...]:
        """Shape of what is stored together: one layer, or all of it."""
        return (1, *self.shape[1:]) if is_stacked(self.path) else self.shape

    async def write(self, store: ts.TensorStore) -> None:
        """Copies the parameter into an open array of its shape; one piece in memory at a time."""
        sums = []
        for layer, piece in pieces(self.weights, self.path):
            written = (store if layer is None else store[layer]).write(piece)
            sums.append(await asyncio.to_thread(sum_of_bits, piece))
            await written
        self._prints[self.path] = Fingerprint(self.dtype.name, tuple(self.shape), tuple(sums))


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


class LateJsonHandler(ocp.JsonCheckpointHandler):
    """Saves a JSON object that is made when all other items are written, so that it may tell of them."""

    def __init__(self) -> None:
        super().__init__()
        self._make: Callable[[], Mapping[str, Any]] = dict

    async def async_save(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, directory: epath.Path, args: LateJsonSave
    ) -> list[Any]:
        """Keeps what makes the object."""
        self._make = args.make
        return []

    def finalize(self, directory: epath.Path) -> None:
        """Called when every item has been written."""
        (directory / "metadata").write_text(json.dumps(self._make()))


@ocp.args.register_with_handler(LateJsonHandler, for_save=True, for_restore=True)
@dataclass
class LateJsonSave(ocp.args.CheckpointArgs):
    """What LateJsonHandler is given: a function of nothing that makes the object."""

    make: Callable[[], Mapping[str, Any]]


def streamed_tree(weights: Weights, prints: dict[Path, Fingerprint]) -> dict[str, Any]:
    """The parameter tree with a StreamedArray at every leaf, to be saved with stream_handler().

    Args:
        weights: what is to be saved.
        prints: filled with every parameter's fingerprint as it is written.
    """
    return unflatten({path: StreamedArray(weights, path, prints) for path in weights.leaves})


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
        prints: the fingerprints of those that have one: what is read is held to them.
    """

    def __init__(
        self,
        leaves: Mapping[Path, jax.ShapeDtypeStruct],
        folders: Mapping[Path, epath.Path],
        prints: Mapping[Path, Fingerprint],
    ):
        self.leaves, self._folders, self._prints = leaves, folders, prints
        self._opened: dict[Path, ts.TensorStore] = {}

    def read(self, path: Path, layer: int | None) -> np.ndarray:
        """See Weights.read; Damaged where it is not what was saved."""
        name = "/".join(path) if layer is None else f"{'/'.join(path)} layer {layer}"
        with reading(self._folders[path], name):
            store = self._open(path)
            array = (store if layer is None else store[layer]).read().result()
        if path in self._prints and sum_of_bits(array) != self._prints[path].sums[layer or 0]:
            raise Damaged(self._folders[path], f"{name}: other bits than were saved")
        return array

    def _open(self, path: Path) -> ts.TensorStore:
        if path not in self._opened:
            folder = os.fspath(self._folders[path])
            base = (folder if "://" in folder else f"file://{folder}") + "/"
            kvstore = {"driver": "ocdbt", "base": base, "path": ".".join(path) + "/"}
            self._opened[path] = ts.open({"driver": "zarr", "kvstore": kvstore}, read=True).result()
        return self._opened[path]
