"""T5X's two kinds of checkpoint as model directories, made here as T5X makes them, without T5X."""

from __future__ import annotations

import json
from pathlib import Path

import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp
import pytest
import tensorstore as ts
from flax import serialization

from melama_jax.checkpoints.card import ModelCard
from melama_jax.checkpoints.weights import expected_leaves
from melama_jax.conversion.conversion_folder import Journal
from melama_jax.conversion.open import open_model
from melama_jax.conversion.t5x_checkpoint import from_t5x, write_card
from melama_jax.errors import InputError
from melama_jax.models.config import LlamaConfig
from melama_jax.models.params import flatten, unflatten

CONFIG = LlamaConfig(40, 16, 24, 3, 4, 2, 4, 32)
FLOAT32, BFLOAT16 = np.dtype(np.float32), np.dtype(ml_dtypes.bfloat16)
QUERY = ("layers", "attention", "q_proj", "kernel")


def random_arrays(dtype: np.dtype = FLOAT32) -> dict:
    rng = np.random.default_rng(0)
    return {path: rng.normal(size=leaf.shape).astype(dtype) for path, leaf in expected_leaves(CONFIG).items()}


def save_orbax(model_dir: Path, arrays: dict, step: int = 3) -> Path:
    """As T5X's OrbaxCheckpointManagerInterface: optimizer state beside the parameters."""
    tree = {"target": unflatten(arrays), "state": {"step": np.int32(step), "mu": unflatten(arrays)}}
    folder = model_dir / f"checkpoint_{step}"
    handler = ocp.CompositeCheckpointHandler(state=ocp.PyTreeCheckpointHandler())
    with ocp.Checkpointer(handler) as checkpointer:
        checkpointer.save(folder, args=ocp.args.Composite(state=ocp.args.PyTreeSave(tree)))
    return folder


def save_msgpack(model_dir: Path, arrays: dict, step: int = 3, places: dict | None = None) -> Path:
    """As T5X's Checkpointer: gzipped Zarr arrays of several chunks, relative paths, norms in the file itself."""
    folder, entries = model_dir / f"checkpoint_{step}", {}
    folder.mkdir(parents=True)
    for path, array in arrays.items():
        if path[-1] == "scale" and array.dtype == np.float32:
            entries[path] = array
            continue
        name = ".".join(("target", *path))
        chunks = [max(1, -(-size // 2)) for size in array.shape]
        metadata = {"compressor": {"id": "gzip"}, "chunks": chunks}
        kvstore = {"driver": "file", "path": f"{folder / name}/"}
        spec = {"driver": "zarr", "kvstore": kvstore, "metadata": metadata}
        store = ts.open(spec, create=True, dtype=array.dtype.name, shape=array.shape).result()
        store.write(array).result()
        kvstore = {"driver": "file", "path": (places or {}).get(path, name)}
        entries[path] = {
            "driver": "zarr",
            "dtype": array.dtype.name,
            "kvstore": kvstore,
            "metadata": metadata,
        }
    tree = {"target": unflatten(entries), "state": {"step": np.int32(step)}}
    (folder / "checkpoint").write_bytes(serialization.to_bytes({"version": 3, "optimizer": tree}))
    return folder


SAVE = {"orbax": save_orbax, "msgpack": save_msgpack}


@pytest.mark.parametrize("dtype", [FLOAT32, BFLOAT16], ids=str)
@pytest.mark.parametrize("kind", SAVE)
def test_every_bit_arrives_in_the_stored_dtype(kind, dtype, tmp_path):
    SAVE[kind](tmp_path / "run", random_arrays(), step=2)
    SAVE[kind](tmp_path / "run", random_arrays(dtype), step=10)
    write_card(tmp_path / "run", ModelCard(CONFIG))
    from_t5x(tmp_path / "run", tmp_path / "model")  # the newest, by number
    opened = open_model(tmp_path / "model")
    assert opened.card == ModelCard(CONFIG, dtype=dtype.name)
    found = flatten(opened.params)
    for path, array in random_arrays(dtype).items():
        assert found[path].dtype == dtype and np.asarray(found[path]).tobytes() == array.tobytes()
    assert {one.name for one in tmp_path.iterdir()} == {"run", "model"}


def test_what_was_killed_leaves_nothing_once_it_is_done(tmp_path, monkeypatch):
    """A kill leaves the parameter that is laid out anew; the same command goes on, and it is gone."""

    class Killed(BaseException):
        pass

    def add(self, finished) -> None:
        noted(self, finished)
        if len(self.done) > 8:
            raise Killed

    save_orbax(tmp_path / "run", random_arrays())
    write_card(tmp_path / "run", ModelCard(CONFIG))
    noted = Journal.add
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Journal, "add", add)
        from_t5x(tmp_path / "run", tmp_path / "model")
    assert {one.name for one in tmp_path.iterdir()} == {"run", "model.partial"}
    assert (tmp_path / "model.partial" / "scratch").is_dir()
    from_t5x(tmp_path / "run", tmp_path / "model")
    found = flatten(open_model(tmp_path / "model").params)
    assert all(np.array_equal(found[path], array) for path, array in random_arrays().items())
    assert {one.name for one in tmp_path.iterdir()} == {"run", "model"}


def test_a_model_directory_says_what_a_checkpoint_without_a_card_is(tmp_path):
    folder = save_orbax(tmp_path / "run", random_arrays())
    with pytest.raises(InputError, match=r"melama_card\.json: found no such file; expected .*--model DIR"):
        from_t5x(folder, tmp_path / "model")
    write_card(tmp_path / "run", ModelCard(CONFIG))
    from_t5x(folder, tmp_path / "base")
    (tmp_path / "run" / "melama_card.json").unlink()
    from_t5x(folder, tmp_path / "model", tmp_path / "base")
    assert open_model(tmp_path / "model").card.model == CONFIG


def without_query(arrays: dict) -> dict:
    return {path: array for path, array in arrays.items() if path != QUERY}


WRONG_TREES = {
    "missing": (without_query, "no parameter layers/attention/q_proj/kernel"),
    "unknown": (
        lambda arrays: arrays | {("layers", "bias"): arrays[QUERY]},
        "an unknown parameter layers/bias",
    ),
    "shape": (lambda arrays: arrays | {QUERY: arrays[QUERY][:2]}, r"q_proj/kernel of shape \(2, 16, 16\)"),
}


@pytest.mark.parametrize("wrong", WRONG_TREES)
@pytest.mark.parametrize("kind", SAVE)
def test_another_model_s_parameters_are_named(kind, wrong, tmp_path):
    change, said = WRONG_TREES[wrong]
    SAVE[kind](tmp_path / "run", change(random_arrays()))
    write_card(tmp_path / "run", ModelCard(CONFIG))
    refused(tmp_path, said)


def refused(tmp_path: Path, said: str) -> None:
    """from_t5x says it in one line, and leaves nothing."""
    with pytest.raises(InputError, match=said) as caught:
        from_t5x(tmp_path / "run", tmp_path / "model")
    assert "\n" not in str(caught.value)
    assert {one.name for one in tmp_path.iterdir()} - {"elsewhere"} == {"run"}


@pytest.mark.parametrize("place", ["../elsewhere", "/etc", "target.layers.mlp.up_proj.kernel", 7])
def test_an_index_is_followed_to_its_own_arrays_only(place, tmp_path):
    save_msgpack(tmp_path / "run", random_arrays(), places={QUERY: place})
    write_card(tmp_path / "run", ModelCard(CONFIG))
    refused(tmp_path, r"q_proj/kernel: found stored at")


def cut_array(folder: Path) -> None:
    chunk = next(
        file for file in sorted(folder.glob("target.*up_proj.kernel/*")) if not file.name.startswith(".")
    )
    chunk.write_bytes(chunk.read_bytes()[: chunk.stat().st_size // 2])


MSGPACK_DAMAGE = {
    "an array's file cut": (cut_array, "layers/mlp/up_proj/kernel"),
    "an array's folder gone": (
        lambda folder: (folder / "target.lm_head.kernel" / ".zarray").unlink(),
        "lm_head/kernel",
    ),
    "the index cut": (
        lambda folder: (folder / "checkpoint").write_bytes((folder / "checkpoint").read_bytes()[:99]),
        "checkpoint: ",
    ),
    "a pickle": (
        lambda folder: (folder / "checkpoint").write_bytes(b"\x80\x04cos\nsystem\n."),
        "checkpoint: ",
    ),
    "no parameters": (
        lambda folder: (folder / "checkpoint").write_bytes(serialization.to_bytes({"version": 3})),
        "optimizer",
    ),
}


@pytest.mark.parametrize("damage", MSGPACK_DAMAGE)
def test_a_damaged_msgpack_checkpoint_is_refused_by_name(damage, tmp_path):
    spoil, said = MSGPACK_DAMAGE[damage]
    spoil(save_msgpack(tmp_path / "run", random_arrays()))
    write_card(tmp_path / "run", ModelCard(CONFIG))
    refused(tmp_path, said)


def test_a_damaged_orbax_checkpoint_is_refused(tmp_path):
    folder = save_orbax(tmp_path / "run", random_arrays())
    write_card(tmp_path / "run", ModelCard(CONFIG))
    largest = max((folder / "state").rglob("d/*"), key=lambda file: file.stat().st_size)
    largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])
    refused(tmp_path, "checkpoint_3: found a damaged checkpoint")


def test_what_is_no_t5x_checkpoint_is_said(tmp_path):
    (tmp_path / "run").mkdir()
    refused(tmp_path, "run: found neither state/ nor a file `checkpoint`")
    with pytest.raises(InputError, match="found nothing there"):
        from_t5x(tmp_path / "nowhere", tmp_path / "model")
    save_orbax(tmp_path / "run", random_arrays())
    for card in ("{", json.dumps({"model": 1}), json.dumps([1])):
        (tmp_path / "run" / "melama_card.json").write_text(card)
        refused(tmp_path, r"melama_card\.json")
