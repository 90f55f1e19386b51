"""`regap-bench align`: a trained checkpoint with the modality gap taken out, without training."""

import argparse
from pathlib import Path

from regap_benchmarks.alignment.affine_map import MATCHES, MEAN
from regap_benchmarks.alignment.aligned_checkpoint import RECORD, AlignSettings, align_checkpoint
from regap_benchmarks.commands.command import (
    DONE,
    FAILED,
    WRONG_USAGE,
    Commands,
    complain,
    complain_of_missing,
    say,
)
from regap_benchmarks.commands.model_arguments import add_model, kind_and_path, options_of
from regap_benchmarks.gap.pairs import read_pairs
from regap_benchmarks.gap.sources import source_named
from regap_benchmarks.gap.states import PAIRS, PROTOCOLS
from regap_benchmarks.plugins import PluginError
from regap_benchmarks.progress import ProgressLine
from regap_benchmarks.runners.runner import MissingRequirementError

_SAMPLES = 100
_ERRORS = (ValueError, OSError, MissingRequirementError, PluginError)


def add(commands: Commands) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "align",
        help="match image tokens to text tokens without training",
        description="Show image-text pairs to a checkpoint, fit an affine map that gives its image"
        " tokens the mean, or mean and covariance, of its text tokens at the LLM's input, and write"
        " a copy of the checkpoint in the same form with the map folded into the projector's last"
        f" linear layer, and {RECORD} beside it. See docs/alignment.md.",
    )
    add_model(parser)
    pairs = parser.add_argument_group("pairs")
    pairs.add_argument(
        "--images", type=Path, required=True, metavar="DIR", help="folder of pictures"
    )
    pairs.add_argument(
        "--texts", type=Path, required=True, metavar="FILE", help="as for regap-bench gap"
    )
    pairs.add_argument(
        "--samples",
        type=int,
        default=_SAMPLES,
        metavar="N",
        help="the first N pairs (default: %(default)s)",
    )
    group = parser.add_argument_group("map")
    group.add_argument(
        "--match",
        choices=MATCHES,
        default=MEAN,
        help="what of the text tokens the image tokens are given (default: %(default)s)",
    )
    group.add_argument(
        "--strength",
        type=float,
        default=1.0,
        metavar="SHARE",
        help="how far on the way, 0 to 1 (default: %(default)s)",
    )
    group.add_argument(
        "--shrinkage",
        type=float,
        metavar="SHARE",
        help="of the covariances towards a multiple of the identity, 0 to 1 (default: by the number"
        " of tokens of each)",
    )
    group.add_argument(
        "--protocol",
        choices=PROTOCOLS,
        default=PAIRS,
        help="which tokens are text, as for regap-bench gap (default: %(default)s)",
    )
    group.add_argument(
        "--batch-size", type=int, default=1, metavar="N", help="pairs shown together (default: 1)"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder to write")
    parser.set_defaults(run=_align)


def _align(arguments: argparse.Namespace) -> int:
    try:
        _check_numbers(arguments)
        kind_name, path = kind_and_path(arguments.model)
        kind = source_named(kind_name)
        options = options_of(arguments, path, loads_weights=kind.loads_weights)
    except ImportError as error:
        return complain_of_missing("align", error)
    except ValueError as error:
        complain(f"regap-bench align: {error}")
        return WRONG_USAGE
    try:
        record = align_checkpoint(
            kind,
            options,
            lambda: read_pairs(arguments.images, arguments.texts, limit=arguments.samples),
            AlignSettings(
                match=arguments.match,
                strength=arguments.strength,
                shrinkage=arguments.shrinkage,
                protocol=arguments.protocol,
                batch_size=arguments.batch_size,
            ),
            output=arguments.output,
            progress=ProgressLine("align", unit="pairs"),
        )
    except ImportError as error:
        return complain_of_missing("align", error)
    except _ERRORS as error:
        complain(f"regap-bench align: {error}")
        return FAILED
    before, after = record["frechet_distance_at_input"].values()
    say(
        f"{arguments.output}: {record['match']} matched with strength {record['strength']:g} over"
        f" {record['tokens']['image']} image and {record['tokens']['text']} text tokens.\n"
        f"Frechet distance at the input: {before:.4g} before, {after:.4g} after, of the same"
        " tokens; measure others by regap-bench gap."
    )
    return DONE


def _check_numbers(arguments: argparse.Namespace) -> None:
    for name in ("strength", "shrinkage"):
        value = getattr(arguments, name)
        if value is not None and not 0 <= value <= 1:
            raise ValueError(f"--{name}: expected a number from 0 to 1, found {value}.")
    if arguments.batch_size < 1:
        raise ValueError(f"--batch-size: expected 1 or more, found {arguments.batch_size}.")
