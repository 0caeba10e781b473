"""The Beam graph: files -> encoded documents -> duplicates found -> shards packed.

Everything that decides the output is keyed and sorted, so the bytes do not depend on the runner, the number of
workers or how elements are bundled. All workers must see the input and output folders under the same paths.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import AsList

from melama_jax.corpora.read import read_file
from melama_jax.curation.decontaminate import read_benchmark
from melama_jax.curation.dedup import Candidate, all_but_first, band_keys, near_duplicates
from melama_jax.errors import InputError
from melama_jax.files import write_json
from melama_jax.packing.config import DataBuild
from melama_jax.packing.encode import Encoded, encode, place_hash
from melama_jax.packing.shard_packer import ShardContent, ShardSummary, assemble, pack_shard, summarise
from melama_jax.text.tokenizer import tokenizer_from_files

ERRORS, LEDGER = ".errors", ".ledger"
Loser = tuple[tuple[int, str], str]


@dataclass(frozen=True)
class Plan:
    """What every worker needs.

    Args:
        build: the table.
        input_dir, output_dir: the corpora, and the data folder in the making.
        tokenizer: its files, so that workers need no path to it.
    """

    build: DataBuild
    input_dir: Path
    output_dir: Path
    tokenizer: dict[str, bytes]


def graph(pipeline: beam.Pipeline, plan: Plan, files: list[tuple[int, int, str]]) -> None:
    """Adds the whole graph to a pipeline.

    Args:
        pipeline: to add to.
        plan: what to do.
        files: (source, place of the file in its source, path).
    """
    build = plan.build
    documents = (
        pipeline
        | "files" >> beam.Create(files)
        | "spread files" >> beam.Reshuffle()
        | "read and encode" >> beam.ParDo(_Read(plan))
        | "key by id" >> beam.Map(lambda item: (item.rank, item))
        | "group by id" >> beam.GroupByKey()
        | "last of each id" >> beam.FlatMap(_keep_last)
    )
    losers = _losers(documents, build)

    def shard_of(rank: tuple[int, str]) -> tuple[int, int]:
        source = build.sources[rank[0]]
        return rank[0], place_hash(source.name, rank[1], build.seed) % source.shards

    contents = (
        {
            "items": documents | "items by shard" >> beam.Map(lambda item: (shard_of(item.rank), item)),
            "losers": losers | "losers by shard" >> beam.Map(lambda loser: (shard_of(loser[0]), loser)),
        }
        | "group by shard" >> beam.CoGroupByKey()
        | "assemble" >> beam.Map(lambda group: _assemble(build, *group))
    )
    summaries = contents | "summarise" >> beam.Map(lambda content: summarise(build, content))
    _ = contents | "pack" >> beam.ParDo(_Pack(plan), AsList(summaries))


def _losers(documents: Any, build: DataBuild) -> Any:
    """(rank, rule) of every document that is a copy of another."""
    found = []
    kept = documents | "kept so far" >> beam.Filter(lambda item: item.rule is None)
    if build.curation.duplicates:
        found.append(
            kept
            | "key by text" >> beam.Map(lambda item: (item.key, item.rank))
            | "group by text" >> beam.GroupByKey()
            | "duplicates"
            >> beam.FlatMap(lambda group: [(rank, "duplicate") for rank in all_but_first([*group[1]])])
        )
    if (threshold := build.curation.near_duplicate_similarity) is not None:
        found.append(
            kept
            | "key by band" >> beam.FlatMap(lambda item: _banded(item, threshold))
            | "group by band" >> beam.GroupByKey()
            | "near duplicates"
            >> beam.FlatMap(
                lambda group: [(rank, "near_duplicate") for rank in near_duplicates(group[1], threshold)]
            )
        )
    if not found:
        return kept | "no losers" >> beam.FlatMap(lambda item: ())
    return found | "losers" >> beam.Flatten()


def _banded(item: Encoded, threshold: float) -> Iterator[tuple[bytes, Candidate]]:
    if item.values is not None:
        for key in band_keys(item.values, threshold):
            yield key, Candidate(item.rank, item.values)


def _keep_last(group: tuple[tuple[int, str], Iterable[Encoded]]) -> Iterator[Encoded]:
    *earlier, last = sorted(group[1], key=lambda item: item.order)
    yield from (item.drop("repeated_id") for item in earlier)
    yield last


def _assemble(build: DataBuild, key: tuple[int, int], grouped: dict[str, Iterable[Any]]) -> ShardContent:
    return assemble(build, *key, items=grouped["items"], losers=grouped["losers"])


class _Read(beam.DoFn):
    """(source, file number, path) -> Encoded."""

    def __init__(self, plan: Plan):
        self._plan = plan

    def setup(self) -> None:
        curation = self._plan.build.curation
        self._tokenizer = tokenizer_from_files(self._plan.tokenizer)
        self._benchmark = (
            read_benchmark(self._plan.input_dir, curation.benchmarks, curation.benchmark_words)
            if curation.benchmarks
            else None
        )

    def process(self, element: tuple[int, int, str]) -> Iterator[Encoded]:
        source, number, path = element
        build = self._plan.build
        try:
            items = read_file(build.sources[source], self._plan.input_dir, Path(path))
            yield from encode(items, build, source, number, self._tokenizer, self._benchmark)
        except InputError as error:
            # A runner passes on an error's text, not its type: leave it where build() finds it.
            values = {"where": error.where, "found": error.found, "expected": error.expected}
            write_json(self._plan.output_dir / ERRORS / f"{uuid.uuid4().hex}.json", values)
            raise


class _Pack(beam.DoFn):
    """ShardContent -> files."""

    def __init__(self, plan: Plan):
        self._plan = plan

    def setup(self) -> None:
        self._eos_id = tokenizer_from_files(self._plan.tokenizer).eos_id

    def process(self, element: ShardContent, summaries: list[ShardSummary]) -> None:
        build, root = self._plan.build, self._plan.output_dir
        ledger = pack_shard(build, root, self._eos_id, element, summaries)
        write_json(root / LEDGER / f"{element.source}-{element.shard:05}.json", ledger.to_dict())
