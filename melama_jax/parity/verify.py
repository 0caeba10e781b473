"""`to-hf --verify`: an export held against its source, number by number and logit by logit, and its PARITY.json."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from melama_jax.checkpoints.card import ModelCard
from melama_jax.checkpoints.certificate import FILE, Certificate, write_certificate
from melama_jax.checkpoints.folder_contents import contents
from melama_jax.checkpoints.hf_import import open_hf
from melama_jax.checkpoints.hf_names import HF_TENSORS
from melama_jax.checkpoints.open import open_weights
from melama_jax.checkpoints.weights import Weights
from melama_jax.errors import RunFailed
from melama_jax.models.config import LlamaConfig, LoraConfig
from melama_jax.models.params import count, param_shapes
from melama_jax.parity import ours, transformers_side
from melama_jax.parity.difference import TOLERANCE, Difference, difference
from melama_jax.parity.prompts import prompt_ids
from melama_jax.parity.stored import StoredWeights, other_tensors

_LIBRARIES = ("melama-jax", "jax", "flax", "numpy", "safetensors", "transformers", "torch")
_COPIES = 3  # float32 models that loading a whole one may take: its arrays, what they are made from, and room


@dataclass(frozen=True)
class Comparison:
    """What an export was held against.

    Args:
        source: how the source's logits were computed.
        export: how the exported folder's were.
        prompts: token ids of every prompt.
        tolerance: what a difference may be, as a part of the largest logit, where nothing was rounded.
        stored_dtype: what most of the export's numbers are stored in.
        rounded: whether storing may have changed numbers.
        to_source: against the source.
        to_rounded_source: against the source with its adapters merged and its numbers rounded as they are stored.
    """

    source: str
    export: str
    prompts: list[list[int]]
    tolerance: float
    stored_dtype: str
    rounded: bool
    to_source: Difference
    to_rounded_source: Difference


def verify_export(
    src: str | os.PathLike[str], dst: str | os.PathLike[str], streamed: bool | None = None
) -> Comparison:
    """Compares an export with its source and writes PARITY.json into it.

    Every stored number must be the source's, rounded to the stored dtype; the logits of the folder, read back from its
    files and computed by transformers where that is installed, must be those of the JAX model.

    Args:
        src: the model directory it was made of; a run's newest step.
        dst: the exported folder.
        streamed: compute with one layer's weights in memory at a time, whatever the model's size; None: where three
            times its float32 weights are more than the memory that is free.

    Raises:
        RunFailed: the two differ; says by how much. The folder has no PARITY.json then.
        InputError: a directory is not a whole model.
    """
    folder = Path(dst)
    card, weights = open_weights(src)
    exported_card, exported = open_hf(folder)
    (folder / FILE).unlink(missing_ok=True)
    if exported_card.model != card.model:
        raise RunFailed(f"{folder / 'config.json'}: describes another model than {src}")
    stored = StoredWeights(weights, card.lora, {path: leaf.dtype for path, leaf in exported.leaves.items()})
    for path, layer in other_tensors(stored, exported):
        raise RunFailed(f"{folder}: {HF_TENSORS[path].at(layer)} does not hold the numbers of {src}")
    by_layer = exceeds_memory(card.model) if streamed is None else streamed
    found = _compare(card, weights, stored, exported_card, exported, folder, by_layer)
    _require_parity(folder, found)
    certificate = Certificate(
        contents(folder),
        dataclasses.asdict(found),
        _versions(),
        {"gin": card.gin, "data_sha256": card.data_sha256},
    )
    write_certificate(folder, certificate)
    return found


def exceeds_memory(config: LlamaConfig) -> bool:
    """Whether a model is compared layer by layer: three times its float32 weights are more than the free memory."""
    return _COPIES * 4 * count(param_shapes(config)) > psutil.virtual_memory().available


def _compare(
    card: ModelCard,
    weights: Weights,
    stored: StoredWeights,
    exported_card: ModelCard,
    exported: Weights,
    folder: Path,
    by_layer: bool,
) -> Comparison:
    ids, how = prompt_ids(card), "layer by layer" if by_layer else "the whole model at once"
    logits: Callable[[LlamaConfig, LoraConfig | None, Weights, np.ndarray], np.ndarray]
    logits = ours.streamed_logits if by_layer else ours.whole_logits
    source = logits(card.model, card.lora, weights, ids)
    changed = stored.rounds or card.lora is not None
    rounded = logits(card.model, None, stored, ids) if changed else source
    if transformers_side.is_installed():
        library, theirs = "transformers", _theirs(folder, ids, by_layer)
    else:
        library, theirs = "melama_jax", logits(exported_card.model, None, exported, ids)
    return Comparison(
        source=f"melama_jax in float32, {how}",
        export=f"{library} in float32, {how}, from the folder's files",
        prompts=ids.tolist(),
        tolerance=TOLERANCE,
        stored_dtype=exported_card.dtype,
        rounded=stored.rounds,
        to_source=difference(source, theirs),
        to_rounded_source=difference(rounded, theirs),
    )


def _theirs(folder: Path, ids: np.ndarray, by_layer: bool) -> np.ndarray:
    return (transformers_side.streamed_logits if by_layer else transformers_side.whole_logits)(folder, ids)


def _require_parity(folder: Path, found: Comparison) -> None:
    cases = [("the source's rounded as they are stored", found.to_rounded_source)]
    if not found.rounded:
        cases.append(("the source's", found.to_source))
    for whose, apart in cases:
        if not apart.tight:
            raise RunFailed(
                f"{folder}: logits ({found.export}) differ by {apart.largest:.3g} from {whose} ({found.source}); "
                f"at most {TOLERANCE * apart.scale:.3g} is rounding ({TOLERANCE:g} of the largest, {apart.scale:.3g}). "
                f"No {FILE} was written"
            )


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found
