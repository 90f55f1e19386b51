"""The weights of a checkpoint as files: whole or in shards, safetensors or torch's own form."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Dict, List

if TYPE_CHECKING:
    from torch import Tensor

_WHOLE = ("model.safetensors", "pytorch_model.bin")
_SHARD_SIZE = "5GB"


def read_weights(folder: Path) -> "Dict[str, Tensor]":
    """All weights of a folder by name, on the CPU, in the dtype of the files.

    Raises:
        FileNotFoundError: no weights, or a shard that the index names is missing.
    """
    found: Dict[str, Tensor] = {}
    for path in weight_files(folder):
        found.update(read_weight_file(path))
    return found


def weight_files(folder: Path) -> List[Path]:
    """The files that hold the weights of a folder.

    Raises:
        FileNotFoundError: see `read_weights`.
    """
    for name in _WHOLE:
        index = folder / f"{name}.index.json"
        if (folder / name).is_file():
            return [folder / name]
        if index.is_file():
            shards = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
            paths = [folder / shard for shard in dict.fromkeys(shards)]
            missing = [path.name for path in paths if not path.is_file()]
            if missing:
                raise FileNotFoundError(
                    f"{index}: expected {len(paths)} shards beside it, found {missing} missing."
                    " Copy the whole folder."
                )
            return paths
    raise FileNotFoundError(
        f"{folder}: expected weights in {' or '.join(_WHOLE)}, whole or in shards, found none. Pass"
        " the folder of a checkpoint."
    )


def read_weight_file(path: Path) -> "Dict[str, Tensor]":
    """The weights of one file; a pickle is read as tensors only."""
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        loaded: Dict[str, Tensor] = load_file(path)
        return loaded
    import torch

    weights: Dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return weights


def write_weights(weights: "Dict[str, Tensor]", folder: Path) -> None:
    """Write them as safetensors, in shards where they are large."""
    from huggingface_hub import save_torch_state_dict

    contiguous = {name: tensor.contiguous() for name, tensor in weights.items()}
    save_torch_state_dict(contiguous, folder, max_shard_size=_SHARD_SIZE)
