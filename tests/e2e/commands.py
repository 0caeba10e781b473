"""The command line as a user types it, in this process."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass

from melama_jax.cli.main import main


@dataclass(frozen=True)
class Done:
    """What a command left: its exit code, standard output, standard error."""

    code: int
    out: str
    err: str


def melama(*argv: object) -> Done:
    """Runs `melama ARGV`."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main([str(arg) for arg in argv])
        except SystemExit as exit_:  # argparse's own way out
            code = int(exit_.code or 0)
    return Done(code, out.getvalue(), err.getvalue())
