"""On a mesh of four devices, arrays come straight into their shards from both kinds of folder."""

from __future__ import annotations

import subprocess
import sys

from tests.conversion.models import hf_model
from tests.processes import with_devices

PROGRAM = """
import sys
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import NamedSharding, PartitionSpec as P
from melama_jax.conversion.hf_import import from_hf
from melama_jax.conversion.open import open_model
from melama_jax.checkpoints.store import RunStore

source, run, again = sys.argv[1:]
from_hf(source, run)
mesh = jax.make_mesh((2, 2), ("fsdp", "tensor"))
plain = open_model(source).params
specs = {1: P("fsdp"), 2: P("tensor", "fsdp"), 3: P(None, "fsdp", "tensor")}
shardings = jax.tree.map(lambda x: NamedSharding(mesh, specs[x.ndim]), plain)
shardings["layers"]["attention"]["k_proj"]["kernel"] = NamedSharding(mesh, P("fsdp"))  # over the layers, replicated
opened = [open_model(folder, shardings).params for folder in (source, run)]
with RunStore(again) as store:  # saved from its shards, read with another layout
    store.save(1, opened[1], None, open_model(source).card, blocking=True)
    abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(mesh, P())), plain)
    opened.append(store.restore(1, abstract)[0])
    opened.append(jax.tree.map(np.asarray, open_model(again).params))
    weights = store.weights(1)
    up = weights.read(("layers", "mlp", "up_proj", "kernel"), 1)
    np.testing.assert_array_equal(up, plain["layers"]["mlp"]["up_proj"]["kernel"][1])
for params in opened[:2]:
    for got, place in zip(jax.tree.leaves(params), jax.tree.leaves(shardings), strict=True):
        assert got.sharding == place, (got.sharding, place)
        assert len(got.addressable_shards) == 4
for params in opened:
    for got, want in zip(jax.tree.leaves(params), jax.tree.leaves(plain), strict=True):
        np.testing.assert_array_equal(np.asarray(got), np.asarray(want))
assert not {"torch", "transformers"} & set(sys.modules)  # neither is needed for safetensors
"""


def test_arrays_come_straight_into_their_shards(tmp_path):
    model = hf_model("llama2-70b-like")
    model.model.layers = model.model.layers[:2]
    model.config.num_hidden_layers = 2
    model.save_pretrained(tmp_path / "hf")
    folders = [str(tmp_path / name) for name in ("hf", "run", "again")]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *folders], env=with_devices(4), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
