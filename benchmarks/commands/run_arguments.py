"""The arguments of `run` and `generate`: model, defences, tasks, pictures, turns, decoding."""

import argparse
from pathlib import Path

from regap_benchmarks.commands.model_arguments import (
    add_model,
    kind_and_path,
    names,
    options_of,
)
from regap_benchmarks.decoding import Decoding
from regap_benchmarks.environment import process_shard
from regap_benchmarks.evaluation import RunSettings
from regap_benchmarks.pictures import CONDITIONS
from regap_benchmarks.plugins import BenchmarkPlugins
from regap_benchmarks.turn_forms import FORMS

_DECODING = Decoding()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add them to a command."""
    parser.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="folder of the run"
    )
    add_model(parser)
    parser.add_argument(
        "--defence",
        metavar="A,B",
        help="defences before the model; the first sees the request first and the answer last; see"
        " regap-bench defences",
    )
    _add_questions(parser.add_argument_group("questions"))
    _add_decoding(parser.add_argument_group("answers"))


def _add_questions(group: "argparse._ArgumentGroup") -> None:
    group.add_argument(
        "--tasks", required=True, metavar="A,B", help="sets of questions; see regap-bench tasks"
    )
    group.add_argument(
        "--picture",
        metavar="A,B",
        help=f"ask each request under each of {', '.join(CONDITIONS)} (default: as its set has it)",
    )
    group.add_argument(
        "--turns",
        metavar="A,B",
        help=f"ask each request in each of these forms of conversation: {', '.join(FORMS)}"
        " (default: in one turn)",
    )
    group.add_argument(
        "--attacked",
        type=Path,
        metavar="DIR",
        help="ask each request with its picture of this attack, too; see regap-bench attack",
    )
    group.add_argument("--data", type=Path, metavar="DIR", help="folder of the official files")
    group.add_argument(
        "--limit", type=int, metavar="N", help="the first N requests of each task only"
    )


def _add_decoding(group: "argparse._ArgumentGroup") -> None:
    group.add_argument(
        "--batch-size",
        type=int,
        default=1,
        metavar="N",
        help="requests asked together, at most (default: %(default)s)",
    )
    group.add_argument(
        "--max-new-tokens",
        type=int,
        default=_DECODING.max_new_tokens,
        metavar="N",
        help="tokens of an answer, at most (default: %(default)s)",
    )
    group.add_argument(
        "--temperature",
        type=float,
        default=_DECODING.temperature,
        metavar="FLOAT",
        help="0: greedy (default); above 0: sampled",
    )
    group.add_argument(
        "--top-p",
        type=float,
        default=_DECODING.top_p,
        metavar="FLOAT",
        help="sample from the likeliest tokens of this probability (default: %(default)s)",
    )
    group.add_argument(
        "--top-k",
        type=int,
        default=_DECODING.top_k,
        metavar="N",
        help="sample from the N likeliest tokens; 0: from all (default: %(default)s)",
    )
    group.add_argument(
        "--repetition-penalty",
        type=float,
        default=_DECODING.repetition_penalty,
        metavar="FLOAT",
        help="above 1: repeat less (default: %(default)s)",
    )
    group.add_argument(
        "--seed",
        type=int,
        default=_DECODING.seed,
        metavar="N",
        help="of sampling (default: %(default)s)",
    )
    group.add_argument(
        "--retry-failed",
        action="store_true",
        help="ask again what ended in an error earlier",
    )


def settings_of(arguments: argparse.Namespace, plugins: BenchmarkPlugins) -> RunSettings:
    """The settings that the arguments say.

    Raises:
        ValueError: an unknown name, a value out of range.
    """
    kind, path = kind_and_path(arguments.model)
    runner = plugins.runners.get(kind)
    return RunSettings(
        runner=runner,
        options=options_of(arguments, path, loads_weights=runner.loads_weights),
        benchmarks=[plugins.benchmarks.get(name) for name in names(arguments.tasks)],
        conditions=names(arguments.picture),
        decoding=Decoding(
            max_new_tokens=arguments.max_new_tokens,
            temperature=arguments.temperature,
            top_p=arguments.top_p,
            top_k=arguments.top_k,
            repetition_penalty=arguments.repetition_penalty,
            seed=arguments.seed,
        ),
        limit=arguments.limit,
        data=arguments.data,
        batch_size=arguments.batch_size,
        shard=process_shard(),
        retry_failed=arguments.retry_failed,
        defences=[plugins.defences.get(name) for name in names(arguments.defence)],
        turns=names(arguments.turns),
        attacked=arguments.attacked,
    )
