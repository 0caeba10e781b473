"""Damaged: a checkpoint that is not what was saved, told apart from storage that could not be asked."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

import jax
from etils import epath

from melama_jax.checkpoints.storage_errors import os_error
from melama_jax.errors import InputError, RunFailed


class Damaged(InputError):
    """A checkpoint whose bits are not those that were saved, or that was never finished.

    Args:
        folder: the step's (or the frozen weights') folder.
        what: the parameter or file, and what is wrong with it.
    """

    def __init__(self, folder: epath.Path, what: str):
        self.folder, self.what = folder, what
        step = getattr(folder, "name", "").isdecimal()
        instead = "; with this folder moved away the step before it is used" if step else ""
        super().__init__(folder, f"a damaged checkpoint: {what}", f"what was saved{instead}")


@contextlib.contextmanager
def reading(folder: epath.Path, what: str) -> Iterator[None]:
    """Turns whatever goes wrong in reading a part of a checkpoint into Damaged, which names it.

    Not so what says nothing about the checkpoint: no memory, no permission, a mount that is gone.

    Args:
        folder: the checkpoint's.
        what: the part, as a person would name it.
    """
    try:
        yield
    except (Damaged, RunFailed, MemoryError, jax.errors.JaxRuntimeError):
        raise
    except Exception as error:
        storage = os_error(error)
        missing = storage is None or storage.errno in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR)
        if storage is not None and not (missing and folder.exists()):
            raise storage from error
        raise Damaged(folder, f"{what}: {_words(error)}") from error


def to_words(error: Exception) -> str:
    """An error met in reading, to be told to other processes; from_words is its inverse as far as it is Damaged."""
    return f"{error.folder}\n{error.what}" if isinstance(error, Damaged) else f"\n{error}"


def from_words(words: str) -> Exception:
    """The same damage, or RunFailed with the words of another error."""
    folder, _, what = words.partition("\n")
    return Damaged(epath.Path(folder), what) if folder else RunFailed(f"another process: {what}")


def _words(error: BaseException) -> str:
    """Its first line, without TensorStore's settings and Python's own names for what files often do."""
    while error.__cause__ is not None:  # Orbax wraps what TensorStore says of the file
        error = error.__cause__
    line = next(iter(str(error).splitlines()), "").split(" [tensorstore_spec")[0][:400]
    return line if isinstance(error, ValueError | OSError) else f"{type(error).__name__} {line}".strip()
