"""melama report: one page about training, data and evaluation folders."""

from __future__ import annotations

import argparse

HELP = "make one HTML page of training, data and evaluation folders, readable offline"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's flags."""
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a folder of melama train, data build or eval")
    parser.add_argument("--output", required=True, metavar="FILE.html", help="where the page goes")


def run(args: argparse.Namespace) -> int:
    """Writes the page and says where it is."""
    from melama_jax.files import require_writable_file
    from melama_jax.reporting.run_report import write_report

    require_writable_file(args.output)
    write_report(args.runs, args.output)
    print(f"wrote {args.output}")
    return 0
