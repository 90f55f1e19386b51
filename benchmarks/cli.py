"""`regap-bench`: the command line of the benchmarks.

`regap-bench run --model fake:mixed --tasks stand_in_requests --output try`; `regap-bench demo`.
"""

import argparse
from typing import Callable, Optional, Sequence

from regap_benchmarks.commands import (
    agreement,
    align,
    annotate,
    attack,
    compare,
    convert,
    data,
    demo,
    dpo,
    experiment,
    export,
    gap,
    generate,
    judge,
    lists,
    report,
    run,
    score,
    submit,
    transfer,
)
from regap_benchmarks.commands.command import INTERRUPTED, complain


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run a subcommand and return its exit status.

    0: done; 1: failed, the message is on stderr; 2: wrong usage (argparse exits with it);
    3: finished, with answers missing or ended in errors; 130: interrupted.
    """
    parser = argparse.ArgumentParser(
        prog="regap-bench",
        description="Evaluate and demonstrate ReGap, modality gap included.",
        epilog="Exit status: 0 done, 1 failed, 2 wrong usage, 3 finished with missing or failed"
        " answers, 130 interrupted.",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in (
        run,
        generate,
        judge,
        report,
        score,
        submit,
        compare,
        annotate,
        agreement,
        attack,
        transfer,
        export,
        convert,
        dpo,
        gap,
        align,
        lists,
        data,
        demo,
        experiment,
    ):
        command.add(commands)
    arguments = parser.parse_args(argv)
    run_command: Callable[[argparse.Namespace], int] = arguments.run
    try:
        return run_command(arguments)
    except KeyboardInterrupt:
        complain("Interrupted. The same command goes on after what is finished.")
        return INTERRUPTED
