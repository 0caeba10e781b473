"""`melama convert`: checkpoints in and out."""

from __future__ import annotations

import argparse
import sys

from melama_jax.cli.progress import progress_shown
from melama_jax.errors import InputError

HELP = "bring checkpoints in from Hugging Face, Meta, llama2.c or T5X, and export them to Hugging Face"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the directions, and the check of what was exported."""
    ways = parser.add_subparsers(dest="way", required=True, metavar="WAY")

    way = ways.add_parser("from-hf", help="a Hugging Face LLaMA folder into a model directory")
    way.add_argument("src", metavar="SRC", help="folder with config.json and safetensors or .bin files")
    way.add_argument("dst", metavar="DST", help="new model directory")
    way.add_argument(
        "--base", metavar="MODEL", help="SRC is a PEFT adapter of this model directory; join them"
    )

    way = ways.add_parser("to-hf", help="a model directory into a Hugging Face folder")
    way.add_argument("src", metavar="SRC", help="model directory; a run's newest checkpoint is taken")
    way.add_argument("dst", metavar="DST", help="new folder")
    way.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), help="default: as stored")
    way.add_argument("--max-shard-size", default="5GB", metavar="SIZE", help="of a file; default %(default)s")
    adapters = way.add_mutually_exclusive_group()
    adapters.add_argument("--merge-lora", action="store_true", help="fold the adapters into the weights")
    adapters.add_argument("--adapter-only", action="store_true", help="write the adapters as a PEFT folder")
    way.add_argument("--verify", action="store_true", help="prove the export, and write PARITY.json into it")

    way = ways.add_parser("from-llama2c", help="a llama2.c version 0 file into a model directory")
    way.add_argument("src", metavar="SRC.bin", help="the model file")
    way.add_argument("dst", metavar="DST", help="new model directory")
    way.add_argument("--tokenizer", required=True, metavar="FILE.model", help="its SentencePiece model")

    way = ways.add_parser("from-meta", help="Meta's own files into a model directory")
    way.add_argument("src", metavar="SRC", help="folder with params.json and consolidated.NN.pth")
    way.add_argument("dst", metavar="DST", help="new model directory")
    way.add_argument("--tokenizer", metavar="FILE", help="default: SRC/tokenizer.model, where it is there")
    way = ways.add_parser("from-t5x", help="a T5X checkpoint into a model directory")
    way.add_argument("src", metavar="SRC", help="a checkpoint_STEP folder, or T5X's MODEL_DIR for its newest")
    way.add_argument("dst", metavar="DST", help="new model directory")
    way.add_argument(
        "--model", metavar="DIR", help="model directory it was trained from; default: SRC's own card"
    )

    way = ways.add_parser("check", help="whether an exported folder is still what its PARITY.json says")
    way.add_argument("dir", metavar="DIR", help="a folder that to-hf --verify wrote")

    for way in ways.choices.values():  # a flag stands where it is typed: behind the paths
        way.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> int:
    """Converts and says where the result is; or checks."""
    if args.way == "check":
        return _check(args.dir)
    if args.way == "from-hf" and args.base is not None:
        from melama_jax.checkpoints.peft_import import from_peft

        from_peft(args.src, args.base, args.dst)
    elif args.way == "from-hf":
        from melama_jax.checkpoints.hf_import import from_hf

        from_hf(args.src, args.dst)
    elif args.way == "from-llama2c":
        from melama_jax.checkpoints.llama2c import from_llama2c

        from_llama2c(args.src, args.dst, args.tokenizer)
    elif args.way == "from-meta":
        from melama_jax.checkpoints.meta import from_meta

        from_meta(args.src, args.dst, args.tokenizer)
    elif args.way == "from-t5x":
        from melama_jax.checkpoints.t5x_checkpoint import from_t5x

        from_t5x(args.src, args.dst, args.model)
    else:
        from melama_jax.checkpoints.hf_export import to_hf

        if args.verify and args.adapter_only:
            raise InputError("--verify and --adapter-only", "both", "one: adapters alone compute nothing")
        to_hf(
            args.src,
            args.dst,
            dtype=args.dtype,
            max_shard_size=args.max_shard_size,
            merge_lora=args.merge_lora,
            adapter_only=args.adapter_only,
        )
        if args.verify:
            _verify(args.src, args.dst)
    print(f"wrote {args.dst}")
    return 0


def _verify(src: str, dst: str) -> None:
    from melama_jax.parity.verify import verify_export

    with progress_shown() as progress:
        found = verify_export(src, dst, progress=progress)
    for whose, apart in (
        ("the source's", found.to_source),
        (f"the source's in {found.stored_dtype}", found.to_rounded_source),
    )[: 2 if found.rounded else 1]:
        print(
            f"logits differ from {whose} by at most {apart.largest:.3g} (the largest is {apart.scale:.3g}); "
            f"{apart.same_choice} of {apart.places} greedy choices are the same"
        )
    print(f"compared: {found.source}; {found.export}")


def _check(directory: str) -> int:
    from melama_jax.checkpoints.certificate import check

    with progress_shown() as progress:
        failures = check(directory, progress)
    for failure in failures:
        print(f"{directory}: {failure}", file=sys.stderr)
    if not failures:
        print(f"{directory}: every tensor and file is as certified")
    return 1 if failures else 0
