"""`regap-bench run`: generate, judge and report, one after the other."""

import argparse

from regap_benchmarks.commands import (
    grader_arguments,
    judge,
    judge_arguments,
    report,
    run_arguments,
)
from regap_benchmarks.commands.command import (
    DONE,
    FAILED,
    WRONG_USAGE,
    Commands,
    complain,
    complain_of_missing,
)
from regap_benchmarks.commands.generate import ERRORS, say_outcome, status_of
from regap_benchmarks.commands.model_arguments import names
from regap_benchmarks.evaluation import generate_run, judge_run
from regap_benchmarks.judges.grader import set_graders
from regap_benchmarks.judges.judge import check_options
from regap_benchmarks.judging import JudgeError
from regap_benchmarks.plugins import load_plugins
from regap_benchmarks.progress import ProgressLine
from regap_benchmarks.run_folder import RunFolder


def add(commands: Commands) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "run",
        help="ask a model, judge its answers, report the rates",
        description="All stages: OUTPUT/responses.jsonl, OUTPUT/judgements.JUDGE.jsonl,"
        " OUTPUT/results.json and tables. Killed and started again, the same command goes on.",
    )
    run_arguments.add_arguments(parser)
    judge_arguments.add_arguments(parser)
    grader_arguments.add_grader(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    folder = RunFolder(arguments.output)
    plugins = load_plugins()
    judges = names(arguments.judge)
    try:
        kinds = [plugins.judges.get(name) for name in judges]  # before a model is loaded
        settings = run_arguments.settings_of(arguments, plugins)
        options = judge_arguments.options_of(arguments)
        grader = grader_arguments.grader_of(arguments)
    except ValueError as error:
        complain(f"regap-bench run: {error}")
        return WRONG_USAGE
    try:
        scorers = [benchmark.scorer() for benchmark in settings.benchmarks]
        if None in scorers:
            check_options(kinds, options)
        for each in set_graders(scorers, grader):
            grader.server(each.name)  # nothing is generated that could not be graded
        outcome = generate_run(folder, settings, progress=ProgressLine)
        say_outcome(outcome, folder)
        if not outcome.goes_on:
            return DONE
        done = judge_run(
            folder,
            judges,
            plugins,
            progress=ProgressLine,
            options=options,
            grader=grader,
            before=judge.say_cost,
            after=judge.say_spent,
        )
    except (*ERRORS, JudgeError) as error:
        complain(f"regap-bench run: {error}")
        return FAILED
    except ImportError as error:
        return complain_of_missing("run", error)
    judge.say_judged(done, folder)
    return max(status_of(outcome), report.write_report(folder))
