"""`regap-bench attack`: pictures against a model's refusal, by projected gradient descent."""

import argparse
from pathlib import Path

from regap_benchmarks.attacks.attack_run import TARGET, AttackRun, attack_run
from regap_benchmarks.attacks.pgd import PgdSettings
from regap_benchmarks.commands.command import (
    DONE,
    FAILED,
    WRONG_USAGE,
    Commands,
    complain,
    complain_of_missing,
    say,
)
from regap_benchmarks.commands.generate import ERRORS
from regap_benchmarks.commands.model_arguments import add_model, kind_and_path, names, options_of
from regap_benchmarks.pictures import CONDITIONS, check_condition
from regap_benchmarks.plugins import PluginError, load_plugins
from regap_benchmarks.progress import ProgressLine

_PGD = PgdSettings()


def add(commands: Commands) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "attack",
        help="make pictures against a model's refusal",
        description="Change each picture within a small ball so that the model's answer begins with"
        " a target: white box, by projected gradient descent. OUTPUT/attack.jsonl and"
        " OUTPUT/pictures; killed and started again, the same command goes on. Ask any checkpoint"
        " with them: regap-bench run --attacked OUTPUT.",
    )
    parser.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="folder of the attack"
    )
    add_model(parser)
    _add_questions(parser.add_argument_group("questions"))
    _add_attack(parser.add_argument_group("attack"))
    parser.set_defaults(run=_attack)


def _add_questions(group: "argparse._ArgumentGroup") -> None:
    group.add_argument(
        "--tasks", required=True, metavar="A,B", help="sets of questions; see regap-bench tasks"
    )
    group.add_argument(
        "--picture",
        metavar="A,B",
        help=f"attack each request's picture under each of {', '.join(CONDITIONS)} (default: as its"
        " set has it)",
    )
    group.add_argument("--data", type=Path, metavar="DIR", help="folder of the official files")
    group.add_argument(
        "--limit", type=int, metavar="N", help="the first N requests of each task only"
    )


def _add_attack(group: "argparse._ArgumentGroup") -> None:
    group.add_argument(
        "--target",
        default=TARGET,
        metavar="TEXT",
        help="how the answer is to begin (default: %(default)r)",
    )
    group.add_argument(
        "--epsilon",
        type=float,
        default=_PGD.epsilon,
        metavar="LEVELS",
        help="the largest change of a value, in levels of 255 (default: %(default)s)",
    )
    group.add_argument(
        "--step-size",
        type=float,
        default=_PGD.step_size,
        metavar="LEVELS",
        help="of one step, in levels of 255 (default: %(default)s)",
    )
    group.add_argument(
        "--steps",
        type=int,
        default=_PGD.steps,
        metavar="N",
        help="of one restart (default: %(default)s)",
    )
    group.add_argument(
        "--restarts",
        type=int,
        default=_PGD.restarts,
        metavar="N",
        help="the first from the picture, others from random points (default: %(default)s)",
    )
    group.add_argument(
        "--seed",
        type=int,
        default=_PGD.seed,
        metavar="N",
        help="of the random points (default: %(default)s)",
    )


def _attack(arguments: argparse.Namespace) -> int:
    try:
        plugins = load_plugins()
        kind, path = kind_and_path(arguments.model)
        runner = plugins.runners.get(kind)
        conditions = names(arguments.picture)
        for condition in conditions:
            check_condition(condition)
        run = AttackRun(
            runner=runner,
            options=options_of(arguments, path, loads_weights=runner.loads_weights),
            benchmarks=[plugins.benchmarks.get(name) for name in names(arguments.tasks)],
            conditions=conditions,
            target=arguments.target,
            pgd=PgdSettings(
                epsilon=arguments.epsilon,
                step_size=arguments.step_size,
                steps=arguments.steps,
                restarts=arguments.restarts,
                seed=arguments.seed,
            ),
            limit=arguments.limit,
            data=arguments.data,
        )
    except (ValueError, PluginError) as error:
        complain(f"regap-bench attack: {error}")
        return WRONG_USAGE
    try:
        done = attack_run(arguments.output, run, progress=ProgressLine("attack", unit="pictures"))
    except ERRORS as error:
        complain(f"regap-bench attack: {error}")
        return FAILED
    except ImportError as error:
        return complain_of_missing("attack", error)
    kept = f", {done.found} of them kept from before" if done.found else ""
    say(
        f"{done.asked} pictures{kept}; the target's loss fell from {done.loss_before:.3f} to"
        f" {done.loss_saved:.3f} nats a token"
    )
    say(f"Ask with them: regap-bench run --attacked {arguments.output}")
    return DONE
