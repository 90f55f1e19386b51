"""`regap-bench transfer`: pictures of one attack on several checkpoints, side by side."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, List, Sequence

from regap_benchmarks.commands.command import (
    DONE,
    FAILED,
    Commands,
    complain,
    complain_of_missing,
    say,
)
from regap_benchmarks.commands.interval_arguments import LEVEL, SEED
from regap_benchmarks.records import RecordError
from regap_benchmarks.run_folder import RunFolder

if TYPE_CHECKING:
    from regap_benchmarks.report.transfer_table import AskedRun


def add(commands: Commands) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "transfer",
        help="show the pictures of one attack on several checkpoints",
        description="Rates with clean and with attacked pictures, a row for each run: the"
        " checkpoint that was attacked, and others that were asked with the same pictures by"
        " --attacked.",
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a judged run")
    parser.add_argument("--output", type=Path, metavar="FILE.md", help="file for the table")
    parser.set_defaults(run=_transfer)


def _transfer(arguments: argparse.Namespace) -> int:
    try:
        from regap_benchmarks.report.tables import markdown, text
        from regap_benchmarks.report.transfer_table import transfer_table

        table = transfer_table(_read(arguments.runs), level=LEVEL, seed=SEED)
        if arguments.output:
            arguments.output.write_text(markdown(table) + "\n", encoding="utf-8")
    except ImportError as error:
        return complain_of_missing("transfer", error)
    except (ValueError, OSError, RecordError) as error:
        complain(f"regap-bench transfer: {error}")
        return FAILED
    say(text(table))
    return DONE


def _read(folders: Sequence[Path]) -> "List[AskedRun]":
    from regap_benchmarks.report.transfer_table import AskedRun

    return [
        AskedRun(str(folder), header, judgements, metrics)
        for folder in folders
        for header, judgements, metrics in RunFolder(folder).read_judgements().values()
    ]
