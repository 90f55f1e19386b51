"""The last linear layer of a projector in a checkpoint's files, and a copy with another one.

Files are changed, not models: every other weight, name and dtype of the copy is the original's.
For LLaVA and ShareGPT4V (full, projector alone, adapter) and LLaVA-type models of transformers.
"""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Tuple

from regap_benchmarks.alignment.affine_map import AffineMap

if TYPE_CHECKING:
    from torch import Tensor

_LINEAR = re.compile(
    r"(?P<stem>.*\bmm_projector(\.(?P<index>\d+))?|.*\bmulti_modal_projector\.linear_(?P<number>\d+))"
    r"\.weight"
)
# A token between the rows of a picture's tiles: it is no row of the projector, but an image token.
_NEWLINE = re.compile(r"(.*\.)?image_newline")
_TENSORS, _PICKLED = ".safetensors", ".bin"
# What a training leaves beside a checkpoint, and decides nothing: its state, and its own copies.
_LEFT_OUT = re.compile(
    r"(optimizer|scheduler|rng_state|training_args|trainer_state|scaler|checkpoint-|global_step).*"
    r"|mm_projector|runs|\..*"
)


@dataclass(frozen=True)
class LastLinear:
    """Where the last linear layer of the projector lies.

    Attributes:
        folder: of the checkpoint.
        files: names of the files that hold any of the tensors.
        weight: its name in the files.
        bias: the same of its bias.
        newlines: names of `image_newline`, if there are any.
        tensors: all of these by name.
    """

    folder: Path
    files: Tuple[str, ...]
    weight: str
    bias: str
    newlines: Tuple[str, ...]
    tensors: "Mapping[str, Tensor]"


def find_last_linear(folder: Path, dimension: Optional[int] = None) -> LastLinear:
    """Look for it in all weight files of a folder.

    Args:
        folder: of a checkpoint.
        dimension: of a token; not held to anything if absent.

    Raises:
        ValueError: no such layer, one without a bias, quantized, or of another size; copies in two
            files that differ.
        FileNotFoundError: no such folder.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: expected the folder of a checkpoint, found none.")
    held: Dict[str, Dict[str, Tensor]] = {}
    for file in _weight_files(folder):
        found = _read(file, lambda name: bool(_wanted(name)))
        if found:
            held[file.name] = found
    names = sorted({name for tensors in held.values() for name in tensors})
    weights = {_order(name): name for name in names if _LINEAR.fullmatch(name)}
    if not weights:
        raise ValueError(
            f"{folder}: expected a linear layer under mm_projector or multi_modal_projector in the"
            f" weight files, found none in {[file.name for file in _weight_files(folder)][:8]}."
            " Pass a checkpoint of LLaVA or ShareGPT4V, or a LLaVA-type one of transformers."
        )
    weight = weights[max(weights)]
    bias = f"{weight[: -len('weight')]}bias"
    newlines = tuple(name for name in names if _NEWLINE.fullmatch(name))
    tensors: Dict[str, Tensor] = {}
    for file_name, found in held.items():
        for name in {weight, bias, *newlines} & set(found):
            if name in tensors and not tensors[name].equal(found[name]):
                raise ValueError(
                    f"{folder / file_name}: expected the same {name} as in the other weight files,"
                    " found another: one of them is stale. Remove it."
                )
            tensors[name] = found[name]
    _check(folder, tensors, weight, bias, dimension)
    files = tuple(file for file, found in held.items() if set(found) & set(tensors))
    return LastLinear(folder, files, weight, bias, newlines, tensors)


def folded_tensors(last: LastLinear, fold: AffineMap) -> "Tuple[Dict[str, Tensor], float]":
    """The tensors with the map behind the layer, in the dtype of the files.

    Returns:
        By name, and the largest error of rounding to that dtype, relative to the largest entry.
    """
    weight, bias = last.tensors[last.weight], last.tensors[last.bias]
    exact: Dict[str, Tensor] = dict(zip((last.weight, last.bias), fold.fold(weight, bias)))
    for name in last.newlines:
        exact[name] = fold.apply(last.tensors[name][None])[0]
    made = {name: value.to(last.tensors[name].dtype) for name, value in exact.items()}
    errors = [
        float((made[name].double() - value).abs().max() / value.abs().max().clamp(min=1e-300))
        for name, value in exact.items()
    ]
    return made, max(errors)


def write_copy(last: LastLinear, tensors: "Mapping[str, Tensor]", output: Path) -> None:
    """Copy a checkpoint's files, with these tensors in place of its own.

    Folders below it too, such as the trained tower that ShareGPT4V keeps in one; not what a
    training leaves (optimizer, random states, earlier checkpoints), nor hidden files.

    Args:
        last: see `find_last_linear`.
        tensors: by name.
        output: folder, which is made.

    Raises:
        OSError: the disk is full; said before anything is written where it can be.
    """
    output.mkdir(parents=True)
    copied = [file for file in sorted(last.folder.iterdir()) if not _LEFT_OUT.fullmatch(file.name)]
    needed, free = sum(map(_size, copied)), shutil.disk_usage(output).free
    if needed > free:
        raise OSError(
            f"{output}: expected {needed / 1e9:.1f} GB of free space for the copy, found"
            f" {free / 1e9:.1f} GB. Free some, or pass an --output elsewhere."
        )
    for file in copied:
        if file.name in last.files:
            _write_with(file, tensors, output / file.name)
        elif file.is_dir():
            shutil.copytree(file, output / file.name)
        else:
            shutil.copy2(file, output / file.name)


def _size(path: Path) -> int:
    below = path.rglob("*") if path.is_dir() else [path]
    return sum(each.stat().st_size for each in below if each.is_file())


def _weight_files(folder: Path) -> List[Path]:
    return sorted(
        file
        for file in folder.iterdir()
        if file.is_file()
        and file.suffix in (_TENSORS, _PICKLED)
        and not _LEFT_OUT.fullmatch(file.name)
    )


def _wanted(name: str) -> bool:
    is_bias = name.endswith(".bias") and _LINEAR.fullmatch(f"{name[: -len('bias')]}weight")
    return bool(_LINEAR.fullmatch(name) or is_bias or _NEWLINE.fullmatch(name))


def _order(name: str) -> int:
    found = _LINEAR.fullmatch(name)
    assert found is not None
    return int(found["index"] or found["number"] or 0)


def _read(file: Path, wanted: Any) -> "Dict[str, Tensor]":
    import torch

    try:
        if file.suffix == _TENSORS:
            from safetensors import safe_open

            with safe_open(file, framework="pt") as tensors:
                names: List[str] = list(tensors.keys())
                return {name: tensors.get_tensor(name) for name in names if wanted(name)}
        content = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # a damaged file raises what its library likes
        raise ValueError(
            f"{file}: expected weights, found {type(error).__name__}: {error}. Restore the file."
        ) from error
    if not isinstance(content, dict):
        return {}
    return {name: each.clone() for name, each in content.items() if wanted(name)}


def _write_with(file: Path, tensors: "Mapping[str, Tensor]", output: Path) -> None:
    import torch

    if file.suffix == _TENSORS:
        from safetensors import safe_open
        from safetensors.torch import load_file, save_file

        with safe_open(file, framework="pt") as held:
            metadata = held.metadata()
        content = load_file(file)
        content.update({name: each for name, each in tensors.items() if name in content})
        save_file(content, output, metadata=metadata)
        return
    content = torch.load(file, map_location="cpu", weights_only=True)
    content.update({name: each for name, each in tensors.items() if name in content})
    torch.save(content, output)


def _check(
    folder: Path,
    tensors: "Mapping[str, Tensor]",
    weight: str,
    bias: str,
    dimension: Optional[int],
) -> None:
    if bias not in tensors:
        raise ValueError(
            f"{folder}: expected a bias beside {weight}, found none: a shift cannot be folded into"
            " it. Pass a checkpoint whose projector has one."
        )
    matrix, vector = tensors[weight], tensors[bias]
    if not matrix.is_floating_point() or matrix.dim() != 2 or vector.shape != matrix.shape[:1]:
        raise ValueError(
            f"{folder}: expected {weight} as a matrix of floating point with a bias of its rows,"
            f" found {matrix.dtype} {list(matrix.shape)} and {list(vector.shape)}. Pass a"
            " checkpoint that is not quantized."
        )
    if dimension is not None and len(vector) != dimension:
        raise ValueError(
            f"{folder}: expected {dimension} rows in {weight}, as the LLM's tokens have, found"
            f" {len(vector)}. This layer is not the projector's last: it cannot be folded into."
        )
