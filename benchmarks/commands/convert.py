"""`regap-bench convert`: upstream LLaVA's checkpoints for transformers, and back."""

import argparse
from pathlib import Path
from typing import Optional

from regap_benchmarks.commands.command import (
    DONE,
    FAILED,
    WRONG_USAGE,
    Commands,
    complain,
    complain_of_missing,
    say,
)

LLAVA, HUGGINGFACE = "llava", "huggingface"


def add(commands: Commands) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "convert",
        help="LLaVA's checkpoints for transformers, and back",
        description="Write a checkpoint of upstream LLaVA in the form of transformers'"
        " LlavaForConditionalGeneration, with processor and chat template, or such a one in"
        " upstream's form. Runs with transformers 5; needs memory for the weights twice.",
    )
    parser.add_argument(
        "--model",
        required=True,
        metavar="KIND:PATH",
        help=f"{LLAVA}:DIR to {HUGGINGFACE}, or {HUGGINGFACE}:DIR to {LLAVA}",
    )
    parser.add_argument(
        "--model-base", type=Path, metavar="DIR", help="language model under a mm_projector.bin"
    )
    parser.add_argument(
        "--vision-tower",
        type=Path,
        metavar="DIR",
        help="the CLIP tower, where it is not where the checkpoint says",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="a new folder")
    parser.set_defaults(run=_convert)


def _convert(arguments: argparse.Namespace) -> int:
    from regap_benchmarks.conversion.huggingface_to_llava import convert_huggingface_to_llava
    from regap_benchmarks.conversion.llava_to_huggingface import convert_llava_to_huggingface

    kind, _, path = arguments.model.partition(":")
    complaint = _wrong(arguments, kind, path)
    if complaint is not None:
        complain(f"regap-bench convert: {complaint}")
        return WRONG_USAGE
    try:
        if kind == LLAVA:
            convert_llava_to_huggingface(
                Path(path),
                arguments.output,
                base=arguments.model_base,
                vision_tower=arguments.vision_tower,
            )
        else:
            convert_huggingface_to_llava(Path(path), arguments.output)
    except ImportError as error:
        return complain_of_missing("convert", error)
    except (ValueError, OSError) as error:
        complain(f"regap-bench convert: {error}")
        return FAILED
    say(f"{arguments.output}: written for {HUGGINGFACE if kind == LLAVA else LLAVA}")
    return DONE


def _wrong(arguments: argparse.Namespace, kind: str, path: str) -> Optional[str]:
    if kind not in (LLAVA, HUGGINGFACE) or not path:
        return (
            f"--model: expected {LLAVA}:DIR or {HUGGINGFACE}:DIR, found {arguments.model!r}. Name"
            " the kind of checkpoint and its folder."
        )
    if kind == HUGGINGFACE and (arguments.model_base or arguments.vision_tower):
        return (
            f"--model-base, --vision-tower: expected with {LLAVA}: only, found them with"
            f" {HUGGINGFACE}:. Leave them out."
        )
    return None
