"""Shards on disk -> random access to records, through Grain."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import grain

from melama_jax.errors import InputError
from melama_jax.records.manifest import Manifest, Shard
from melama_jax.records.mixture import Interleave, interleave
from melama_jax.records.record import Record


class _Interleaved(grain.transforms.DatasetSelectionMap):
    """Our exact interleaving as Grain's selection map."""

    def __init__(self, mix: Interleave):
        self._mix = mix

    def __len__(self) -> int:
        return 2**62

    def __getitem__(self, index: int) -> tuple[int, int]:
        return self._mix.slot(index)


class Records(Protocol):
    """Random access to records; what a Grain dataset of them is."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Record: ...


def read_records(data_dir: Path, shards: Sequence[Shard]) -> Records:
    """The records of `shards` in order; InputError where a file is not the manifest's."""
    return cast(Records, _open(data_dir, shards))


def mixed_records(
    data_dir: Path, manifest: Manifest, rates: Mapping[str, float] | None, seed: int
) -> Records:
    """The endless training mixture: element k is a pure function of (seed, k).

    Each domain's records are shuffled anew each epoch; domains interleave by their share of the tokens.
    """
    names, mix = interleave(manifest.pools(), rates)
    domains = []
    for name in names:
        sources = [source for source in manifest.sources if source.domain == name]
        shards = itertools.chain.from_iterable(source.train.shards * source.repeat for source in sources)
        domains.append(_open(data_dir, tuple(shards)).shuffle(seed=_seed(seed, name)).repeat())
    return cast(Records, grain.MapDataset.select_from_datasets(domains, _Interleaved(mix)))


def _seed(seed: int, domain: str) -> int:
    """32 bits a domain: Grain adds the epoch to them, so seeds next to each other would share epochs."""
    return int.from_bytes(hashlib.blake2b(f"{seed} {domain}".encode(), digest_size=4).digest(), "big")


def _open(data_dir: Path, shards: Sequence[Shard]) -> grain.MapDataset:
    for shard in dict.fromkeys(shards):
        path = data_dir / shard.path
        if not path.is_file():
            raise InputError(path, "no such file", f"the shard of {shard.records} records the manifest names")
    try:
        source: Any = grain.sources.ArrayRecordDataSource(
            [os.fspath(data_dir / shard.path) for shard in shards]
        )
    except (RuntimeError, ValueError) as error:
        raise InputError(data_dir, f"a shard that cannot be read ({error})", "the shards as built") from error
    if len(source) != (promised := sum(shard.records for shard in shards)):
        raise InputError(
            data_dir, f"{len(source)} records in {shards[0].path} ...", f"{promised} by the manifest"
        )
    return grain.MapDataset.source(source).map(Record.from_bytes)
