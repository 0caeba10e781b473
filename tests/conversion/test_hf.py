"""Hugging Face folders in and out: the same bits, the same logits, files that transformers loads."""

from __future__ import annotations

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from melama_jax.checkpoints.store import RunStore
from melama_jax.conversion.hf_export import parse_size, to_hf
from melama_jax.conversion.hf_import import from_hf
from melama_jax.conversion.hf_names import config_from_hf, config_to_hf
from melama_jax.conversion.open import open_model
from melama_jax.errors import InputError
from melama_jax.models.config import LlamaConfig, RopeScaling
from melama_jax.models.families import FAMILIES
from melama_jax.models.llama import Llama
from tests.conversion.models import KINDS, hf_logits, hf_model, raw_tensors, token_ids


def our_logits(directory, ids):
    opened = open_model(directory, dtype="float32")
    positions = np.broadcast_to(np.arange(ids.shape[1], dtype=np.int32), ids.shape)
    model = Llama(opened.card.model, opened.card.lora)
    return np.asarray(jax.jit(model.apply)({"params": opened.params}, ids, positions))


@pytest.mark.parametrize(
    ("shard", "dtype"),
    [("20KB", torch.bfloat16), ("5GB", torch.float32), ("20KB", torch.float16)],
    ids=["sharded-bfloat16", "single-float32", "sharded-float16"],
)
@pytest.mark.parametrize("kind", list(KINDS))
def test_in_and_out_again_gives_the_same_bits(tmp_path, kind, shard, dtype):
    hf_model(kind, dtype).save_pretrained(tmp_path / "in", max_shard_size=shard)
    from_hf(tmp_path / "in", tmp_path / "run")
    to_hf(tmp_path / "run", tmp_path / "out", max_shard_size=shard)
    want = raw_tensors(tmp_path / "in")
    assert raw_tensors(tmp_path / "out") == want
    assert {kept for kept, _, _ in want.values()} == {dtype}
    assert len(list((tmp_path / "out").glob("*.safetensors"))) > 1 or shard == "5GB"
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["torch_dtype"] == str(dtype).removeprefix("torch.")
    brought = json.loads((tmp_path / "in" / "config.json").read_text())
    assert (config["model_type"], config["architectures"]) == (
        brought["model_type"],
        brought["architectures"],
    )


@pytest.mark.parametrize("kind", list(KINDS))
def test_logits_are_those_of_transformers_and_the_export_loads_there(tmp_path, kind):
    theirs = hf_model(kind)
    theirs.save_pretrained(tmp_path / "in")
    from_hf(tmp_path / "in", tmp_path / "run")
    ids = token_ids(theirs.config.vocab_size)
    want = hf_logits(theirs, ids)
    assert want.std() > 0.5
    ours = our_logits(tmp_path / "run", ids)
    assert np.abs(ours - want).max() <= 1e-4
    np.testing.assert_array_equal(our_logits(tmp_path / "in", ids), ours)
    to_hf(tmp_path / "run", tmp_path / "out", max_shard_size="20KB")
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto")
    assert type(loaded) is type(theirs)
    np.testing.assert_array_equal(hf_logits(loaded, ids), want)


def test_the_layout_is_one_step_of_params_and_card_stored_a_layer_at_a_time(tmp_path):
    hf_model("llama2", torch.bfloat16).save_pretrained(tmp_path / "in")
    from_hf(tmp_path / "in", tmp_path / "run")
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["checkpoints"]
    assert sorted(p.name for p in (tmp_path / "run" / "checkpoints" / "0").iterdir() if p.is_dir()) == [
        "card",
        "fingerprints",
        "params",
    ]
    with RunStore(tmp_path / "run", read_only=True) as store:
        assert store.steps() == [0]
        metadata = ocp.PyTreeCheckpointHandler().metadata(store.step_folder(0) / "params").tree
        weights = store.weights(0)
        params, _ = store.restore(0, jax.tree.map(lambda m: jax.ShapeDtypeStruct(m.shape, m.dtype), metadata))
    assert metadata["layers"]["mlp"]["up_proj"]["kernel"].storage.chunk_shape == (1, 32, 56)
    assert weights.leaves["layers", "mlp", "up_proj", "kernel"].dtype == jnp.bfloat16
    # The trainer's own saves are laid out alike, so that they export a layer at a time, too.
    with RunStore(tmp_path / "trained") as store:
        with RunStore(tmp_path / "run", read_only=True) as converted:
            store.save(3, params, None, converted.card(0), blocking=True)
        metadata = ocp.PyTreeCheckpointHandler().metadata(store.step_folder(3) / "params").tree
    assert metadata["layers"]["mlp"]["up_proj"]["kernel"].storage.chunk_shape == (1, 32, 56)
    to_hf(tmp_path / "trained", tmp_path / "out")
    assert raw_tensors(tmp_path / "out") == raw_tensors(tmp_path / "in")


def test_orbax_itself_takes_what_is_streamed_for_a_step_of_its_own(tmp_path):
    hf_model("llama2", torch.bfloat16).save_pretrained(tmp_path / "in")
    from_hf(tmp_path / "in", tmp_path / "run")
    with ocp.CheckpointManager(tmp_path / "run" / "checkpoints") as manager:
        assert manager.all_steps() == [0]
        items = ocp.args.Composite(params=ocp.args.PyTreeRestore(), card=ocp.args.JsonRestore())
        restored = manager.restore(0, args=items)
    opened = open_model(tmp_path / "run")
    assert restored["card"]["model"]["num_layers"] == 3
    assert jax.tree.structure(restored["params"]) == jax.tree.structure(opened.params)
    for theirs, ours in zip(jax.tree.leaves(restored["params"]), jax.tree.leaves(opened.params), strict=True):
        assert theirs.dtype == ours.dtype
        np.testing.assert_array_equal(theirs, ours)
    with RunStore(tmp_path / "trained") as store:
        store.save(0, opened.params, None, opened.card, blocking=True)
    contents = [
        json.loads((tmp_path / run / "checkpoints" / "0" / "_CHECKPOINT_METADATA").read_text())
        for run in ("run", "trained")
    ]
    assert contents[0]["item_handlers"] == contents[1]["item_handlers"]
    assert contents[0].keys() == contents[1].keys()


def test_conversion_reads_one_matrix_at_a_time(tmp_path, monkeypatch):
    from melama_jax.conversion import safetensors_folder

    hf_model().save_pretrained(tmp_path / "in")
    largest, original = 0, np.fromfile

    def watched(*args, **kwargs):
        nonlocal largest
        result = original(*args, **kwargs)
        largest = max(largest, result.size)
        return result

    monkeypatch.setattr(safetensors_folder.np, "fromfile", watched)
    from_hf(tmp_path / "in", tmp_path / "run")
    assert largest == 96 * 32  # the embedding; a stacked parameter would have 3 x 32 x 56


def test_the_export_dtype_rounds_as_torch_does(tmp_path):
    model = hf_model()
    model.save_pretrained(tmp_path / "in")
    for name in ("bfloat16", "float16"):
        to_hf(tmp_path / "in", tmp_path / name, dtype=name)
        model_there = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / name, dtype="auto")
        want = model.state_dict()
        for key, tensor in model_there.state_dict().items():
            assert torch.equal(tensor, want[key].to(getattr(torch, name))), key


def test_pytorch_bin_folders_give_what_safetensors_give(tmp_path):
    model = hf_model("llama2-70b-like", torch.bfloat16)
    model.save_pretrained(tmp_path / "in")
    state = {
        **model.state_dict(),
        "model.layers.1.self_attn.rotary_emb.inv_freq": model.model.rotary_emb.inv_freq,
    }
    for name, save in (("zip", {}), ("legacy", {"_use_new_zipfile_serialization": False})):
        folder = tmp_path / name
        folder.mkdir()
        shutil.copy(tmp_path / "in" / "config.json", folder)
        torch.save(state, folder / "pytorch_model.bin", **save)
    sharded = tmp_path / "sharded"
    sharded.mkdir()
    shutil.copy(tmp_path / "in" / "config.json", sharded)
    names = sorted(state)
    parts = {"a.bin": names[::2], "b.bin": names[1::2]}
    for file, part in parts.items():
        torch.save({key: state[key] for key in part}, sharded / file)
    index = {"weight_map": {key: file for file, part in parts.items() for key in part}}
    (sharded / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    for name in ("zip", "legacy", "sharded"):
        from_hf(tmp_path / name, tmp_path / "run" / name)
        to_hf(tmp_path / "run" / name, tmp_path / "out" / name)
        assert raw_tensors(tmp_path / "out" / name) == raw_tensors(tmp_path / "in")


def test_generation_config_is_carried_over(tmp_path):
    model = hf_model()
    model.generation_config = transformers.GenerationConfig(
        eos_token_id=[5, 7], bos_token_id=3, temperature=0.6, do_sample=True
    )
    model.save_pretrained(tmp_path / "in")
    from_hf(tmp_path / "in", tmp_path / "run")
    to_hf(tmp_path / "run", tmp_path / "out")
    want = json.loads((tmp_path / "in" / "generation_config.json").read_text())
    assert json.loads((tmp_path / "out" / "generation_config.json").read_text()) == want
    assert json.loads((tmp_path / "out" / "config.json").read_text())["eos_token_id"] == [5, 7]
    # A folder without one says its end tokens in config.json.
    (tmp_path / "in" / "generation_config.json").unlink()
    config = json.loads((tmp_path / "in" / "config.json").read_text()) | {"eos_token_id": [8, 9]}
    (tmp_path / "in" / "config.json").write_text(json.dumps(config))
    assert open_model(tmp_path / "in").card.generation_config["eos_token_id"] == [8, 9]


def test_opening_casts_and_shards_as_asked(tmp_path):
    hf_model("llama2", torch.bfloat16).save_pretrained(tmp_path / "in")
    from_hf(tmp_path / "in", tmp_path / "run")
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("fsdp",))
    place = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    for kind in ("in", "run"):
        stored = open_model(tmp_path / kind)
        opened = open_model(
            tmp_path / kind, shardings=jax.tree.map(lambda _: place, stored.params), dtype="float32"
        )
        for a, b in zip(jax.tree.leaves(opened.params), jax.tree.leaves(stored.params), strict=True):
            assert a.sharding == place and a.dtype == jnp.float32 and b.dtype == jnp.bfloat16
            np.testing.assert_array_equal(a, b.astype(jnp.float32))


configs = st.builds(
    lambda heads, group, half, layers, **rest: LlamaConfig(
        num_heads=heads * group, num_kv_heads=heads, head_dim=2 * half, num_layers=layers, **rest
    ),
    heads=st.integers(1, 4),
    group=st.integers(1, 4),
    half=st.integers(1, 64),
    layers=st.integers(1, 90),
    vocab_size=st.integers(1, 200_000),
    embed_dim=st.integers(1, 9000),
    mlp_dim=st.integers(1, 30_000),
    max_seq_len=st.integers(1, 200_000),
    rope_theta=st.floats(1.0, 1e7),
    rope_scaling=st.none()
    | st.builds(RopeScaling, st.floats(1, 64), st.floats(0.5, 2), st.floats(2.5, 8), st.integers(1, 9999)),
    norm_eps=st.floats(1e-8, 1e-3),
    tie_embeddings=st.booleans(),
    family=st.just("llama"),
) | st.builds(
    lambda family, window, layers: LlamaConfig(96, 32, 56, layers, 4, 2, 8, 64, family=family, window=window),
    family=st.sampled_from(sorted(name for name, family in FAMILIES.items() if family.window_fields)),
    window=st.none() | st.integers(1, 200_000),
    layers=st.integers(1, 90),
)


@given(configs, st.sampled_from(["float32", "bfloat16"]))
@settings(max_examples=60, deadline=None)
def test_config_json_says_all_that_a_config_says(config, dtype):
    assert config_from_hf(json.loads(json.dumps(config_to_hf(config, dtype))), "config.json") == config


def test_config_json_of_both_transformers_generations_is_read():
    five = hf_model("llama3-like").config.to_dict()
    four = {key: value for key, value in five.items() if key != "rope_parameters"}
    scaling = {key: value for key, value in five["rope_parameters"].items() if key != "rope_theta"}
    four |= {"rope_theta": 500000.0, "rope_scaling": scaling}
    for fields in (four, five):
        fields["architectures"] = ["LlamaForCausalLM"]
    assert config_from_hf(four, "") == config_from_hf(five, "")
    first = {key: four[key] for key in ("model_type", "vocab_size", "hidden_size", "intermediate_size")}
    llama1 = config_from_hf(
        {**first, "num_hidden_layers": 2, "num_attention_heads": 4, "rope_scaling": None}, ""
    )
    assert (llama1.num_kv_heads, llama1.head_dim, llama1.rope_theta, llama1.norm_eps) == (4, 8, 10000.0, 1e-6)


@pytest.mark.parametrize("kind", [transformers.MistralConfig, transformers.Qwen2Config])
def test_what_a_config_json_leaves_out_is_what_transformers_takes(kind):
    """Files of old leave fields out; transformers' own configuration class says what that means."""
    said = {"num_hidden_layers": 3, "hidden_size": 256, "num_attention_heads": 32}
    theirs = kind(**said)
    said |= {"vocab_size": theirs.vocab_size, "intermediate_size": theirs.intermediate_size}
    ours = config_from_hf({"model_type": kind.model_type, **said}, "")
    assert (ours.num_kv_heads, ours.max_seq_len) == (
        theirs.num_key_value_heads,
        theirs.max_position_embeddings,
    )
    assert (ours.window, ours.norm_eps) == (theirs.sliding_window, theirs.rms_norm_eps)


def test_layers_that_differ_in_their_window_are_refused_and_layers_that_agree_are_not():
    def window(**said):
        return config_from_hf(transformers.Qwen2Config(num_hidden_layers=4, **said).to_dict(), "there").window

    assert window(use_sliding_window=True, sliding_window=5, max_window_layers=0) == 5
    assert window(use_sliding_window=True, sliding_window=5, max_window_layers=4) is None
    assert window(sliding_window=5, max_window_layers=0) is None
    with pytest.raises(InputError, match="there: found layers with a sliding window = 3 of 4"):
        window(use_sliding_window=True, sliding_window=5, max_window_layers=1)


def test_a_config_from_before_there_were_families_is_a_llama():
    fields = {**LlamaConfig(96, 32, 56, 1, 4, 2, 8, 64).to_dict()}
    del fields["family"], fields["window"]
    assert LlamaConfig.from_dict(fields) == LlamaConfig(96, 32, 56, 1, 4, 2, 8, 64)


@pytest.mark.parametrize(
    ("text", "size"), [("5GB", 5 * 10**9), ("1.5 MiB", 3 * 2**19), ("20kb", 20000), (7, 7)]
)
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "0", "5XB", "-1GB"])
def test_sizes_that_are_none(text):
    with pytest.raises(InputError, match="max-shard-size"):
        parse_size(text)
