"""Loads ShareGPT4V checkpoints by upstream's own builder, and checks that it loaded what is there.

As for LLaVA, the builder decides by words in names, writes float16 where any dtype was asked for,
and passes over weights that are missing. Beside that it takes the vision tower from where the
training began, and passes over the trained one that upstream's trainer leaves in `vision_tower/`.
Written for share4v 1.0.0 at b6f70e9.
"""

import contextlib
import importlib.util
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from regap_benchmarks.quantization import Quantization
from regap_benchmarks.runners.llava_checkpoint import (
    FULL,
    STAGE_1,
    CheckpointFiles,
    check_dtype,
    check_projector,
    find_base,
    float16_read_as,
    is_model_file,
    read_model_type,
)
from regap_benchmarks.runners.runner import MissingRequirementError, ModelOptions

if TYPE_CHECKING:
    import torch

TRANSFORMERS = "4.31"
NEEDS = (
    "a checkout of ShareGPT4Omni/ShareGPT4V (commit b6f70e9) on PYTHONPATH, with transformers"
    " 4.31.0"
)
_INSTALL = (
    "`pip install transformers==4.31.0 tokenizers==0.13.3 accelerate==0.21.0 peft==0.4.0 'numpy<2'"
    " 'setuptools<81' einops ftfy sentencepiece protobuf pillow requests`"
)
_MODEL_TYPE, _PROJECTOR, _TOWER = "share4v", "mm_projector.bin", "vision_tower"
# The word by which the builder knows its own models.
_BUILDER_NAME = "sharegpt4v"


@dataclass(frozen=True)
class LoadedShare4V:
    """What the builder returned, and the folder that the tower's weights are of."""

    tokenizer: Any
    model: Any
    image_processor: Any
    tower: str


def check_share4v(options: ModelOptions) -> None:
    """Raise `MissingRequirementError` where upstream cannot run."""
    try:
        transformers = version("transformers")
    except PackageNotFoundError:
        transformers = "none"
    has_package = importlib.util.find_spec("share4v") is not None
    if not has_package or not f"{transformers}.".startswith(f"{TRANSFORMERS}."):
        raise MissingRequirementError(
            f"share4v: expected {NEEDS}, found transformers {transformers} and"
            f" {'a' if has_package else 'no'} share4v. Install them: {_INSTALL}, or measure in an"
            " environment that has them."
        )


def find_share4v_files(options: ModelOptions) -> CheckpointFiles:
    """Decide by its files what a checkpoint is.

    Raises:
        ValueError: not a checkpoint of upstream's trainer; an adapter; a base that is missing or
            too much; a quantization.
    """
    if type(options.quantization) is not Quantization:
        raise ValueError(
            "--quantization: expected none with share4v, whose builder quantizes its projector"
            f" too, found {options.quantization.describe()}. Leave it out."
        )
    folder = Path(options.path)
    if not folder.is_dir():
        raise ValueError(
            f"--model share4v:{options.path}: expected a folder, found none. Download the"
            " checkpoint first, for example by `huggingface-cli download`."
        )
    names = sorted(each.name for each in folder.iterdir())
    found = read_model_type(folder, names)
    if found != _MODEL_TYPE:
        raise ValueError(
            f"{folder}: expected the model_type {_MODEL_TYPE!r} in config.json, found {found!r}."
            " Pass a checkpoint of ShareGPT4V, or another KIND than share4v."
        )
    if "adapter_config.json" in names:
        raise ValueError(
            f"{folder}: expected a whole model or {_PROJECTOR}, found a LoRA. Merge it first, by"
            " upstream's scripts."
        )
    if any(is_model_file(name) for name in names):
        kind = FULL
    elif _PROJECTOR in names:
        kind = STAGE_1
    else:
        raise ValueError(
            f"{folder}: expected weights of a model or {_PROJECTOR}, found {names[:8]}. Pass the"
            " folder that upstream's trainer wrote."
        )
    base = find_base(folder, kind, options.base)
    return CheckpointFiles(kind=kind, folder=folder, base=base, builder_name=_BUILDER_NAME)


def load_share4v(
    files: CheckpointFiles, options: ModelOptions, dtype: "torch.dtype"
) -> LoadedShare4V:
    """Load a checkpoint.

    Args:
        files: see `find_share4v_files`.
        options: for the device.
        dtype: of all weights.

    Raises:
        MissingRequirementError: upstream's modules do not import here.
        ValueError: a checkpoint that upstream cannot load, or weights that are missing.
    """
    import torch

    builder = _import_builder()
    try:
        # The builder prints what it does; standard output belongs to the command.
        with float16_read_as(builder, dtype), contextlib.redirect_stdout(sys.stderr):
            tokenizer, model, image_processor, _ = builder.load_pretrained_model(
                str(files.folder),
                None if files.base is None else str(files.base),
                files.builder_name,
                device=options.device,
            )
    except torch.cuda.OutOfMemoryError:
        raise
    except Exception as error:  # a damaged file raises what its library likes
        raise ValueError(
            f"{files.folder}: expected a ShareGPT4V checkpoint of the kind {files.kind!r} that"
            f" upstream loads, found {type(error).__name__}: {error}"
        ) from error
    trained = _load_trained_tower(files.folder / _TOWER, model)
    check_projector(files, model, dtype)
    check_dtype(model, dtype)
    tower = str(model.config.mm_vision_tower) if trained is None else str(trained)
    return LoadedShare4V(tokenizer, model.eval(), image_processor, tower)


def _load_trained_tower(folder: Path, model: Any) -> Optional[Path]:
    """Load what `--tune_entire_model` trained of the tower; the folder, if it is there."""
    import torch

    file = folder / "pytorch_model.bin"
    if not file.is_file():
        return None
    tower = model.get_vision_tower().vision_tower
    weights = torch.load(file, map_location="cpu", weights_only=True)
    held = dict(tower.named_parameters())
    missing = sorted(set(held) - set(weights))
    wrong = [name for name in held if name in weights and held[name].shape != weights[name].shape]
    if missing or wrong:
        raise ValueError(
            f"{file}: expected all weights of the vision tower, found none for {missing[:3]} and"
            f" other shapes for {wrong[:3]}. Restore what the training wrote."
        )
    with torch.no_grad():
        for name, parameter in held.items():
            parameter.copy_(weights[name])
    return folder


def _import_builder() -> Any:
    try:
        from share4v.model import builder
    except ImportError as error:
        raise MissingRequirementError(
            f"share4v: expected the modules of ShareGPT4V at b6f70e9, found: {error}. See `python"
            " -c 'import share4v.model.builder'` for why they do not import."
        ) from error
    return builder
