"""`regap-bench compare`: groups of runs against each other, from their judgements."""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import List

from regap_benchmarks.commands.command import (
    DONE,
    FAILED,
    WRONG_USAGE,
    Commands,
    complain,
    complain_of_missing,
    say,
)
from regap_benchmarks.commands.interval_arguments import add_intervals
from regap_benchmarks.commands.model_arguments import names
from regap_benchmarks.commands.page_arguments import (
    PAGE_RESAMPLES,
    add_page,
    check_page,
    read_extras,
    write,
)
from regap_benchmarks.commands.run_groups import by_judge, groups_of
from regap_benchmarks.comparable import ALLOWED
from regap_benchmarks.report.page.compared_runs import read_runs
from regap_benchmarks.statistics.equivalence import margins

_RESAMPLES = 10_000


def add(commands: Commands) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "compare",
        help="compare groups of runs, such as the seeds of two methods",
        description="Compare groups of judged runs. With several runs (seeds) in each group it says"
        " whether the methods differ; with one run in a group, whether two checkpoints do.",
    )
    parser.add_argument(
        "groups",
        nargs="+",
        metavar="GROUP=DIR,DIR",
        help="a name and the folders of its runs; the first is what the others are held against",
    )
    parser.add_argument(
        "--allow",
        metavar="KEY,KEY",
        help="settings that may differ beside checkpoint and seed, such as decoding.temperature",
    )
    parser.add_argument(
        "--all-pairs",
        action="store_true",
        help="every pair of groups, and not each against the first",
    )
    parser.add_argument(
        "--margin",
        metavar="POINTS",
        help="say whether the groups are equivalent within so many points, stated before the data"
        " are seen; 1,mme=20 has another one for a task, and mme.cognition=10 for one metric",
    )
    add_intervals(parser, resamples=_RESAMPLES)
    parser.add_argument("--output", type=Path, metavar="FILE.json", help="file for all numbers")
    add_page(parser)
    parser.set_defaults(run=_compare)


def _compare(arguments: argparse.Namespace) -> int:
    try:
        groups = groups_of(arguments.groups)
        stated = None if arguments.margin is None else margins(arguments.margin)
    except ValueError as error:
        complain(f"regap-bench compare: {error}")
        return WRONG_USAGE
    try:
        from regap_benchmarks.comparison import compare, with_adjusted
        from regap_benchmarks.report.tables import comparison_table, text

        asks_page = check_page(arguments)
        extras = read_extras(arguments)
        runs = read_runs(groups) if asks_page else []
        rows = []
        for judged, metrics in by_judge(groups).values():
            rows += compare(
                judged,
                metrics,
                allowed=(*ALLOWED, *names(arguments.allow)),
                against_first=not arguments.all_pairs,
                level=arguments.level,
                resamples=arguments.resamples,
                seed=arguments.seed,
                margins=stated,
            )
        # Over all judges and tasks together: each row is one more chance of a chance finding.
        rows = with_adjusted(rows)
        if arguments.output:
            found = [dataclasses.asdict(row) for row in rows]
            arguments.output.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        written: List[str] = []
        if asks_page:
            from regap_benchmarks.report.page.page_content import comparison_content

            page = comparison_content(
                runs,
                rows,
                extras,
                level=arguments.level,
                seed=arguments.seed,
                resamples=min(arguments.resamples, PAGE_RESAMPLES),
            )
            written = write(page, arguments)
    except ImportError as error:
        return complain_of_missing("compare", error)
    except (ValueError, OSError) as error:
        complain(f"regap-bench compare: {error}")
        return FAILED
    say(text(comparison_table(rows)))
    for line in written:
        say(line)
    return DONE
