"""`melama convert`: checkpoints in and out."""

from __future__ import annotations

import argparse

HELP = "bring checkpoints in from Hugging Face, llama2.c or T5X, and export them to Hugging Face"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the directions."""
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

    way = ways.add_parser("from-llama2c", help="a llama2.c version 0 file into a model directory")
    way.add_argument("src", metavar="SRC.bin", help="the model file")
    way.add_argument("dst", metavar="DST", help="new model directory")
    way.add_argument("--tokenizer", required=True, metavar="FILE.model", help="its SentencePiece model")

    way = ways.add_parser("from-t5x", help="a T5X checkpoint into a model directory")
    way.add_argument("src", metavar="SRC", help="a checkpoint_STEP folder, or T5X's MODEL_DIR for its newest")
    way.add_argument("dst", metavar="DST", help="new model directory")
    way.add_argument(
        "--model", metavar="DIR", help="model directory it was trained from; default: SRC's own card"
    )

    for way in ways.choices.values():  # a flag stands where it is typed: behind the paths
        way.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> int:
    """Converts and says where the result is."""
    if args.way == "from-hf" and args.base is not None:
        from melama_jax.checkpoints.peft_import import from_peft

        from_peft(args.src, args.base, args.dst)
    elif args.way == "from-hf":
        from melama_jax.checkpoints.hf_import import from_hf

        from_hf(args.src, args.dst)
    elif args.way == "from-llama2c":
        from melama_jax.checkpoints.llama2c import from_llama2c

        from_llama2c(args.src, args.dst, args.tokenizer)
    elif args.way == "from-t5x":
        from melama_jax.checkpoints.t5x_checkpoint import from_t5x

        from_t5x(args.src, args.dst, args.model)
    else:
        from melama_jax.checkpoints.hf_export import to_hf

        to_hf(
            args.src,
            args.dst,
            dtype=args.dtype,
            max_shard_size=args.max_shard_size,
            merge_lora=args.merge_lora,
            adapter_only=args.adapter_only,
        )
    print(f"wrote {args.dst}")
    return 0
