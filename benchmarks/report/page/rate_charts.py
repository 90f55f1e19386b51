"""Figures of rates and of their differences: a row for each part, a mark for each group."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Dict, List, Optional, Sequence, Tuple

from regap_benchmarks.report.page.figure_style import (
    COLOURS,
    INK,
    MARKERS,
    PAPER,
    grid,
    label,
    new_figure,
    rc,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WRAP = 19
_ROW, _EXTRA, _LINE = 0.16, 0.11, 0.14  # inches


@dataclass(frozen=True)
class GroupRate:
    """A rate of one group.

    Attributes:
        runs: the value of each run that has one, in points.
        lower, upper: of the only run; None where there are several, or none.
    """

    runs: Tuple[float, ...]
    lower: Optional[float] = None
    upper: Optional[float] = None


@dataclass(frozen=True)
class RateRow:
    """A part of what was asked, and the rate of each group there."""

    label: str
    groups: Dict[str, GroupRate]


@dataclass(frozen=True)
class DifferenceRow:
    """A difference with its interval, in points.

    Attributes:
        label: of the row.
        value, lower, upper: of the difference.
        shown: whether it is a finding, and not only an estimate.
        margin: within which groups count as equal; None where none was stated.
    """

    label: str
    value: float
    lower: float
    upper: float
    shown: bool
    margin: Optional[float] = None


def rate_figure(rows: Sequence[RateRow], axis: str, *, share: bool = True) -> "Figure":
    """Draw rates: a mark for the mean of a group, strokes for its runs, a line for one's interval.

    Args:
        rows: from top to bottom.
        axis: label of the axis.
        share: the axis is that of percent, from 0 to 100.
    """
    import matplotlib

    groups = list(dict.fromkeys(name for row in rows for name in row.groups))
    labels = [_wrapped(row.label) for row in rows]
    heights = [max(_ROW + _EXTRA * len(groups), _LINE * (1 + text.count("\n"))) for text in labels]
    with matplotlib.rc_context(rc()):
        figure, (axes,) = new_figure(0.55 + sum(heights) + 0.16 * (len(groups) > 1))
        middles = _middles(heights)
        for number, name in enumerate(groups):
            shift = (number - (len(groups) - 1) / 2) * _EXTRA
            _marks(axes, rows, [middle + shift for middle in middles], name, number)
        _rows_of(axes, middles, labels, sum(heights))
        axes.set_xlabel(axis)
        grid(axes, "x")
        if share:
            axes.set_xlim(-3, 103)
            axes.set_xticks([0, 25, 50, 75, 100])
        if len(groups) > 1:
            _legend(figure, axes)
    return figure


def difference_figure(rows: Sequence[DifferenceRow], axis: str) -> "Figure":
    """Draw differences with their intervals around zero; what is a finding is filled.

    Args:
        rows: from top to bottom.
        axis: label of the axis.
    """
    import matplotlib

    labels = [_wrapped(row.label) for row in rows]
    heights = [max(0.26, _LINE * (1 + text.count("\n")) + 0.06) for text in labels]
    with matplotlib.rc_context(rc()):
        figure, (axes,) = new_figure(0.55 + sum(heights))
        middles = _middles(heights)
        axes.axvline(0, color=INK, linewidth=0.8)
        for row, middle, height in zip(rows, middles, heights):
            if row.margin is not None:
                axes.fill_betweenx(
                    [middle - height / 2, middle + height / 2],
                    -row.margin,
                    row.margin,
                    facecolor=INK,
                    alpha=0.1,
                    linewidth=0,
                )
            colour = COLOURS[0]
            axes.plot([row.lower, row.upper], [middle, middle], color=colour, solid_capstyle="butt")
            axes.plot(
                [row.value],
                [middle],
                marker="o",
                color=colour,
                markerfacecolor=colour if row.shown else PAPER,
                linestyle="",
            )
        _rows_of(axes, middles, labels, sum(heights))
        axes.set_xlabel(axis)
        grid(axes, "x")
    return figure


def _marks(
    axes: "Axes", rows: Sequence[RateRow], places: Sequence[float], name: str, number: int
) -> None:
    colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
    means: List[Tuple[float, float]] = []
    for row, place in zip(rows, places):
        rate = row.groups.get(name)
        if rate is None or not rate.runs:
            continue
        means.append((sum(rate.runs) / len(rate.runs), place))
        if rate.lower is not None and rate.upper is not None:
            axes.plot([rate.lower, rate.upper], [place, place], color=colour, linewidth=1.0)
        if len(rate.runs) > 1:
            axes.plot(
                rate.runs,
                [place] * len(rate.runs),
                marker="|",
                color=colour,
                markersize=5,
                linestyle="",
                markeredgewidth=0.9,
            )
    x, y = zip(*means) if means else ((), ())
    axes.plot(x, y, marker=marker, color=colour, linestyle="", label=label(name, 24))


def _rows_of(axes: "Axes", middles: Sequence[float], labels: Sequence[str], height: float) -> None:
    axes.set_yticks(middles, labels)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_ylim(height, 0)


def _legend(figure: "Figure", axes: "Axes") -> None:
    handles, names = axes.get_legend_handles_labels()
    figure.legend(
        handles, names, loc="outside upper left", ncols=2, handletextpad=0.3, columnspacing=1.2
    )


def _middles(heights: Sequence[float]) -> List[float]:
    return [sum(heights[:index]) + height / 2 for index, height in enumerate(heights)]


def _wrapped(text: str) -> str:
    """In at most three lines, broken after spaces, slashes and the underscores of sets' names."""
    lines = [""]
    for word in re.findall(f"[^ /_]{{0,{_WRAP}}}[ /_]?", label(text)):
        if len(lines[-1] + word.rstrip()) > _WRAP and lines[-1]:
            lines.append("")
        lines[-1] += word
    return "\n".join(line.strip() for line in lines[:3]) or " "
