"""`regap-bench experiment`: the paper's questions as recipes."""

import argparse
from pathlib import Path

from regap_benchmarks.commands.command import DONE, FAILED, Commands, complain, say
from regap_benchmarks.experiments.engine import (
    RECIPES,
    ExperimentError,
    recipe_named,
    run_experiment,
)
from regap_benchmarks.experiments.paper import show_paper
from regap_benchmarks.experiments.plan import PAPER, PlanError, read_plan
from regap_benchmarks.miniature.report import text_table
from regap_benchmarks.miniature.units import UnitError


def add(commands: Commands) -> None:
    """Add the command to the command line."""
    listed = "; ".join(f"{recipe.name}: {recipe.summary}" for recipe in RECIPES.values())
    parser = commands.add_parser(
        "experiment",
        help="run one of the paper's questions by a plan that is fixed beforehand",
        description=f"{listed}. The plan's hash is recorded before anything runs; the same command"
        " goes on after an interruption. Writes result.json, figure.svg and result.md.",
    )
    parser.add_argument("name", metavar="NAME", help=f"one of {', '.join(RECIPES)}")
    parser.add_argument(
        "--config", type=Path, required=True, metavar="FILE", help="the plan, JSON or TOML"
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="folder of trainings and measurements (default: regap-experiments/NAME)",
    )
    parser.add_argument(
        "--results", type=Path, metavar="DIR", help="folder of the result (default: OUTPUT/result)"
    )
    parser.add_argument(
        "--study",
        type=Path,
        metavar="DIR",
        help="use the trainings of another experiment, of the same settings but for seeds, losses"
        " and weights",
    )
    parser.add_argument(
        "--workers", type=int, default=0, metavar="N", help="trainings at once; 0: one on each core"
    )
    small = parser.add_argument_group("size small")
    small.add_argument(
        "--bases",
        type=Path,
        metavar="DIR",
        help="folder of prepared bases; see docs/experiments.md",
    )
    small.add_argument(
        "--only-base",
        type=int,
        metavar="SEED",
        help="run the units of this base alone; the command without it merges",
    )
    small.add_argument(
        "--device", default="", help="in place of the size's own (cuda), to try it on another"
    )
    paper = parser.add_argument_group("size paper, whose commands are printed")
    paper.add_argument(
        "--checkout", type=Path, metavar="DIR", help="look for the commands' files in this checkout"
    )
    paper.add_argument(
        "--dry-run",
        action="store_true",
        help="rehearse the flags in a few steps of LLaVA's train.py on random weights of tiny size",
    )
    parser.set_defaults(run=_experiment)


def _experiment(arguments: argparse.Namespace) -> int:
    output = arguments.output or Path("regap-experiments") / arguments.name
    try:
        plan, _ = read_plan(arguments.config)
        if plan.size == PAPER:
            complete = show_paper(
                recipe_named(arguments.name),
                plan,
                checkout=arguments.checkout,
                rehearsal=output / "rehearsal" if arguments.dry_run else None,
                say=say,
            )
            return DONE if complete else FAILED
    except (PlanError, UnitError) as error:
        complain(f"regap-bench experiment: {error}")
        return FAILED
    results = arguments.results or output / "result"
    try:
        result = run_experiment(
            arguments.name,
            arguments.config,
            output=output,
            results=results,
            say=say,
            study_folder=arguments.study,
            workers=arguments.workers,
            bases=arguments.bases,
            only_base=arguments.only_base,
            device=arguments.device,
        )
    except (PlanError, ExperimentError) as error:
        complain(f"regap-bench experiment: {error}")
        return FAILED
    if result is None:
        say(f"Base {arguments.only_base} is done. Without --only-base the command merges all.")
        return DONE
    say("")
    say(text_table(result.rows))
    say("")
    for sentence in (*result.sentences, *result.notes):
        say(f"- {sentence}")
    say(f"\nResult: {results / 'result.md'}")
    return DONE
