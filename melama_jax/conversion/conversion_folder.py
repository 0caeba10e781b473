"""Where a conversion writes: what becomes its destination only when it is whole, and goes on where it was killed.

On a local path all is written to DST.partial/content, which one rename makes DST. DST.partial/conversion.json says
whose conversion it is and which tensors are done; a DST.partial that is no conversion's is left alone. A bucket cannot
rename a folder: there DST itself is written to, conversion.json in it is removed last, and the file without which the
folder is no model comes last before that.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from etils import epath

from melama_jax.checkpoints.locks import try_lock
from melama_jax.checkpoints.storage_errors import in_words, storage_failing_as
from melama_jax.conversion.write_back import force_to_disk, writing_back
from melama_jax.errors import InputError, RunFailed
from melama_jax.files import require_empty_dir, write_bytes

JOURNAL = "conversion.json"
_NEW_JOURNAL = "conversion.new"
_CONTENT, _SCRATCH = "content", "scratch"


class Journal:
    """Which tensors a conversion has finished: in files after each, so that a kill loses none.

    Nothing is forced to the disk for it, which would take longer than the conversion. So where the machine itself went
    down (it was started anew since), what the journal of a local folder says counts for nothing.

    Args:
        path: of its file.
        of: what the conversion is of; see `identity`.
        done: name of a finished tensor -> what its writer wants to know of it, JSON-ready.
    """

    def __init__(self, path: epath.Path, of: str, done: dict[str, Any]):
        self._path, self._of, self.done = path, of, done

    def add(self, finished: Mapping[str, Any]) -> None:
        """Notes tensors whose bytes have been written."""
        self.done |= finished
        new = self._path if is_bucket(self._path) else self._path.with_name(_NEW_JOURNAL)
        new.write_text(json.dumps({"of": self._of, "boot": _boot(), "done": self.done}))
        if new != self._path:
            new.replace(self._path)


def write_whole(path: epath.Path, content: bytes) -> None:
    """Writes a small file whole or not at all."""
    if is_bucket(path):
        path.write_bytes(content)  # an object is there when it is whole
    else:
        write_bytes(path, content)


def is_bucket(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a bucket's address, such as gs://NAME/FOLDER."""
    return "://" in os.fspath(path)


def identity(sources: Iterable[str | os.PathLike[str]], settings: Mapping[str, Any]) -> str:
    """A digest that changes with the files of a source, by path, size and time of change, and with the settings.

    Args:
        sources: files, and folders with all in them.
        settings: JSON-ready: whatever else decides the bytes that are written.
    """
    files = [path for source in sources for path in _files(epath.Path(source))]
    stamps = {os.fspath(path): _stamp(path) for path in files}
    return hashlib.sha256(json.dumps([stamps, settings], sort_keys=True).encode()).hexdigest()


def files_in(folder: str | os.PathLike[str]) -> list[epath.Path]:
    """The files of a folder itself, as sources for `identity`: what is converted into a folder below is none."""
    return [path for path in epath.Path(folder).iterdir() if not path.is_dir()]


def _files(path: epath.Path) -> Iterator[epath.Path]:
    """A file, or all in a folder and its folders."""
    if path.is_dir():
        for inner in path.iterdir():
            yield from _files(inner)
    else:
        yield path


def _stamp(path: epath.Path) -> list[float]:
    """A file's size and time of change, to the nanosecond where its storage knows it."""
    if is_bucket(path):
        stat = path.stat()
        return [stat.length, stat.mtime]
    local = Path(path).stat()
    return [local.st_size, local.st_mtime_ns]


@contextlib.contextmanager
def conversion_folder(dst: str | os.PathLike[str], of: str) -> Iterator[tuple[epath.Path, Journal]]:
    """A folder to write a conversion into, and the journal of what is in it already.

    It becomes `dst` when the block ends well. A block that ends with InputError leaves nothing; one that is killed,
    interrupted or fails for want of disk leaves what it did, and the next one with the same `of` goes on there.

    Args:
        dst: a new or empty folder, local or of a bucket.
        of: see `identity`.

    Raises:
        InputError: `dst` is not empty, holds another unfinished conversion, or one that runs now.
        RunFailed: storage failed.
    """

    def said(error: OSError) -> RunFailed:
        return RunFailed(
            f"{dst}: could not be written: {in_words(error)}; the same command again goes on from here"
        )

    with (
        storage_failing_as(said),
        _bucket_folder(dst, of) if is_bucket(dst) else _local_folder(Path(dst), of) as made,
    ):
        yield made


def scratch_folder(dst: str | os.PathLike[str]) -> Path:
    """Where the conversion into a local `dst` may write what is no part of it; made when first written to, and removed
    with what else a conversion needs.
    """
    return _partial(Path(dst).resolve()) / _SCRATCH


def _partial(dst: Path) -> Path:
    return dst.with_name(f"{dst.name}.partial")


@contextlib.contextmanager
def _local_folder(dst: Path, of: str) -> Iterator[tuple[epath.Path, Journal]]:
    dst = dst.resolve()  # a rename would replace a link, and "." has no name
    if os.path.ismount(dst):
        raise InputError(dst, "a mount point", "a folder in it: a whole model is put there by one rename")
    partial = _partial(dst)
    content = partial / _CONTENT
    if partial.exists():
        _require_conversions(partial, dst)
    else:
        require_empty_dir(dst)
    partial.mkdir(parents=True, exist_ok=True)
    with _held(partial):
        if dst.is_dir() and any(dst.iterdir()) and not content.exists():
            _remove(partial)  # killed between the last rename and this
        require_empty_dir(dst)
        content.mkdir(exist_ok=True)
        journal = _journal(epath.Path(partial / JOURNAL), of, partial, dst)
        if not journal.done:
            shutil.rmtree(content)
            content.mkdir()
        try:
            with writing_back(content):
                yield epath.Path(content), journal
        except InputError:
            _remove(partial)
            raise
        force_to_disk(content)
        stands_there = dst.is_dir() and dst.samefile(".")
        if dst.is_dir():
            dst.rmdir()
        content.rename(dst)
        if stands_there:
            os.chdir(dst)  # the folder this process stood in is another now
        _remove(partial)


def _require_conversions(partial: Path, dst: Path) -> None:
    """InputError where a folder that is about to be written to, and removed, is not one that a conversion made."""
    ours = partial.is_dir() and not partial.is_symlink()
    if ours:
        inner = {path.name: path for path in partial.iterdir()}
        folders = [path for name, path in inner.items() if name in (_CONTENT, _SCRATCH)]
        begun = JOURNAL in inner or not any(path.is_dir() and any(path.iterdir()) for path in folders)
        ours = begun and inner.keys() <= {_CONTENT, _SCRATCH, JOURNAL, _NEW_JOURNAL}
    if not ours:
        expected = f"nothing there, as {dst.name} is put together there: move it, or choose another DST"
        raise InputError(partial, "what no conversion left there", expected)


def _remove(partial: Path) -> None:
    """The journal last: what a kill leaves of it is still known for a conversion's."""
    for name in (_CONTENT, _SCRATCH):
        if (partial / name).exists():
            shutil.rmtree(partial / name)
    shutil.rmtree(partial)


@contextlib.contextmanager
def _bucket_folder(dst: str | os.PathLike[str], of: str) -> Iterator[tuple[epath.Path, Journal]]:
    content = epath.Path(dst)
    path = content / JOURNAL
    if not path.exists() and content.exists() and any(content.iterdir()):
        raise InputError(dst, "a folder that is not empty", "a new or empty folder")
    content.mkdir(parents=True, exist_ok=True)
    journal = _journal(path, of, dst, dst)
    try:
        yield content, journal
    except InputError:
        content.rmtree()
        raise
    path.unlink()


def _journal(path: epath.Path, of: str, folder: object, dst: object) -> Journal:
    """The journal that is there, or a new one; InputError where it is another conversion's."""
    said = _read(path) if path.exists() else None
    if said is None:
        said = {"of": of, "done": {}}
    if said["of"] != of:
        expected = f"the command that began it, with the same source and flags, or {folder} removed"
        raise InputError(folder, f"an unfinished conversion of something else into {dst}", expected)
    if said["done"] and not is_bucket(path) and not (_boot() and said.get("boot") == _boot()):
        logging.getLogger(__name__).warning(
            "%s: the machine was started anew since, or may have been; this begins again", folder
        )
        said["done"] = {}
    journal = Journal(path, of, dict(said["done"]))
    if journal.done:
        logging.getLogger(__name__).warning(
            "%s: an earlier conversion was cut off; this goes on behind its %d tensors",
            dst,
            len(journal.done),
        )
    journal.add({})
    return journal


def _boot() -> str:
    """What is another after each start of this machine, and on each machine; empty where the system has no such."""
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text().strip() if path.exists() else ""


def _read(path: epath.Path) -> dict[str, Any] | None:
    """What a journal says; None where a machine that went down left it empty or torn.

    Raises:
        InputError: in a bucket, where files are there whole or not at all: so it is somebody else's.
    """
    try:
        said = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        said = None
    if isinstance(said, dict) and isinstance(said.get("of"), str) and isinstance(said.get("done"), dict):
        return said
    if is_bucket(path):
        raise InputError(path, "a file that no conversion left there", "a new or empty folder")
    return None


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Keeps a second conversion out, where the file system knows locks; the kernel frees a killed one's."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        try_lock(opened)
        yield
    except BlockingIOError:
        raise InputError(
            folder, "a conversion that is running", "another folder, or that one ended"
        ) from None
    finally:
        os.close(opened)
