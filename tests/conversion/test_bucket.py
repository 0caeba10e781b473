"""Conversion to and from gs://, on a bucket that is a local folder."""

from __future__ import annotations

import pytest

from melama_jax.conversion.conversion_folder import JOURNAL, Journal
from melama_jax.conversion.hf_export import to_hf
from melama_jax.conversion.hf_import import from_hf
from melama_jax.conversion.open import open_weights
from melama_jax.errors import InputError
from tests.conversion.bucket import local_buckets
from tests.conversion.models import hf_model, raw_tensors

RUN, OUT = "gs://bucket/models/run", "gs://bucket/models/out"


class Killed(BaseException):
    """Ends a conversion as a kill would: nothing of ours runs after it."""


def cut_off(monkeypatch, convert, after: int) -> None:
    """Ends a conversion when it has noted some of its tensors."""
    with monkeypatch.context() as patch:
        add = Journal.add

        def counted(self, finished):
            add(self, finished)
            if len(self.done) >= after:
                raise Killed

        patch.setattr(Journal, "add", counted)
        with pytest.raises(Killed):
            convert()


def test_to_a_bucket_and_back_and_on_where_it_was_cut_off(tmp_path, monkeypatch):
    hf_model("llama2").save_pretrained(tmp_path / "in")
    bucket = tmp_path / "bucket" / "models"
    with local_buckets(tmp_path):
        cut_off(monkeypatch, lambda: from_hf(tmp_path / "in", RUN), after=11)
        assert (bucket / "run" / JOURNAL).exists()
        with pytest.raises(InputError, match="no finished checkpoint"):
            open_weights(RUN)
        written = {path: path.stat().st_mtime_ns for path in bucket.rglob("ocdbt.process_0/d/*")}
        assert len(written) >= 11
        from_hf(tmp_path / "in", RUN)
        assert {path: path.stat().st_mtime_ns for path in written} == written
        with pytest.raises(InputError, match="not empty"):
            from_hf(tmp_path / "in", RUN)

        cut_off(monkeypatch, lambda: to_hf(RUN, OUT, max_shard_size="20KB"), after=11)
        with pytest.raises(InputError, match="neither"):
            open_weights(OUT)
        shard = bucket / "out" / "model-00001-of-00008.safetensors"
        before = shard.stat().st_mtime_ns
        to_hf(RUN, OUT, max_shard_size="20KB")
        assert shard.stat().st_mtime_ns == before
    assert not list(bucket.rglob(JOURNAL))
    assert raw_tensors(bucket / "out") == raw_tensors(tmp_path / "in")
    to_hf(bucket / "run", tmp_path / "local")  # the same files are a local model directory
    assert raw_tensors(tmp_path / "local") == raw_tensors(tmp_path / "in")


def test_a_source_in_a_bucket_is_to_be_mounted(tmp_path):
    with pytest.raises(InputError, match=r"gs://bucket/in.*a mounted bucket"):
        from_hf("gs://bucket/in", tmp_path / "run")


def test_a_file_of_the_journals_name_that_is_none_is_left_alone(tmp_path):
    theirs = tmp_path / "bucket" / "models" / "run" / JOURNAL
    theirs.parent.mkdir(parents=True)
    theirs.write_text('{"theirs": 1}')
    hf_model("llama2").save_pretrained(tmp_path / "in")
    with local_buckets(tmp_path), pytest.raises(InputError, match="no conversion left there"):
        from_hf(tmp_path / "in", RUN)
    assert theirs.read_text() == '{"theirs": 1}'
