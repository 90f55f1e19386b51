"""`regap-bench demo`: the whole story in miniature."""

import argparse
from pathlib import Path
from typing import List, Tuple

from regap_benchmarks.commands.command import FAILED, Commands, complain, say
from regap_benchmarks.miniature.demo import DemoError, run_demo
from regap_benchmarks.miniature.measuring import MeasureSettings
from regap_benchmarks.miniature.report import table, text_table
from regap_benchmarks.miniature.study import DEFAULT_LOSS, StudySettings

_OUTPUT, _STEPS, _PICTURES, _SEEDS = "regap-demo", 300, 600, (0, 1, 2)
_QUICK_OUTPUT, _QUICK_STEPS, _QUICK_PICTURES, _QUICK_SEEDS = "regap-demo-quick", 60, 128, (0,)
_QUICK_MEASURE = MeasureSettings(
    pairs=24, resamples=4, captions=16, questions=32, conditions=("none", "blank", "unrelated")
)
_WEIGHT = 2.0


def add(commands: Commands) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "demo",
        help="the whole story in miniature: train, regularise, measure the gap, safety and utility",
        description="Build tiny aligned language models and a vision tower (kept in the user's"
        " cache folder), pretrain the projector with upstream's own train.py with weight 0 and with"
        " a weight, measure the gap, safety under several pictures and utility, and write"
        " report.md, report.json, demo.png and demo.svg. The same command goes on after an"
        " interruption.",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"one seed, smaller bases, {_QUICK_STEPS} steps, into {_QUICK_OUTPUT}",
    )
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help=f"folder to write (default: {_OUTPUT})"
    )
    parser.add_argument(
        "--seeds",
        type=_integers,
        metavar="A,B",
        help=f"each a world, a language model and a training (default: {_shown(_SEEDS)})",
    )
    parser.add_argument(
        "--weights",
        type=_numbers,
        default=(_WEIGHT,),
        metavar="A,B",
        help=f"lambdas above 0; weight 0 is trained too (default: {_WEIGHT:g})",
    )
    parser.add_argument(
        "--losses",
        type=_names,
        default=(DEFAULT_LOSS,),
        metavar="A,B",
        help=f"formulas, of `regap plugins` (default: {DEFAULT_LOSS})",
    )
    parser.add_argument(
        "--steps", type=int, metavar="N", help=f"optimiser steps of a training (default: {_STEPS})"
    )
    parser.add_argument(
        "--pictures",
        type=int,
        metavar="N",
        help=f"captioned pictures of a training (default: {_PICTURES})",
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=0,
        metavar="N",
        help="trainings at once; 0: one on each core, up to 8 (default: %(default)s)",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="delete an earlier demo in the folder first"
    )
    parser.set_defaults(run=_demo, usage_error=parser.error)


def _demo(arguments: argparse.Namespace) -> int:
    quick = arguments.quick
    steps, pictures = arguments.steps, arguments.pictures
    try:
        settings = StudySettings(
            output=arguments.output or Path(_QUICK_OUTPUT if quick else _OUTPUT),
            seeds=arguments.seeds or (_QUICK_SEEDS if quick else _SEEDS),
            weights=arguments.weights,
            losses=arguments.losses,
            steps=(_QUICK_STEPS if quick else _STEPS) if steps is None else steps,
            pictures=(_QUICK_PICTURES if quick else _PICTURES) if pictures is None else pictures,
            recipe="quick" if quick else "full",
            measure=_QUICK_MEASURE if quick else MeasureSettings(),
        )
        if arguments.workers < 0:
            raise ValueError(f"--workers: expected 0 or more, found {arguments.workers}.")
    except ValueError as error:
        arguments.usage_error(str(error))
    try:
        report = run_demo(
            settings, say=say, workers=arguments.workers, overwrite=arguments.overwrite
        )
    except DemoError as error:
        complain(f"regap-bench demo: {error}")
        return FAILED
    say("")
    say(text_table(table(report.checkpoints)))
    say("")
    for sentence in (*report.sentences, *report.quantized):
        say(f"- {sentence}")
    say(f"\nReport: {settings.output.resolve() / 'report.md'}")
    identity = report.identity
    if identity is not None and not (identity.same_losses and identity.same_weights):
        complain(
            "regap-bench demo: expected the same training without the flag and with weight 0, found"
            " a difference. Please report it with report.json.",
        )
        return FAILED
    return 0


def _integers(text: str) -> Tuple[int, ...]:
    return tuple(int(word) for word in _words(text))


def _numbers(text: str) -> Tuple[float, ...]:
    return tuple(float(word) for word in _words(text))


def _names(text: str) -> Tuple[str, ...]:
    return tuple(_words(text))


def _words(text: str) -> List[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _shown(values: Tuple[int, ...]) -> str:
    return ",".join(map(str, values))
