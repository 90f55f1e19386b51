"""The arguments that say which model is loaded, and how."""

import argparse
import os
from typing import List, Optional, Tuple

from regap_benchmarks.quantization import (
    COMPUTE_DTYPES,
    NAMES,
    Quantization,
    quantization_from_names,
)
from regap_benchmarks.runners.runner import ModelOptions


def add_model(parser: argparse.ArgumentParser, *, several: bool = False) -> None:
    """Add them to a command.

    Args:
        parser: of the command.
        several: whether `--model` may be given more than once.
    """
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model",
        required=True,
        action="append" if several else "store",
        metavar="KIND:PATH",
        help="a runner and a checkpoint, such as llava:checkpoints/llava-v1.5-7b; see"
        " regap-bench runners" + ("; may be given more than once" if several else ""),
    )
    group.add_argument(
        "--model-base", metavar="PATH", help="base model of a projector or an adapter alone"
    )
    group.add_argument(
        "--quantization",
        choices=NAMES,
        default="none",
        help="how the weights are held, by bitsandbytes (default: %(default)s)",
    )
    group.add_argument(
        "--dtype",
        choices=COMPUTE_DTYPES,
        help="of weights that are not quantized (default: float16 on a GPU, float32 on a CPU)",
    )
    group.add_argument(
        "--compute-dtype",
        choices=COMPUTE_DTYPES,
        help="of the products with nf4 and fp4 weights (default: as --dtype)",
    )
    group.add_argument(
        "--double-quantization",
        choices=("yes", "no"),
        help="quantize the scales of nf4 and fp4 too (default: yes)",
    )
    group.add_argument(
        "--int8-threshold",
        type=float,
        metavar="FLOAT",
        help="magnitude of activations above which int8 is not used (default: 6)",
    )
    group.add_argument(
        "--skip-modules", metavar="A,B", help="modules that stay unquantized, by name"
    )
    group.add_argument(
        "--quantize-vision",
        action="store_true",
        help="quantize vision tower and projector too; they stay as they are without it",
    )
    group.add_argument("--device", metavar="NAME", help="such as cuda:1 (default: a GPU, if any)")
    group.add_argument(
        "--conversation",
        metavar="NAME",
        help="conversation template of upstream (default: as upstream chooses for the model)",
    )
    group.add_argument(
        "--image-aspect",
        choices=("pad", "crop"),
        help="pad pictures to a square or crop their centre (default: as the checkpoint says)",
    )
    if not several:
        _add_server(parser)


def _add_server(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("a model behind a server (its key: REGAP_SERVER_KEY)")
    group.add_argument(
        "--server",
        metavar="URL",
        help="base of its API, such as http://localhost:8000/v1, for --model openai:NAME",
    )
    group.add_argument(
        "--requests-per-minute",
        type=float,
        metavar="FLOAT",
        help="that begin, at most (default: no limit)",
    )


def options_of(arguments: argparse.Namespace, path: str, *, loads_weights: bool) -> ModelOptions:
    """How the model at `path` is loaded.

    Args:
        arguments: of the command.
        path: of the checkpoint.
        loads_weights: whether a device is looked for.

    Raises:
        ValueError: a value out of range.
    """
    device = arguments.device or (_device() if loads_weights else "cpu")
    dtype = arguments.dtype or ("float16" if device.startswith("cuda") else "float32")
    return ModelOptions(
        path=path,
        base=arguments.model_base,
        quantization=_quantization(arguments, dtype),
        dtype=dtype,
        device=device,
        conversation=arguments.conversation,
        image_aspect=arguments.image_aspect,
        server=getattr(arguments, "server", None),
        per_minute=getattr(arguments, "requests_per_minute", None),
    )


def kind_and_path(text: str) -> Tuple[str, str]:
    """The two parts of KIND:PATH.

    Raises:
        ValueError: one of them is missing.
    """
    kind, colon, path = text.partition(":")
    if not colon or not kind or not path:
        raise ValueError(
            f"--model: expected KIND:PATH, such as llava:checkpoints/llava-v1.5-7b, found {text!r}."
            " See regap-bench runners."
        )
    return kind, path


def names(text: Optional[str]) -> List[str]:
    """The names of a list with commas."""
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def _quantization(arguments: argparse.Namespace, dtype: str) -> Quantization:
    double = {"yes": True, "no": False, None: None}[arguments.double_quantization]
    return quantization_from_names(
        arguments.quantization,
        dtype=dtype,
        compute_dtype=arguments.compute_dtype,
        double_quantization=double,
        threshold=arguments.int8_threshold,
        skip_modules=names(arguments.skip_modules),
        quantize_vision=arguments.quantize_vision,
    )


def _device() -> str:
    try:
        import torch
    except ImportError:
        return "cpu"
    if not torch.cuda.is_available():
        return "cpu"
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
