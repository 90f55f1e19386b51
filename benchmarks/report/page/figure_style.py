"""How figures look: one column of a paper, colours that the colour-blind tell apart, whole fonts.

The same figure stands on the page, where its ink takes the page's colour, and in a paper.
"""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Literal, Mapping, Sequence

from regap_benchmarks.report.page.untrusted_text import cut

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMN = 3.3  # inches, of two-column papers
_POINTS = 8.0
INK = "#1b1c1d"
PAPER = "#fefdfc"
# Okabe and Ito (Color Universal Design, 2008), without black and yellow, which a page in the dark
# or on white would swallow. Markers differ too, for print without colour.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "D", "^", "v", "P")
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1, 1, 1)))
_LABEL = 44


@dataclass(frozen=True)
class Chart:
    """A figure with what stands around it.

    Attributes:
        name: its own on the page; names its files.
        title: on the page.
        caption: how to read it.
        figure: one column wide.
    """

    name: str
    title: str
    caption: str
    figure: "Figure"


def rc() -> Dict[str, Any]:
    """Settings of matplotlib while a figure is drawn."""
    return {
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans"],
        "font.size": _POINTS,
        "axes.labelsize": _POINTS,
        "xtick.labelsize": _POINTS - 0.5,
        "ytick.labelsize": _POINTS - 0.5,
        "legend.fontsize": _POINTS - 0.5,
        "axes.edgecolor": INK,
        "axes.labelcolor": INK,
        "text.color": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "axes.linewidth": 0.6,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
        "xtick.major.size": 2.5,
        "ytick.major.size": 2.5,
        "lines.linewidth": 1.2,
        "lines.markersize": 4.0,
        "legend.frameon": False,
        "axes.spines.top": False,
        "axes.spines.right": False,
        # A name such as "$x$" is a name.
        "text.parse_math": False,
        "text.usetex": False,
        # Type 42 embeds the font whole: publishers refuse type 3.
        "pdf.fonttype": 42,
        "svg.fonttype": "path",
        "svg.hashsalt": "regap",
        "figure.dpi": 72,
        "savefig.dpi": 300,
        "savefig.transparent": True,
    }


def new_figure(height: float, panels: int = 1) -> "tuple[Figure, Sequence[Axes]]":
    """A figure of one column and its panels, one above the other.

    Args:
        height: inches.
        panels: how many.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(COLUMN, height), layout="constrained")
    axes = figure.subplots(panels, 1, squeeze=False)[:, 0]
    return figure, list(axes)


def label(text: str, length: int = _LABEL) -> str:
    """A name as a figure can show it: hidden characters made visible, on one line, cut.

    Letters that the figure's font lacks are shown by their code points.
    """
    return cut("".join(_shown(letter) for letter in cut(text, length)), length)


def _shown(letter: str) -> str:
    return letter if ord(letter) in _letters() else f"[U+{ord(letter):04X}]"


@functools.cache
def _letters() -> "frozenset[int]":
    from matplotlib.font_manager import FontProperties, findfont, get_font

    font = get_font(findfont(FontProperties(family="DejaVu Sans")))
    return frozenset(font.get_charmap())


def grid(axes: "Axes", axis: Literal["both", "x", "y"]) -> None:
    """Fine lines behind the marks."""
    axes.grid(axis=axis, color=INK, alpha=0.14, linewidth=0.5)
    axes.set_axisbelow(True)


def save(charts: Mapping[str, Chart], folder: Path) -> List[Path]:
    """Write each as SVG and PDF.

    Args:
        charts: by the name of their files.
        folder: is made.

    Raises:
        OSError: the folder cannot be written.
    """
    import matplotlib

    folder.mkdir(parents=True, exist_ok=True)
    files: List[Path] = []
    with matplotlib.rc_context(rc()):
        for name, chart in charts.items():
            for suffix in ("svg", "pdf"):
                path = folder / f"{name}.{suffix}"
                when = {"Date": None} if suffix == "svg" else {"CreationDate": None}
                chart.figure.savefig(path, metadata=when)
                files.append(path)
    return files
