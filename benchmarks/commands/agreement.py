"""`regap-bench agreement`: how far the judges of one run agree."""

import argparse
import dataclasses
import json
from pathlib import Path

from regap_benchmarks.commands.command import (
    DONE,
    FAILED,
    Commands,
    complain,
    complain_of_missing,
    say,
)
from regap_benchmarks.commands.interval_arguments import add_intervals
from regap_benchmarks.commands.model_arguments import names
from regap_benchmarks.comparable import JudgedRun
from regap_benchmarks.run_folder import RunFolder

_RESAMPLES = 2000


def add(commands: Commands) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "agreement",
        help="how far the judges of a run agree",
        description="Agreement of the judges of one run: share of equal verdicts, Cohen's kappa,"
        " Krippendorff's alpha, with intervals over requests.",
    )
    parser.add_argument("folder", type=Path, metavar="RUN", help="folder of the run")
    parser.add_argument(
        "--judge", metavar="A,B", help="judges to compare (default: all that judged the same tasks)"
    )
    add_intervals(parser, resamples=_RESAMPLES)
    parser.add_argument("--output", type=Path, metavar="FILE.json", help="file for all numbers")
    parser.set_defaults(run=_agreement)


def _agreement(arguments: argparse.Namespace) -> int:
    try:
        from regap_benchmarks.report.tables import agreement_table, text
        from regap_benchmarks.statistics.agreement import agreement

        found = RunFolder(arguments.folder).read_judgements()
        wanted = names(arguments.judge)
        unknown = sorted(set(wanted) - set(found))
        if unknown:
            raise ValueError(
                f"--judge: expected judges of the run, {', '.join(found)}, found {unknown}. Judge"
                " with them first."
            )
        scorers = {cell.task for header, _, _ in found.values() for cell in header.cells}
        chosen = wanted or [judge for judge in found if judge not in scorers]
        runs = [JudgedRun(judge, found[judge][0], found[judge][1]) for judge in chosen]
        metrics = {metric.name: metric for judge in chosen for metric in found[judge][2]}
        rows = agreement(
            runs,
            list(metrics.values()),
            level=arguments.level,
            resamples=arguments.resamples,
            seed=arguments.seed,
        )
        if arguments.output:
            document = [dataclasses.asdict(row) for row in rows]
            arguments.output.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    except ImportError as error:
        return complain_of_missing("agreement", error)
    except (ValueError, OSError) as error:
        complain(f"regap-bench agreement: {error}")
        return FAILED
    say(text(agreement_table(rows)))
    return DONE
