"""Silence for what libraries print of an error that is raised, too, and that the command line says in one line."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any


def quieten() -> None:
    """Mutes Orbax's and asyncio's own reports, for this process.

    Orbax logs errors with their tracebacks before it raises them. When one of many reads or writes fails it closes its
    event loop, and TensorStore's threads then print that it is closed, once for each of the others.
    """
    for name in ("absl", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    sys.excepthook = _but_for_closed_loops(sys.excepthook, lambda kind, error, trace: error)
    sys.unraisablehook = _but_for_closed_loops(sys.unraisablehook, lambda said: said.exc_value)


def _but_for_closed_loops(hook: Callable[..., Any], error_of: Callable[..., Any]) -> Callable[..., Any]:
    def filtered(*said: Any) -> None:
        error = error_of(*said)
        if not (isinstance(error, RuntimeError) and str(error) == "Event loop is closed"):
            hook(*said)

    return filtered
