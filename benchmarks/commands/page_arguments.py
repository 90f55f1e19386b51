"""The arguments of what draws a page: `compare` and `report`."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, List

if TYPE_CHECKING:
    from regap_benchmarks.report.page.page_content import Extras, PageContent

# Of the intervals of single runs, which a page of many runs and categories has hundreds of.
PAGE_RESAMPLES = 2000


def add_page(parser: argparse.ArgumentParser) -> None:
    """Add them to a command."""
    group = parser.add_argument_group("page")
    group.add_argument(
        "--html",
        type=Path,
        metavar="FILE",
        help="write one HTML file with findings, figures and all answers; it needs no network",
    )
    group.add_argument(
        "--figures",
        type=Path,
        metavar="DIR",
        help="write each figure of the page as SVG and PDF, 3.3 inches wide",
    )
    group.add_argument(
        "--gap",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="gap.json of regap-bench gap, for the page; may be given again",
    )
    group.add_argument(
        "--training",
        action="append",
        default=[],
        metavar="[NAME=]DIR",
        help="output folder of a training with trainer_state.json, for the page; may be given"
        " again, and has a group's colour by its name",
    )


def check_page(arguments: argparse.Namespace) -> bool:
    """Whether a page or its figures are asked for; what they need is imported now, not hours later.

    Raises:
        ImportError: a package is missing.
        ValueError: a gap or training without a page to show it.
        OSError: the place of the page is a folder, or that of the figures a file.
    """
    asked = arguments.html is not None or arguments.figures is not None
    if not asked:
        if arguments.gap or arguments.training:
            raise ValueError(
                "--gap and --training: expected --html or --figures with them, found neither. Name"
                " the page that is to show them."
            )
        return False
    import jinja2  # noqa: F401
    import matplotlib  # noqa: F401

    if arguments.html is not None and arguments.html.is_dir():
        raise IsADirectoryError(
            f"--html {arguments.html}: expected a file, found a folder. Name a file in it."
        )
    if arguments.figures is not None and arguments.figures.is_file():
        raise NotADirectoryError(
            f"--figures {arguments.figures}: expected a folder, found a file. Name a folder."
        )
    return True


def read_extras(arguments: argparse.Namespace) -> "Extras":
    """Read the measured gaps and the trainings.

    Raises:
        FileNotFoundError: a file that is not there.
        ValueError: a file of another kind; two checkpoints of one name.
    """
    from regap_benchmarks.report.page.gap_file import read_gap
    from regap_benchmarks.report.page.page_content import Extras
    from regap_benchmarks.report.page.training_log import read_training

    gaps = tuple(gap for path in arguments.gap for gap in read_gap(path))
    names = [(gap.name, gap.protocol) for gap in gaps]
    twice = sorted({name for name, protocol in names if names.count((name, protocol)) > 1})
    if twice:
        raise ValueError(
            f"--gap: expected each checkpoint once, found {', '.join(twice)} again. Measure them by"
            " one command, which gives each a name of its own."
        )
    logs = []
    for argument in arguments.training:
        name, _, folder = argument.rpartition("=")
        logs.append(read_training(Path(folder), name))
    return Extras(gaps, tuple(logs))


def write(page: "PageContent", arguments: argparse.Namespace) -> List[str]:
    """Write what was asked for; lines to say of it.

    Raises:
        OSError: it cannot be written.
    """
    from regap_benchmarks.report.page.page_file import write_figures, write_page

    said = []
    if arguments.html is not None:
        write_page(page, arguments.html)
        said.append(f"Page: {arguments.html}")
    if arguments.figures is not None:
        files = write_figures(page, arguments.figures)
        said.append(f"Figures: {len(files)} files in {arguments.figures}")
    return said
