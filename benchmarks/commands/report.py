"""`regap-bench report`: estimates with their uncertainty, from stored judgements."""

import argparse
from pathlib import Path

from regap_benchmarks.commands.command import (
    DONE,
    FAILED,
    GAPS,
    Commands,
    complain,
    complain_of_missing,
    say,
)
from regap_benchmarks.commands.interval_arguments import LEVEL, SEED, add_intervals
from regap_benchmarks.commands.page_arguments import add_page, check_page, read_extras, write
from regap_benchmarks.records import RecordError
from regap_benchmarks.report.page.compared_runs import read_runs
from regap_benchmarks.run_folder import RunFolder

_RESAMPLES = 2000


def add(commands: Commands) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "report",
        help="estimate rates from the judgements of a run",
        description="Estimate what was judged: a table here, RUN/results.md, RUN/results.tex, and"
        " RUN/results.json in the layout of lm-eval. Nothing is generated or judged again.",
    )
    parser.add_argument("folder", type=Path, metavar="RUN", help="folder of the run")
    add_intervals(parser, resamples=_RESAMPLES)
    add_page(parser)
    parser.set_defaults(run=_report)


def _report(arguments: argparse.Namespace) -> int:
    try:
        asks_page = check_page(arguments)
        extras = read_extras(arguments)
        written = []
        if asks_page:
            from regap_benchmarks.report.page.page_content import run_content

            (run,) = read_runs({"": [RunFolder(arguments.folder)]})
            page = run_content(
                run,
                extras,
                level=arguments.level,
                resamples=arguments.resamples,
                seed=arguments.seed,
            )
            written = write(page, arguments)
    except ImportError as error:
        return complain_of_missing("report", error)
    except (ValueError, OSError) as error:
        complain(f"regap-bench report: {error}")
        return FAILED
    status = write_report(
        RunFolder(arguments.folder),
        level=arguments.level,
        resamples=arguments.resamples,
        seed=arguments.seed,
    )
    for line in written:
        say(line)
    return status


def write_report(
    folder: RunFolder, *, level: float = LEVEL, resamples: int = _RESAMPLES, seed: int = SEED
) -> int:
    """Write the report and print its table; the exit status."""
    try:
        from regap_benchmarks.report.run_report import write_run_report

        report = write_run_report(folder, level=level, resamples=resamples, seed=seed)
    except ImportError as error:
        return complain_of_missing("report", error)
    except (ValueError, OSError, RecordError) as error:
        complain(f"regap-bench report: {error}")
        return FAILED
    say(report.table)
    if report.costs:
        say(report.costs)
    for path in report.files:
        say(f"Report: {path}")
    return GAPS if report.missing else DONE
