"""Batches on devices: the same values as on the host, each row read once, on any layout."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from melama_jax.loading.device import global_batches
from melama_jax.loading.loader import FIELDS, Loader
from tests.processes import with_devices


def test_one_device_holds_the_batch(data_dir):
    loader = Loader(data_dir, 4, seed=1)
    sharding = NamedSharding(Mesh(np.array(jax.devices()[:1]), "data"), PartitionSpec("data", None))
    stream = global_batches(loader, sharding, start_step=2)
    for step in (2, 3):
        host, device = loader.batch(step), next(stream)
        for name in FIELDS:
            np.testing.assert_array_equal(np.asarray(device[name]), host[name])
    stream.close()


def test_four_devices_by_rows_and_columns_read_each_row_once(data_dir):
    """In a process of its own: the number of CPU devices is fixed when JAX starts."""
    code = """
        import sys, jax, numpy as np
        from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
        from melama_jax.loading.device import global_batch
        from melama_jax.loading.loader import FIELDS, Loader

        mesh = Mesh(np.array(jax.devices()).reshape(2, 2), ("data", "sequence"))
        loader = Loader(sys.argv[1], 6, seed=1)
        whole = loader.batch(5)
        read = []
        original = loader.batch
        loader.batch = lambda step, rows: (read.append(rows), original(step, rows))[1]
        batch = global_batch(loader, 5, NamedSharding(mesh, P("data", "sequence")))
        for name in FIELDS:
            np.testing.assert_array_equal(np.asarray(batch[name]), whole[name])
            assert batch[name].addressable_shards[0].data.shape == (3, 16)
        assert sorted((r.start, r.stop) for r in read) == [(0, 3), (3, 6)], read
    """
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(data_dir)], env=with_devices(4), check=True
    )
