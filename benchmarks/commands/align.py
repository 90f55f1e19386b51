"""`regap-bench align`: a trained checkpoint with the modality gap taken out, without training."""

import argparse
import json
import os
import shutil
from pathlib import Path
from typing import Any, Dict

from regap_benchmarks.alignment.affine_map import MATCHES, MEAN
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
from regap_benchmarks.environment import environment
from regap_benchmarks.gap.pairs import Pairs, read_pairs
from regap_benchmarks.gap.sources import source_named
from regap_benchmarks.gap.states import PAIRS, PROTOCOLS, SourceKind
from regap_benchmarks.plugins import PluginError
from regap_benchmarks.progress import ProgressLine
from regap_benchmarks.runners.fingerprint import fingerprint
from regap_benchmarks.runners.runner import MissingRequirementError, ModelOptions

RECORD = "regap_alignment.json"
_SAMPLES = 100
# Of the way that the first picture's tokens should have gone, or of a tenth of their length if
# they go less: bfloat16 leaves a few thousandths of the length.
_TOLERANCE = 0.1
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
        record = _aligned(kind, options, arguments)
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


def _aligned(
    kind: SourceKind, options: ModelOptions, arguments: argparse.Namespace
) -> Dict[str, Any]:
    from regap_benchmarks.alignment.affine_map import fit_map
    from regap_benchmarks.alignment.projector_files import (
        find_last_linear,
        folded_tensors,
        write_copy,
    )
    from regap_benchmarks.alignment.token_moments import collect_moments, frechet_distances

    output: Path = arguments.output
    if output.exists():
        raise ValueError(
            f"--output {output}: expected a folder that is not there yet, found one. Remove it, or"
            " pass another."
        )
    # All that can be refused is refused before a model is loaded.
    kind.check(options)
    last = find_last_linear(Path(options.path))
    pairs = read_pairs(arguments.images, arguments.texts, limit=arguments.samples)
    source = kind.load(options)
    try:
        find_last_linear(Path(options.path), source.dimension)
        moments = collect_moments(
            source,
            pairs,
            arguments.protocol,
            batch_size=arguments.batch_size,
            progress=ProgressLine("align", unit="pairs"),
        )
        described = dict(source.describe())
    finally:
        source.close()
    fitted = fit_map(
        moments.image,
        moments.text,
        match=arguments.match,
        strength=arguments.strength,
        shrinkage=arguments.shrinkage,
    )
    tensors, rounding = folded_tensors(last, fitted.map)
    before, after = frechet_distances(moments, fitted.map.moments(moments.image))
    record = {
        "schema": 1,
        "source": {
            "fingerprint": fingerprint(options.path),
            "model": described,
            "alignment": _earlier_record(Path(options.path)),
        },
        "pairs_sha256": pairs.sha256,
        "pairs": len(pairs.pairs),
        "protocol": arguments.protocol,
        "match": arguments.match,
        "strength": arguments.strength,
        "shrinkage": {"image": fitted.image_shrinkage, "text": fitted.text_shrinkage},
        "tokens": {"image": moments.image.count, "text": moments.text.count},
        "dimension": len(moments.image.mean),
        "frechet_distance_at_input": {"before": before, "after": after},
        "layer": last.weight,
        "files": list(last.files),
        "largest_relative_rounding": rounding,
        "environment": {**environment(), "model_path": options.path},
    }
    # Beside the output, on its disk: a checkpoint is there whole or not at all.
    part = output.with_name(f".{output.name}.{os.getpid()}.part")
    try:
        write_copy(last, tensors, part)
        text = json.dumps(record, indent=2) + "\n"
        (part / RECORD).write_text(text, encoding="utf-8")
        _check_moved(kind, options, part, pairs, moments.first, fitted.map, arguments.protocol)
        os.replace(part, output)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return record


def _check_moved(
    kind: SourceKind,
    options: ModelOptions,
    folder: Path,
    pairs: Pairs,
    first: Any,
    fitted: Any,
    protocol: str,
) -> None:
    """Load what was written: its image tokens must be the mapped ones.

    Raises:
        ValueError: they are not.
    """
    from dataclasses import replace

    from regap_benchmarks.alignment.token_moments import first_tokens

    source = kind.load(replace(options, path=str(folder)))
    try:
        found = first_tokens(source, pairs, protocol).double()
    finally:
        source.close()
    expected = fitted.apply(first)
    scale = max(float((expected - first.double()).norm()), 0.1 * float(first.double().norm()))
    error = float((found - expected).norm()) / scale
    if not error < _TOLERANCE:
        raise ValueError(
            f"{folder}: expected image tokens of the first pair where the map puts them, found them"
            f" {error:.3g} of the way off: the model does something with its projector's output"
            " before the LLM. It cannot be aligned by its files."
        )


def _earlier_record(folder: Path) -> Any:
    """That of a checkpoint which was aligned before; None otherwise."""
    path = folder / RECORD
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _check_numbers(arguments: argparse.Namespace) -> None:
    for name in ("strength", "shrinkage"):
        value = getattr(arguments, name)
        if value is not None and not 0 <= value <= 1:
            raise ValueError(f"--{name}: expected a number from 0 to 1, found {value}.")
    if arguments.batch_size < 1:
        raise ValueError(f"--batch-size: expected 1 or more, found {arguments.batch_size}.")
