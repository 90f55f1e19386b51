"""`regap-bench gap`: the modality gap of checkpoints, layer by layer."""

import argparse
import json
from pathlib import Path
from typing import Dict, List

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
from regap_benchmarks.gap.measurement import GapSettings, measure
from regap_benchmarks.gap.pairs import Pairs, pairs_of_samples, read_pairs
from regap_benchmarks.gap.sources import source_named
from regap_benchmarks.gap.states import OFFICIAL, PROTOCOLS, SourceKind
from regap_benchmarks.gap.summary import GapSummary, as_csv, summarize
from regap_benchmarks.pictures import CONDITIONS, OWN
from regap_benchmarks.plugins import PluginError, load_plugins
from regap_benchmarks.progress import ProgressLine
from regap_benchmarks.record_file import RecordFileError
from regap_benchmarks.records import RunHeader
from regap_benchmarks.run_plan import plan_samples
from regap_benchmarks.runners.runner import MissingRequirementError, ModelOptions

_SAMPLES, _RESAMPLES, _SEED, _MEMORY = 100, 20, 0, 8.0
_ERRORS = (ValueError, OSError, MissingRequirementError, PluginError, RecordFileError)


def add(commands: Commands) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "gap",
        help="measure the modality gap of checkpoints, layer by layer",
        description="Show image-text pairs to checkpoints and measure MIR and distances between"
        " image and text tokens at every layer: a table here, OUTPUT/gap.json, gap.csv, gap.png and"
        " a file of records for each checkpoint. Killed and started again, the same command goes"
        " on after the last layer.",
    )
    add_model(parser, several=True)
    pairs = parser.add_argument_group("pairs")
    pairs.add_argument("--images", type=Path, metavar="DIR", help="folder of pictures")
    pairs.add_argument(
        "--texts",
        type=Path,
        metavar="FILE",
        help="JSON or JSON lines with image and text, caption or conversations; or a text file, a"
        " line for each picture by name",
    )
    pairs.add_argument("--task", metavar="NAME", help="or: pictures and prompts of this task")
    pairs.add_argument(
        "--picture", choices=CONDITIONS, default=OWN, help="of the task (default: %(default)s)"
    )
    pairs.add_argument("--data", type=Path, metavar="DIR", help="folder of the task's files")
    pairs.add_argument(
        "--samples",
        type=int,
        default=_SAMPLES,
        metavar="N",
        help="the first N pairs (default: %(default)s, as MIR's authors)",
    )
    _add_measurement(parser.add_argument_group("measurement"))
    parser.add_argument("--json", action="store_true", help="print gap.json in place of the table")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder to write")
    parser.set_defaults(run=_gap)


def _add_measurement(group: "argparse._ArgumentGroup") -> None:
    group.add_argument(
        "--protocol",
        choices=PROTOCOLS,
        default=OFFICIAL,
        help="official: unrelated text in a conversation, all after the picture is text; pairs:"
        " captions as in pretraining. Their numbers are not comparable (default: %(default)s)",
    )
    group.add_argument(
        "--mode",
        default="exact",
        metavar="NAME",
        help="of the Frechet distance; see docs/metrics.md (default: %(default)s)",
    )
    group.add_argument(
        "--resamples",
        type=int,
        default=_RESAMPLES,
        metavar="N",
        help="draws of pairs for MIR's interval; each costs as much as MIR (default: %(default)s)",
    )
    group.add_argument(
        "--seed", type=int, default=_SEED, metavar="N", help="of the draws (default: %(default)s)"
    )
    group.add_argument(
        "--batch-size",
        type=int,
        default=1,
        metavar="N",
        help="pairs shown together (default: %(default)s)",
    )
    group.add_argument(
        "--memory",
        type=float,
        default=_MEMORY,
        metavar="GIB",
        help="for tokens that are held; with less, the pairs are shown more often (default:"
        " %(default)s)",
    )


def _gap(arguments: argparse.Namespace) -> int:
    try:
        _check_packages()
        if arguments.batch_size < 1:
            raise ValueError(f"--batch-size: expected 1 or more, found {arguments.batch_size}.")
        settings = GapSettings(
            arguments.protocol, arguments.mode, arguments.resamples, arguments.seed
        )
        models = {text: kind_and_path(text) for text in arguments.model}
        kinds = {text: source_named(kind) for text, (kind, _) in models.items()}
        options = {
            text: options_of(arguments, path, loads_weights=kinds[text].loads_weights)
            for text, (_, path) in models.items()
        }
    except ImportError as error:
        return complain_of_missing("gap", error)
    except ValueError as error:
        complain(f"regap-bench gap: {error}")
        return WRONG_USAGE
    try:
        for text, kind in kinds.items():
            kind.check(options[text])
        pairs = _pairs(arguments)
        summaries: Dict[str, GapSummary] = {}
        for text, name in _file_names(list(models)).items():
            path = arguments.output / f"{name}.jsonl"
            summaries[name] = _measure(
                kinds[text], options[text], pairs, settings, path, arguments, name
            )
        written = _write(summaries, settings, pairs, arguments.output)
    except ImportError as error:
        return complain_of_missing("gap", error)
    except _ERRORS as error:
        complain(f"regap-bench gap: {error}")
        return FAILED
    say((arguments.output / "gap.json").read_text(encoding="utf-8") if arguments.json else written)
    return DONE


def _check_packages() -> None:
    """Import what writes the results, which would else be missed after hours."""
    import matplotlib.figure  # noqa: F401
    import tabulate  # noqa: F401


def _pairs(arguments: argparse.Namespace) -> Pairs:
    if arguments.task and not (arguments.images or arguments.texts):
        task = load_plugins().benchmarks.get(arguments.task)
        samples = plan_samples([task], conditions=[arguments.picture], data=arguments.data)
        return pairs_of_samples(samples, folder=arguments.data, limit=arguments.samples)
    if arguments.task or not (arguments.images and arguments.texts):
        raise ValueError(
            "Pairs: expected either --images with --texts, or --task, found"
            f" --images {arguments.images}, --texts {arguments.texts}, --task {arguments.task}."
        )
    return read_pairs(arguments.images, arguments.texts, limit=arguments.samples)


def _measure(
    kind: SourceKind,
    options: ModelOptions,
    pairs: Pairs,
    settings: GapSettings,
    path: Path,
    arguments: argparse.Namespace,
    name: str,
) -> GapSummary:
    source = kind.load(options)
    try:
        header = RunHeader(
            settings={**settings.describe(), "source": kind.name, "model": dict(source.describe())},
            cells=(),
            samples_sha256=pairs.sha256,
            environment={
                **environment(),
                "model_path": options.path,
                "pairs": len(pairs.pairs),
                **source.environment(),
            },
        )
        layers = measure(
            source,
            pairs,
            settings,
            path=path,
            header=header,
            batch_size=arguments.batch_size,
            memory_gib=arguments.memory,
            device=options.device,
            progress=ProgressLine(f"gap {name}", unit="steps"),
        )
    finally:
        source.close()
    return summarize(layers)


def _file_names(models: List[str]) -> Dict[str, str]:
    """A short name for each model: the end of its path, as long as it must be to be its own."""
    names: Dict[str, str] = {}
    for model in models:
        parts = Path(model.partition(":")[2]).parts
        names[model] = next(
            name
            for name in ("-".join(parts[-length:]) for length in range(1, len(parts) + 2))
            if name not in names.values() or name == "-".join(parts)
        ).replace("/", "")
    return names


def _write(
    summaries: Dict[str, GapSummary], settings: GapSettings, pairs: Pairs, folder: Path
) -> str:
    document = {
        "settings": settings.describe(),
        "pairs_sha256": pairs.sha256,
        "models": {name: summary.describe() for name, summary in summaries.items()},
    }
    text = json.dumps(document, indent=2, allow_nan=False) + "\n"
    (folder / "gap.json").write_text(text, encoding="utf-8")
    (folder / "gap.csv").write_text(as_csv(summaries), encoding="utf-8")
    from regap_benchmarks.gap.plot import plot_gap
    from regap_benchmarks.report.gap_table import gap_table

    plot_gap(summaries, [folder / "gap.png", folder / "gap.svg"])
    return f"{gap_table(summaries, settings.protocol)}\n\nReport: {folder / 'gap.json'}"
