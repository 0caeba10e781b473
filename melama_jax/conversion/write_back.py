"""Bringing a folder's files from the system's memory to the disk: while more is made, and all of them at the end."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_EVERY = 0.3  # seconds


def force_to_disk(folder: Path) -> None:
    """Every file and folder in a folder, which is about to be called finished."""
    for path in (*folder.rglob("*"), folder):
        _sync(path)


@contextlib.contextmanager
def writing_back(folder: Path) -> Iterator[None]:
    """Lets the disk write what is there already while more is made: the system alone leaves it gigabytes for the end.

    OSError where the disk fails; what is not written yet when the block ends stays so.
    """
    over = threading.Event()

    def write_back() -> None:
        sizes: dict[Path, int] = {}
        while not over.wait(_EVERY):
            with contextlib.suppress(FileNotFoundError):  # renamed, or removed again
                for path in filter(Path.is_file, folder.rglob("*")):
                    if sizes.get(path) != (size := path.stat().st_size):
                        _sync(path)
                        sizes[path] = size

    with ThreadPoolExecutor(1, thread_name_prefix="write-back") as pool:
        writing = pool.submit(write_back)
        try:
            yield
        finally:
            over.set()
    writing.result()


def _sync(path: Path) -> None:
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
