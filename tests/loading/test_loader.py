"""The loader: batch = f(seed, step); shares really delivered; only asked rows read; bad input said."""

from __future__ import annotations

import itertools
import shutil
from collections import Counter

import numpy as np
import pytest

from melama_jax.errors import InputError
from melama_jax.loading.loader import FIELDS, Loader, heldout_batches
from melama_jax.records.manifest import Manifest

DOMAINS = ("biomedical", "clinical", "general")


def equal(a, b) -> bool:
    return all(np.array_equal(a[name], b[name]) for name in FIELDS)


def count(batches) -> Counter:
    """Non-padding tokens by domain, told by the token values (EOS counts for the value before it)."""
    tokens = Counter()
    for batch in batches:
        for row, segments in zip(batch["tokens"], batch["segment_ids"], strict=True):
            used = row[segments > 0]
            tokens[DOMAINS[int(used.max()) // 1000]] += len(used)
    return tokens


def test_shapes_and_types(data_dir):
    batch = Loader(data_dir, 4).batch(0)
    assert {name: (array.shape, array.dtype.name) for name, array in batch.items()} == {
        "tokens": ((4, 32), "int32"),
        "segment_ids": ((4, 32), "int32"),
        "positions": ((4, 32), "int32"),
        "weights": ((4, 32), "float32"),
    }


def test_a_batch_depends_on_seed_and_step_alone(data_dir):
    steps = [5, 0, 1000, 5, 3]
    first, second = Loader(data_dir, 6, seed=3), Loader(data_dir, 6, seed=3)
    forward = {step: first.batch(step) for step in sorted(set(steps))}
    assert all(equal(second.batch(step), forward[step]) for step in steps)
    assert not equal(forward[0], forward[5])
    assert not equal(Loader(data_dir, 6, seed=4).batch(0), forward[0])


def test_the_order_of_records_does_not_depend_on_the_batch_size(data_dir):
    whole = Loader(data_dir, 12, seed=1).batch(2)
    halves = [Loader(data_dir, 6, seed=1).batch(step) for step in (4, 5)]
    assert equal(whole, {name: np.concatenate([half[name] for half in halves]) for name in FIELDS})


def test_rows_are_a_slice_of_the_batch_and_no_others_are_read(data_dir):
    loader = Loader(data_dir, 8, seed=1)
    whole = loader.batch(7)
    part = loader.batch(7, slice(2, 5))
    assert equal(part, {name: whole[name][2:5] for name in FIELDS})

    class Counting:
        def __init__(self, records):
            self.records, self.asked = records, []

        def __getitem__(self, index):
            self.asked.append(index)
            return self.records[index]

    counting = Counting(loader._records)
    loader._records = counting
    loader.batch(7, slice(2, 5))
    assert counting.asked == [7 * 8 + 2, 7 * 8 + 3, 7 * 8 + 4]


def test_batches_ahead_are_the_same_batches(data_dir):
    loader = Loader(data_dir, 4, seed=9)
    stream = loader.batches(start_step=3, rows=slice(1, 3), ahead=3)
    for step, batch in enumerate(itertools.islice(stream, 10), start=3):
        assert equal(batch, loader.batch(step, slice(1, 3)))
    stream.close()


def test_every_record_goes_by_once_an_epoch_in_an_order_of_its_own(data_dir):
    loader = Loader(data_dir, 1, seed=2, rates={"general": 1})
    records = loader.manifest.pools()["general"].records
    epochs = [
        Counter(loader.batch(step)["tokens"].tobytes() for step in range(start, start + records))
        for start in (0, records)
    ]
    assert epochs[0] == epochs[1]
    ids = [[tuple(loader.document_ids(s)) for s in range(start, start + records)] for start in (0, records)]
    assert sorted(ids[0]) == sorted(ids[1]) and ids[0] != ids[1]


def test_shares_really_delivered_are_the_manifests_and_those_asked_for(data_dir):
    loader = Loader(data_dir, 1, seed=5)
    mixture = loader.manifest.mixture
    tokens = count(loader.batch(step) for step in range(mixture.records))
    for domain, asked in zip(DOMAINS, (0.75, 0.05, 0.20), strict=True):
        share = mixture.domains[domain]
        assert share.asked == pytest.approx(asked)
        assert share.delivered == pytest.approx(asked, abs=0.001)
        # clinical records hold 4 to 32 tokens here: a part of an epoch may stray by one record's worth
        assert tokens[domain] == pytest.approx(share.tokens, abs=32)


def test_long_run_token_shares_are_exact_whatever_the_padding(data_dir):
    loader = Loader(data_dir, 50, seed=0)
    tokens = count(loader.batch(step) for step in range(60))
    total = sum(tokens.values())
    for domain, asked in zip(DOMAINS, (0.75, 0.05, 0.20), strict=True):
        assert tokens[domain] / total == pytest.approx(asked, abs=0.001)


def test_rates_override_the_manifest_and_zero_drops_a_domain(data_dir):
    tokens = count(
        Loader(data_dir, 50, rates={"biomedical": 1, "general": 1, "clinical": 0}).batch(s) for s in range(40)
    )
    assert tokens["clinical"] == 0
    assert tokens["biomedical"] / sum(tokens.values()) == pytest.approx(0.5, abs=0.01)


def test_document_ids_name_the_documents_of_the_batch(data_dir):
    loader = Loader(data_dir, 5, seed=1)
    batch = loader.batch(3)
    rows = zip(batch["tokens"], batch["segment_ids"], strict=True)
    ids = loader.document_ids(3)
    assert len(ids) == int(batch["segment_ids"].max(axis=1).sum())
    first_tokens = [row[segments == s][0] for row, segments in rows for s in range(1, segments.max() + 1)]
    names = list(loader.manifest.sources)
    for number, token in zip(ids, first_tokens, strict=True):
        if token != 2:  # a segment that starts with end-of-text has no value to tell by
            assert names[number >> 40].domain == DOMAINS[token // 1000]


@pytest.mark.parametrize(
    "rates", [{"surgical": 1}, {"biomedical": -1}, {"biomedical": float("nan")}, {"biomedical": 0}, {}]
)
def test_bad_rates_are_bad_input(data_dir, rates):
    with pytest.raises(InputError, match="rates"):
        Loader(data_dir, 2, rates=rates)


def test_heldout_comes_once_in_order_filled_with_rows_of_no_weight(data_dir):
    batches = list(heldout_batches(data_dir, "biomedical", 4))
    held = [source.heldout for source in Manifest.read(data_dir).sources if source.domain == "biomedical"]
    assert all(batch["tokens"].shape == (4, 32) for batch in batches)
    assert sum(float(batch["weights"].sum()) for batch in batches) == sum(split.kept.tokens for split in held)
    rows = sum(split.records for split in held)
    assert len(batches) == -(-rows // 4)
    last = batches[-1]
    assert (last["segment_ids"][rows % 4 or 4 :] == 0).all() and (last["weights"][rows % 4 or 4 :] == 0).all()
    with pytest.raises(InputError, match="held-out"):
        heldout_batches(data_dir, "surgical", 4)


def test_damaged_data_folders_are_bad_input(data_dir, tmp_path):
    with pytest.raises(InputError, match="melama data build"):
        Loader(tmp_path / "nothing", 2)
    copy = shutil.copytree(data_dir, tmp_path / "copy")
    shard = copy / Manifest.read(copy).sources[0].train.shards[0].path
    content = shard.read_bytes()
    shard.unlink()
    with pytest.raises(InputError, match="no such file"):
        Loader(copy, 2)
    shard.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError):
        Loader(copy, 2)
    shard.write_bytes((copy / "train/web-00000.array_record").read_bytes())
    with pytest.raises(InputError, match="records"):
        Loader(copy, 2)
