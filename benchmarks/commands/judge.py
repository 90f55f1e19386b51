"""`regap-bench judge`: judge the answers of runs, and say how far the result hangs on the judge."""

import argparse
from pathlib import Path
from typing import Dict, List, Sequence, Tuple

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
from regap_benchmarks.commands.interval_arguments import add_intervals
from regap_benchmarks.commands.model_arguments import names
from regap_benchmarks.commands.run_groups import Groups, groups_of
from regap_benchmarks.evaluation import cost_of_judging, judge_run
from regap_benchmarks.judges.grader import GraderOptions
from regap_benchmarks.judges.judge import Judge
from regap_benchmarks.judges.judge_options import JudgeOptions
from regap_benchmarks.judging import JudgeError, JudgingSummary
from regap_benchmarks.plugins import BenchmarkPlugins, PluginError, load_plugins
from regap_benchmarks.progress import ProgressLine
from regap_benchmarks.records import Response
from regap_benchmarks.run_folder import RunFolder

_RESAMPLES = 2000
_AS_RUN = "own"


def add(commands: Commands) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "judge",
        help="judge the answers of a run",
        description="Judge RUN/responses.jsonl into RUN/judgements.JUDGE.jsonl. Tasks with right"
        " answers are scored by their own rules, the others by each judge that is named. Killed and"
        " started again, the same command goes on. With --threshold nothing is judged: one table"
        " says what the stored judgements of all judges say, how far they agree, and, of groups of"
        " runs, how often the conclusion changes with judge and threshold.",
    )
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="RUN",
        help="folder of a run, or groups of them as GROUP=DIR,DIR",
    )
    judge_arguments.add_arguments(parser)
    grader_arguments.add_grader(parser)
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="folder of the pictures, for judges that see them"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="judge all again, in place of what is there"
    )
    parser.add_argument(
        "--estimate",
        action="store_true",
        help="judge nothing: say what a judge behind a server would cost",
    )
    group = parser.add_argument_group("how far the result hangs on the judge")
    group.add_argument(
        "--threshold",
        metavar="P,Q",
        help="estimate the stored judgements of --judge at these thresholds, from their"
        f" probabilities; '{_AS_RUN}' for the judges as they were run",
    )
    group.add_argument(
        "--against",
        metavar="JUDGE",
        help="what the others are held against (default: the labels, or the first judge)",
    )
    group.add_argument(
        "--labels", type=Path, metavar="FILE", help="people's judgements, as lines of JSON"
    )
    group.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="folder for sensitivity.md and .json (default: the run's)",
    )
    add_intervals(group, resamples=_RESAMPLES)
    parser.set_defaults(run=_judge)


def _judge(arguments: argparse.Namespace) -> int:
    judges = names(arguments.judge)
    try:
        plugins = load_plugins()
        groups = _groups(arguments.runs)
        options = judge_arguments.options_of(arguments)
        grader = grader_arguments.grader_of(arguments)
        thresholds = _thresholds(arguments, [*options.given(), *grader.given()])
        if not arguments.threshold:
            for name in judges:
                plugins.judges.get(name)
        elif len(groups) > 1 and arguments.output is None:
            raise ValueError("--output: expected a folder for the tables of groups, found none.")
    except (ValueError, PluginError) as error:
        complain(f"regap-bench judge: {error}")
        return WRONG_USAGE
    if arguments.threshold:
        return _write_sensitivity(groups, judges, thresholds, arguments)
    folders = [folder for every in groups.values() for folder in every]
    return max(
        _judge_folder(folder, judges, plugins, options, grader, arguments) for folder in folders
    )


def _judge_folder(
    folder: RunFolder,
    judges: Sequence[str],
    plugins: BenchmarkPlugins,
    options: JudgeOptions,
    grader: GraderOptions,
    arguments: argparse.Namespace,
) -> int:
    try:
        if arguments.estimate:
            costs = cost_of_judging(folder, judges, plugins, options)
            for name, cost in costs.items():
                say(f"{folder.path}, {name}: {cost or 'no server is asked'}")
            return DONE
        done = judge_run(
            folder,
            judges,
            plugins,
            progress=ProgressLine,
            overwrite=arguments.overwrite,
            options=options,
            grader=grader,
            before=say_cost,
            after=say_spent,
        )
    except (*ERRORS, JudgeError) as error:
        complain(f"regap-bench judge: {error}")
        return FAILED
    except ImportError as error:
        return complain_of_missing("judge", error)
    say_judged(done, folder)
    return DONE


def _groups(words: Sequence[str]) -> Groups:
    # A folder may have = in its name; it is there, or it is no group.
    if len(words) == 1 and ("=" not in words[0] or Path(words[0]).is_dir()):
        return {"": [RunFolder(Path(words[0]))]}
    if any("=" in word for word in words):
        return groups_of(words)
    raise ValueError(
        f"RUN: expected one folder, or groups as GROUP=DIR,DIR, found {' '.join(words)}."
    )


def _thresholds(arguments: argparse.Namespace, asked: List[str]) -> Tuple[float, ...]:
    words = names(arguments.threshold)
    if words and (asked or arguments.overwrite or arguments.estimate):
        raise ValueError(
            "--threshold: expected without --judge-..., --grader-..., --overwrite and --estimate,"
            " as nothing is judged, found with some. Judge first; then estimate at other"
            " thresholds."
        )
    only = {"--against": arguments.against, "--labels": arguments.labels}
    given = [flag for flag, value in only.items() if value is not None]
    if not words and given:
        raise ValueError(
            f"{given[0]}: expected with --threshold, found without. For the judges as they were run"
            f" pass --threshold {_AS_RUN}."
        )
    try:
        return tuple(float(word) for word in words if word != _AS_RUN)
    except ValueError as error:
        raise ValueError(
            f"--threshold: expected probabilities such as 0.3,0.4,0.5, or {_AS_RUN}, found"
            f" {arguments.threshold!r}."
        ) from error


def _write_sensitivity(
    groups: Groups,
    judges: List[str],
    thresholds: Tuple[float, ...],
    arguments: argparse.Namespace,
) -> int:
    try:
        from regap_benchmarks.report.sensitivity_report import (
            SensitivitySettings,
            write_sensitivity,
        )

        settings = SensitivitySettings(
            judges=tuple(judges),
            thresholds=thresholds,
            reference=arguments.against,
            labels=arguments.labels,
            level=arguments.level,
            resamples=arguments.resamples,
            seed=arguments.seed,
        )
        output = arguments.output or next(iter(groups.values()))[0].path
        report = write_sensitivity(groups, settings, output)
    except ImportError as error:
        return complain_of_missing("judge", error)
    except (ValueError, OSError) as error:
        complain(f"regap-bench judge: {error}")
        return FAILED
    say(report.table)
    for path in report.files:
        say(f"Sensitivity: {path}")
    return DONE


def say_cost(judge: Judge, shown: Sequence[Response]) -> None:
    """Before a judge begins: what it would cost, if it costs anything.

    Raises:
        ValueError: more than the user allows.
    """
    cost = judge.cost(shown)
    if cost is not None:
        complain(f"{judge.name}: {cost}")


def say_spent(judge: Judge) -> None:
    """After a judge has ended, well or not: what it has cost."""
    spent = judge.spent()
    if spent:
        complain(f"{judge.name}: {spent}")


def say_judged(done: Dict[str, JudgingSummary], folder: RunFolder) -> None:
    """By judge, what became of the answers."""
    for name, summary in done.items():
        counts = ", ".join(f"{count} {status}" for status, count in summary.by_status.items())
        say(f"{name}: {counts}. Judgements: {folder.judgements(name)}")
