"""Loads MiniGPT-4 and MiniGPT-v2 from upstream's YAML, as upstream's demo.py does, and checks it.

Upstream passes over a checkpoint that is not named, and over weights that are not in it: the
projector would be a random one without a word. Written for MiniGPT-4 d94738a.
"""

import contextlib
import importlib.util
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, Dict, Tuple

from regap_benchmarks.quantization import Quantization
from regap_benchmarks.runners.llava_checkpoint import float16_read_as
from regap_benchmarks.runners.runner import MissingRequirementError, ModelOptions
from regap_benchmarks.runners.transformers_generation import check_device, resolve_dtype

TRANSFORMERS = ("4.30", "4.37")
NEEDS = (
    "a checkout of Vision-CAIR/MiniGPT-4 (commit d94738a) on PYTHONPATH, with transformers 4.30"
    " (4.37 runs too), omegaconf and timm"
)
_INSTALL = (
    "`pip install transformers==4.30.0 tokenizers==0.13.3 peft==0.2.0 accelerate==0.20.3"
    " timm==0.6.13 omegaconf==2.3.0 webdataset==0.2.48 'numpy<2' sentencepiece torchvision iopath"
    " pandas decord opencv-python-headless scikit-image visual-genome wandb pillow`"
)
_PACKAGES = ("minigpt4", "omegaconf", "timm")
# Of what every stage trains and every checkpoint must hold; the second with LoRA.
_TRAINED = ("llama_proj.", "lora_")


# Of upstream's minigpt4.conversation.conversation, by model_type, as its demos choose them.
CONVERSATIONS = {
    "pretrain_vicuna0": "CONV_VISION_Vicuna0",
    "pretrain_llama2": "CONV_VISION_LLama2",
    "pretrain": "CONV_VISION_minigptv2",
}


@dataclass(frozen=True)
class LoadedMiniGPT4:
    """A loaded model.

    Attributes:
        model: upstream's.
        preprocess: a picture to what the model takes, [3, H, W], by the YAML's image processor.
        caption: a caption as upstream's pretraining reads it, by the YAML's text processor.
        settings: the section `model`, with upstream's defaults.
    """

    model: Any
    preprocess: Callable[[Any], Any]
    caption: Callable[[str], str]
    settings: Dict[str, Any]


def check_minigpt4(options: ModelOptions) -> None:
    """Raise `MissingRequirementError` where upstream cannot run."""
    try:
        transformers = version("transformers")
    except PackageNotFoundError:
        transformers = "none"
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    known = any(f"{transformers}.".startswith(f"{each}.") for each in TRANSFORMERS)
    if missing or not known:
        without = f", no {' and no '.join(missing)}" if missing else ""
        raise MissingRequirementError(
            f"minigpt4: expected {NEEDS}, found transformers {transformers}{without}. Install"
            f" them: {_INSTALL}, or measure in an environment that has them."
        )


def load_minigpt4(options: ModelOptions) -> LoadedMiniGPT4:
    """Load the model of a YAML.

    In float16 every dtype is upstream's own choice: the LLM and the image encoder in float16, the
    rest in float32 under autocast, on a GPU. In float32 all is float32, without autocast.

    Args:
        options: `path` is the YAML.

    Raises:
        MissingRequirementError: upstream's modules do not import here.
        ValueError: a YAML without a checkpoint, one that upstream cannot load, weights that are
            missing, or options that upstream does not have.
    """
    import torch

    _check_options(options)
    registry, config_class, base_model = _import_upstream()
    path = Path(options.path)
    try:
        # Upstream prints what it does; standard output belongs to the command.
        with contextlib.redirect_stdout(sys.stderr):
            config = config_class(SimpleNamespace(cfg_path=str(path), options=None))
            settings = config.model_cfg
            checkpoint = _checkpoint(path, settings)
            _place(settings, options)
            with float16_read_as(base_model, resolve_dtype(options.dtype)):
                model = registry.get_model_class(settings.arch).from_config(settings)
            preprocess, caption = _processors(registry, config, path)
    except torch.cuda.OutOfMemoryError:
        raise
    except (MissingRequirementError, _SaidError):
        raise
    except Exception as error:  # OmegaConf and damaged files raise what they like
        raise ValueError(
            f"{path}: expected a YAML of MiniGPT-4 whose model upstream loads, found"
            f" {type(error).__name__}: {error}"
        ) from error
    _check_weights(checkpoint, model)
    model = model.to(options.device)
    if options.dtype == "float32":
        model.maybe_autocast = contextlib.nullcontext
    kept = {str(name): settings[name] for name in settings}
    return LoadedMiniGPT4(model.eval(), preprocess, caption, kept)


class _SaidError(ValueError):
    """An error whose message needs nothing around it."""


def _check_options(options: ModelOptions) -> None:
    check_device(options.device)
    for flag, given in (
        ("--model-base", options.base),
        ("--conversation", options.conversation),
        ("--image-aspect", options.image_aspect),
    ):
        if given is not None:
            raise ValueError(
                f"{flag}: expected none with minigpt4, whose YAML says it all, found {given!r}."
                " Leave it out."
            )
    if type(options.quantization) is not Quantization:
        raise ValueError(
            "--quantization: expected none with minigpt4, found"
            f" {options.quantization.describe()}. Upstream's own 8 bits are `low_resource: True`"
            " under model in the YAML."
        )
    on_gpu = options.device.startswith("cuda")
    if options.dtype != "float32" and not (options.dtype == "float16" and on_gpu):
        raise ValueError(
            "--dtype: expected float32, or float16 on a GPU, which are all that upstream has, found"
            f" {options.dtype} on {options.device}. Choose one."
        )
    if not Path(options.path).is_file():
        raise ValueError(
            f"--model minigpt4:{options.path}: expected a YAML of upstream, found no such file."
            " Pass one of eval_configs/ or train_configs/ with the checkpoint in it."
        )


def _checkpoint(path: Path, settings: Any) -> Path:
    given = settings.get("ckpt", "")
    if not given or not Path(given).is_file():
        raise _SaidError(
            f"{path}: expected a checkpoint's file at model.ckpt, found {given!r}. Upstream would"
            " measure a random projector without one: write its path there."
        )
    return Path(given)


def _place(settings: Any, options: ModelOptions) -> None:
    if settings.get("low_resource", False) and not options.device.startswith("cuda"):
        raise _SaidError(
            f"{options.path}: expected low_resource: False without a GPU, found 8 bits asked for."
            " Change it in the YAML, or pass --device cuda."
        )
    _, _, number = options.device.partition(":")
    settings.device_8bit = int(number or 0) if options.device.startswith("cuda") else 0
    if options.dtype == "float32":
        settings.vit_precision = "fp32"


def _processors(
    registry: Any, config: Any, path: Path
) -> Tuple[Callable[[Any], Any], Callable[[str], str]]:
    """Of the first data set of the YAML, as upstream's eval_utils.py takes them."""
    datasets = config.datasets_cfg
    names = list(datasets)
    first: Any = datasets[names[0]] if names else {}
    if "train" not in first.get("vis_processor", {}):
        raise _SaidError(
            f"{path}: expected datasets with a vis_processor.train, which says how pictures are"
            f" read, found {names}. Take the section of upstream's own YAML."
        )
    text = first.get("text_processor", {}).get("train", {"name": "blip_caption"})
    picture, caption = (
        registry.get_processor_class(each["name"]).from_config(each)
        for each in (first["vis_processor"]["train"], text)
    )
    return picture, caption


def _check_weights(checkpoint: Path, model: Any) -> None:
    import torch

    saved = torch.load(checkpoint, map_location="cpu", weights_only=True)["model"]
    held = {
        name: weight
        for name, weight in model.state_dict().items()
        if any(mark in name for mark in _TRAINED)
    }
    missing = [name for name in held if name not in saved]
    differs = [
        name
        for name, weight in held.items()
        if name in saved and not torch.equal(weight.cpu(), saved[name].to(weight.dtype))
    ]
    if missing or differs:
        raise ValueError(
            f"{checkpoint}: expected all weights of llama_proj and of LoRA, found none for"
            f" {missing[:3]} and others in the model for {differs[:3]}. Check arch, lora_r and the"
            " version of peft against the training."
        )


def _import_upstream() -> Any:
    try:
        with contextlib.redirect_stdout(sys.stderr):
            import minigpt4  # noqa: F401
            from minigpt4.common.config import Config
            from minigpt4.common.registry import registry
            from minigpt4.models import base_model
    except ImportError as error:
        raise MissingRequirementError(
            f"minigpt4: expected {NEEDS}, found: {error}. See `python -c 'import minigpt4'` for"
            " why it does not import."
        ) from error
    return registry, Config, base_model
