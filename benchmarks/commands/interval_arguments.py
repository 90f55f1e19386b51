"""The arguments of every command that prints intervals: their level and the draws behind them."""

import argparse

LEVEL, SEED = 0.95, 0


def add_intervals(parser: argparse._ActionsContainer, *, resamples: int) -> None:
    """Add them to a command.

    Args:
        parser: of the command, or a group of its arguments.
        resamples: the default number of draws.
    """
    parser.add_argument(
        "--level",
        type=float,
        default=LEVEL,
        metavar="FLOAT",
        help="of the confidence intervals, between 0 and 1 (default: %(default)s)",
    )
    parser.add_argument(
        "--resamples",
        type=int,
        default=resamples,
        metavar="N",
        help="draws of a bootstrap or permutation (default: %(default)s)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=SEED,
        metavar="N",
        help="of those draws (default: %(default)s)",
    )
