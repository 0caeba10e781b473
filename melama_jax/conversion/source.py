"""Weights under the name of what they are read from."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import numpy as np

from melama_jax.checkpoints.storage_errors import os_error
from melama_jax.checkpoints.weights import Weights
from melama_jax.errors import InputError, RunFailed
from melama_jax.models.params import Path


class SourceWeights:
    """Weights that say where they come from when they cannot be read: whoever writes them knows only where to.

    Args:
        weights: whose.
        where: what a user calls it: SRC.
    """

    def __init__(self, weights: Weights, where: object):
        self._weights, self._where = weights, where
        self.leaves: Mapping[Path, jax.ShapeDtypeStruct] = weights.leaves

    def read(self, path: Path, layer: int | None) -> np.ndarray:
        """See Weights.read; RunFailed where storage fails, or the files are gone."""
        try:
            return self._weights.read(path, layer)
        except (InputError, RunFailed):
            raise
        except Exception as error:
            storage = os_error(error)
            if storage is None:
                raise
            why = storage.strerror or str(storage)
            file = f" ({storage.filename})" if storage.filename else ""
            raise RunFailed(f"{self._where}: could not be read: {why}{file}") from error
