"""PyTorch .bin files, read by torch's weights-only loader: a pickle that holds code is refused, never run."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from melama_jax.checkpoints.safetensors_folder import TensorInfo, check_index, shard_files
from melama_jax.checkpoints.weights import DTYPES
from melama_jax.errors import InputError


class TorchBinFolder:
    """pytorch_model.bin (or another file's name), or the shards of pytorch_model.bin.index.json.

    Tensors are mapped from their files and copied only when read. Needs torch, which is imported here alone.

    Raises:
        InputError: naming the file or tensor, where a file is not plain weights or disagrees with the index.
    """

    def __init__(self, folder: Path, single: str = "pytorch_model.bin"):
        self.tensors: dict[str, TensorInfo] = {}
        self._values: dict[str, Any] = {}
        for file in shard_files(folder, single):
            for name, tensor in _load(file).items():
                if name in self.tensors:
                    raise InputError(
                        file, f"tensor {name}, also in {self.tensors[name].file.name}", "it only once"
                    )
                dtype = str(getattr(tensor, "dtype", type(tensor).__name__)).removeprefix("torch.")
                if dtype not in DTYPES:
                    raise InputError(f"{file} {name}", f"dtype {dtype}", f"one of {', '.join(DTYPES)}")
                self.tensors[name] = TensorInfo(tuple(tensor.shape), DTYPES[dtype], file)
                self._values[name] = tensor
        check_index(folder, single, self.tensors)

    def read(self, name: str) -> np.ndarray:
        """See TensorFolder.read."""
        import torch

        info = self.tensors[name]
        bits = torch.int32 if info.dtype.itemsize == 4 else torch.int16  # NumPy knows no torch.bfloat16
        return self._values[name].detach().contiguous().view(bits).numpy().view(info.dtype).copy()


def _load(file: Path) -> dict[str, Any]:
    try:
        import torch
    except ImportError as error:
        raise InputError(
            file, "a PyTorch file, and no torch here", "torch installed, or safetensors"
        ) from error
    try:
        # Only zip files (torch 1.6 and later) can be mapped.
        with file.open("rb") as stream:
            mapped = stream.read(2) == b"PK"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on foreign pickles, which are refused below
            state = torch.load(file, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        raise InputError(
            file, "a pickle that is not plain weights", "tensors only; it was not run"
        ) from error
    except Exception as error:  # whatever its unpickler stumbles over in damaged bytes
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(file, f"no readable PyTorch file ({first})", "a whole pytorch_model.bin") from error
    if not isinstance(state, dict):
        raise InputError(file, f"a {type(state).__name__}", "a state dict: tensors by name")
    return state
