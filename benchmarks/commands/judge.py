"""`regap-bench judge`: judge the answers of a run, without asking the model again."""

import argparse
from pathlib import Path
from typing import Dict, List

from regap_benchmarks.commands import grader_arguments, judge_arguments
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
from regap_benchmarks.commands.model_arguments import names
from regap_benchmarks.evaluation import judge_run
from regap_benchmarks.judging import JudgeError, JudgingSummary
from regap_benchmarks.plugins import PluginError, load_plugins
from regap_benchmarks.progress import ProgressLine
from regap_benchmarks.run_folder import RunFolder


def add(commands: Commands) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "judge",
        help="judge the answers of a run",
        description="Judge RUN/responses.jsonl into RUN/judgements.JUDGE.jsonl. Tasks with right"
        " answers are scored by their own rules, the others by each judge that is named. Killed and"
        " started again, the same command goes on.",
    )
    parser.add_argument("folder", type=Path, metavar="RUN", help="folder of the run")
    judge_arguments.add_arguments(parser)
    grader_arguments.add_grader(parser)
    parser.add_argument(
        "--overwrite", action="store_true", help="judge all again, in place of what is there"
    )
    parser.add_argument(
        "--threshold",
        metavar="P,Q",
        help="judge nothing: estimate the stored judgements of --judge at these thresholds, from"
        " their probabilities, into RUN/sensitivity.md and .json",
    )
    parser.set_defaults(run=_judge)


def _judge(arguments: argparse.Namespace) -> int:
    folder = RunFolder(arguments.folder)
    judges = names(arguments.judge)
    try:
        plugins = load_plugins()
        for name in judges:
            plugins.judges.get(name)
        options = judge_arguments.options_of(arguments)
        grader = grader_arguments.grader_of(arguments)
        thresholds = _thresholds(arguments, [*options.given(), *grader.given()])
    except (ValueError, PluginError) as error:
        complain(f"regap-bench judge: {error}")
        return WRONG_USAGE
    if thresholds:
        return _write_sensitivity(folder, judges, thresholds)
    try:
        done = judge_run(
            folder,
            judges,
            plugins,
            progress=ProgressLine,
            overwrite=arguments.overwrite,
            options=options,
            grader=grader,
        )
    except (*ERRORS, JudgeError) as error:
        complain(f"regap-bench judge: {error}")
        return FAILED
    except ImportError as error:
        return complain_of_missing("judge", error)
    say_judged(done, folder)
    return DONE


def _thresholds(arguments: argparse.Namespace, given: List[str]) -> List[float]:
    words = names(arguments.threshold)
    if words and (given or arguments.overwrite):
        raise ValueError(
            "--threshold: expected without --judge-..., --grader-... and --overwrite, as nothing is"
            " judged, found with some. Judge first; then estimate at other thresholds."
        )
    try:
        return [float(word) for word in words]
    except ValueError as error:
        raise ValueError(
            f"--threshold: expected probabilities such as 0.3,0.4,0.5, found"
            f" {arguments.threshold!r}."
        ) from error


def _write_sensitivity(folder: RunFolder, judges: List[str], thresholds: List[float]) -> int:
    try:
        from regap_benchmarks.report.sensitivity_report import write_sensitivity

        report = write_sensitivity(folder, judges, thresholds)
    except ImportError as error:
        return complain_of_missing("judge", error)
    except (ValueError, OSError) as error:
        complain(f"regap-bench judge: {error}")
        return FAILED
    say(report.table)
    for path in report.files:
        say(f"Sensitivity: {path}")
    return DONE


def say_judged(done: Dict[str, JudgingSummary], folder: RunFolder) -> None:
    """By judge, what became of the answers."""
    for name, summary in done.items():
        counts = ", ".join(f"{count} {status}" for status, count in summary.by_status.items())
        say(f"{name}: {counts}. Judgements: {folder.judgements(name)}")
