"""RunStore: a run's checkpoints on Orbax, asynchronous and whole or not there at all.

Layout: DIR/checkpoints/STEP/{params,train_state,card}, and DIR/frozen for the weights a LoRA run never changes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path as FilePath
from types import TracebackType
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint import checkpoint_managers as policies

from melama_jax.checkpoints.card import ModelCard
from melama_jax.checkpoints.orbax_weights import OrbaxWeights, tree_handler
from melama_jax.checkpoints.weights import is_stacked
from melama_jax.errors import InputError
from melama_jax.models.params import Params, Path, flatten, unflatten


class RunStore:
    """The checkpoints of one run folder.

    Args:
        directory: the run folder, local or gs://.
        keep_last: how many of the newest steps stay.
        keep_every: steps that are multiples of it stay too; None or 0 for none.
        read_only: for looking into a run that another process may be writing: makes, changes and cleans nothing.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        keep_last: int = 1,
        keep_every: int | None = None,
        read_only: bool = False,
    ):
        path = epath.Path(directory)
        self.directory = path if "://" in str(path) else epath.Path(FilePath(path).absolute())
        self._read_only = read_only
        self._manager = ocp.CheckpointManager(
            self.directory / "checkpoints",
            item_handlers={
                "params": tree_handler(),
                "train_state": tree_handler(),
                "card": ocp.JsonCheckpointHandler(),
            },
            options=ocp.CheckpointManagerOptions(
                preservation_policy=_preservation(keep_last, keep_every),
                create=not read_only,
                cleanup_tmp_directories=not read_only,
            ),
        )

    def steps(self) -> list[int]:
        """The finished steps, in order."""
        return sorted(self._manager.all_steps())

    def latest_step(self) -> int | None:
        """The newest finished step, or None."""
        return max(self._manager.all_steps(), default=None)

    def save(
        self, step: int, params: Params, train_state: Any, card: ModelCard, blocking: bool = False
    ) -> None:
        """Saves a step; returns once the arrays are copied, so that the caller may donate them.

        A step that is already there is left as it is: a run is deterministic, so it holds the same bits.

        Args:
            step: optimizer steps done.
            params: the parameter tree, without what save_frozen holds.
            train_state: any tree of arrays and numbers, or None.
            card: what describes the model.
            blocking: wait until everything is on disk.
        """
        self._require_writable()
        if step not in self._manager.all_steps():
            items: dict[str, Any] = {
                "params": _save_params(params),
                "card": ocp.args.JsonSave(card.to_json()),
            }
            if train_state is not None:
                items["train_state"] = ocp.args.PyTreeSave(train_state)
            self._manager.save(step, args=ocp.args.Composite(**items), force=True)
        if blocking:
            self.wait()

    def save_frozen(self, params: Params) -> None:
        """Stores the weights that no step will change; waits until they are on disk.

        Until the first step is saved they may be stored again (a run that was stopped before it); after that steps
        rest on them, and ValueError is raised.
        """
        if self.latest_step() is not None:
            raise ValueError(
                f"{self.directory}: steps rest on its frozen weights; they cannot be stored again"
            )
        with ocp.Checkpointer(tree_handler()) as checkpointer:
            checkpointer.save(self.directory / "frozen", args=_save_params(params), force=True)

    def card(self, step: int) -> ModelCard:
        """The card of a finished step."""
        restored = self._manager.restore(step, args=ocp.args.Composite(card=ocp.args.JsonRestore()))
        return ModelCard.from_json(restored["card"])

    def weights(self, step: int) -> OrbaxWeights:
        """The parameters of a finished step, the frozen ones with them, to be read layer by layer."""
        return OrbaxWeights(*self._stored(step))

    def restore(
        self, step: int, abstract_params: Params, abstract_train_state: Any = None
    ) -> tuple[Params, Any]:
        """Reads a step straight into its shards, bit for bit where the dtype asked for is the one stored.

        Args:
            step: a finished step.
            abstract_params: tree of jax.ShapeDtypeStruct, with shardings (None: the first device), of all the
                parameters wanted; frozen ones come from DIR/frozen.
            abstract_train_state: as was saved, with jax.ShapeDtypeStruct for arrays; None leaves it unread.

        Returns:
            (params, train_state), of the same structure.

        Raises:
            InputError: a parameter is not stored or has another shape.
        """
        leaves, folders = self._stored(step)
        wanted = flatten(abstract_params)
        for path, leaf in wanted.items():
            found = f"shape {leaves[path].shape}" if path in leaves else "nothing"
            if path not in leaves or leaves[path].shape != leaf.shape:
                raise InputError(
                    f"{self._step_folder(step)} {'/'.join(path)}", f"{found} stored", f"shape {leaf.shape}"
                )
        frozen = {path: leaf for path, leaf in wanted.items() if folders[path] == self._frozen}
        here = {path: leaf for path, leaf in wanted.items() if path not in frozen}
        items = {"params": _restore(unflatten(here), partial=True)}
        if abstract_train_state is not None:
            items["train_state"] = _restore(abstract_train_state)
        restored = self._manager.restore(step, args=ocp.args.Composite(**items))
        params = flatten(restored["params"])
        if frozen:
            with ocp.Checkpointer(tree_handler()) as checkpointer:
                args = _restore(unflatten(frozen), partial=True)
                params |= flatten(checkpointer.restore(self._frozen, args=args))
        return unflatten(params), restored.get("train_state")

    def wait(self) -> None:
        """Returns when every save has ended; raises what went wrong in one."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits, then lets go of threads."""
        self._manager.close()

    def __enter__(self) -> RunStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _require_writable(self) -> None:
        if self._read_only:
            raise ValueError(f"{self.directory} was opened to be read only")

    @property
    def _frozen(self) -> epath.Path:
        return self.directory / "frozen"

    def _step_folder(self, step: int) -> epath.Path:
        return self.directory / "checkpoints" / str(step)

    def _stored(self, step: int) -> tuple[dict[Path, jax.ShapeDtypeStruct], dict[Path, epath.Path]]:
        """Every parameter of a step with its shape and dtype, and the Orbax item that holds it."""
        folder = self._step_folder(step) / "params"
        leaves = _leaves(self._manager.item_metadata(step)["params"])
        folders = dict.fromkeys(leaves, folder)
        if self._frozen.exists():
            with ocp.Checkpointer(tree_handler()) as checkpointer:
                frozen = _leaves(checkpointer.metadata(self._frozen).item_metadata)
            folders = dict.fromkeys(frozen, self._frozen) | folders
            leaves = frozen | leaves
        return leaves, folders


def _preservation(keep_last: int, keep_every: int | None) -> policies.PreservationPolicy:
    latest = policies.LatestN(keep_last)
    if not keep_every:
        return latest
    return policies.AnyPreservationPolicy([latest, policies.EveryNSteps(keep_every)])


def _save_params(params: Params) -> Any:
    """Arguments that store stacked parameters in chunks of one layer, so that a layer can be read alone."""
    save_args = {path: ocp.SaveArgs(shard_axes=(0,) if is_stacked(path) else ()) for path in flatten(params)}
    return ocp.args.PyTreeSave(params, save_args=unflatten(save_args))


def _restore(abstract: Any, partial: bool = False) -> Any:
    """Arguments that restore to the shapes, dtypes and shardings of a tree of jax.ShapeDtypeStruct."""
    first = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])

    def placed(leaf: Any) -> Any:
        if isinstance(leaf, jax.ShapeDtypeStruct) and leaf.sharding is None:
            return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=first)
        return leaf

    abstract = jax.tree.map(placed, abstract)
    restore_args = ocp.checkpoint_utils.construct_restore_args(abstract)
    return ocp.args.PyTreeRestore(abstract, restore_args=restore_args, partial_restore=partial)


def _leaves(metadata: Any) -> dict[Path, jax.ShapeDtypeStruct]:
    tree: Mapping[str, Any] = metadata.tree
    return {path: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for path, leaf in flatten(dict(tree)).items()}
