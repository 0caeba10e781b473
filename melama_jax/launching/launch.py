"""A launch: what to train, where, under which name; and the commands it comes down to."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from melama_jax.errors import InputError
from melama_jax.gin_edge import GinArguments, config_folders
from melama_jax.planning.slices import Slice

_NAME = re.compile(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?")  # the strictest of the three: XPK's


@dataclass(frozen=True)
class Launch:
    """One training run on one kind of slice.

    Args:
        name: of the request, the job or the workload.
        gin: the run, as the command line says it.
        where: the slice.
        slices: how many of it, joined by the data-centre network.
        spot: take capacity that can be withdrawn.
        zone: Google Cloud zone; None leaves it to the launcher's own default.
        project: Google Cloud project; None likewise.
    """

    name: str
    gin: GinArguments
    where: Slice
    slices: int = 1
    spot: bool = False
    zone: str | None = None
    project: str | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise InputError(
                "--name", self.name, "at most 40 lower-case letters, digits and hyphens, a letter first"
            )
        if self.slices < 1:
            raise InputError("--slices", str(self.slices), "a whole number above 0")


@dataclass(frozen=True)
class Commands:
    """What a launch runs: files written first (path -> content), then each argv in turn."""

    argvs: Sequence[Sequence[str]]
    files: Mapping[str, str] = field(default_factory=dict)

    def script(self) -> str:
        """The same as a shell script: what `--dry-run` prints."""
        parts = []
        for path, content in self.files.items():
            parts.append(f"mkdir -p {shlex.quote(str(Path(path).parent))}")
            parts.append(f"cat > {shlex.quote(path)} <<'END_OF_FILE'\n{content.rstrip()}\nEND_OF_FILE")
        return "\n".join([*parts, *map(shlex.join, self.argvs)]) + "\n"


def train_arguments(gin: GinArguments) -> list[str]:
    """The flags of `melama train` that say this run again on another machine."""
    return [
        *(f"--gin_file={name}" for name in gin.files),
        *(f"--gin.{binding}" for binding in gin.bindings),
        *([f"--gin_search_paths={','.join(gin.search_paths)}"] if gin.search_paths else []),
    ]


def on_every_host(gin: GinArguments) -> str:
    """One shell line for each host, run in the checkout: set up, then train."""
    return "bash tpu/setup_vm.sh && " + shlex.join(["bash", "tpu/start_train.sh", *train_arguments(gin)])


def travelling_files(gin: GinArguments, checkout: Path) -> tuple[str, ...]:
    """The gin files that are the user's own, as paths in the checkout; the shipped ones go with the package.

    Raises:
        InputError: `checkout` is none of ours, or a gin file lies outside it and would be missing on the hosts.
    """
    if not (checkout / "tpu" / "start_train.sh").is_file():
        raise InputError(checkout, "no tpu/start_train.sh", "a checkout of melama_jax to launch from")
    own = []
    for name in gin.files:
        shipped = any((folder / name).is_file() for folder in config_folders())
        folders = [checkout, *(checkout / path for path in gin.search_paths)]
        found = [folder / name for folder in folders if (folder / name).is_file()]
        inside = found and found[0].resolve().is_relative_to(checkout.resolve())
        if inside and not Path(name).is_absolute():
            own.append(str(found[0].resolve().relative_to(checkout.resolve())))
        elif found or not shipped:
            raise InputError(
                f"--gin_file={name}",
                "an absolute path or a file outside the checkout",
                "a relative path inside it: only that is sent along",
            )
    return tuple(own)
