"""Figures over a number: safety against utility, the gap by layer and pairs, values of training."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Dict, List, Mapping, Optional, Sequence, Tuple

from regap_benchmarks.report.page.figure_style import (
    COLOURS,
    DASHES,
    MARKERS,
    grid,
    label,
    new_figure,
    rc,
)

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PANEL, _LEGEND_ROW = 1.9, 0.16  # inches


@dataclass(frozen=True)
class Curve:
    """A line with its name.

    Attributes:
        name: of a run or checkpoint.
        points: (x, y), in order.
        group: number of the colour, marker and dashes.
        end: ends of the interval of the last point.
        apart: a first point that stands for itself and is not on the line.
    """

    name: str
    points: Tuple[Tuple[float, float], ...]
    group: int
    end: Optional[Tuple[float, float]] = None
    apart: Optional[Tuple[float, float]] = None


@dataclass(frozen=True)
class Panel:
    """Curves over one axis."""

    x: str
    y: str
    curves: Tuple[Curve, ...]
    marked: bool = True


def curve_figure(panels: Sequence[Panel]) -> "Figure":
    """Draw panels one above the other, with one legend.

    Args:
        panels: of the same curves.
    """
    import matplotlib
    from matplotlib.ticker import MaxNLocator

    names = list(dict.fromkeys(curve.name for panel in panels for curve in panel.curves))
    rows = (len(names) + 1) // 2
    with matplotlib.rc_context(rc()):
        figure, axes = new_figure(_PANEL * len(panels) + _LEGEND_ROW * rows, len(panels))
        for panel, part in zip(panels, axes):
            for curve in panel.curves:
                _curve(part, curve, panel.marked)
            part.set(xlabel=panel.x, ylabel=panel.y)
            # Layers, pairs and steps are counted.
            part.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
            grid(part, "both")
        _legend(figure, axes)
    return figure


def trade_off_figure(
    groups: Mapping[str, Sequence[Tuple[float, float]]], x: str, y: str
) -> "Figure":
    """Draw a point for each run, utility to the right and unsafe answers upwards.

    Args:
        groups: (utility, unsafe) of each run in percent, by group; the larger mark is the mean.
        x: label of utility.
        y: label of unsafe answers.
    """
    import matplotlib

    with matplotlib.rc_context(rc()):
        figure, (axes,) = new_figure(2.5)
        for number, (name, points) in enumerate(groups.items()):
            colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
            across, up = zip(*points)
            mean = sum(across) / len(points), sum(up) / len(points)
            if len(points) > 1:
                axes.plot(across, up, marker, color=colour, markersize=3, alpha=0.45)
            axes.plot(*mean, marker, color=colour, markersize=7, label=label(name, 24))
        axes.set(xlabel=x, ylabel=y)
        axes.margins(0.18)
        grid(axes, "both")
        _legend(figure, [axes])
    return figure


def _curve(axes: "Axes", curve: Curve, marked: bool) -> None:
    number = curve.group
    colour = COLOURS[number % len(COLOURS)]
    marker = MARKERS[number % len(MARKERS)] if marked else ""
    across, up = zip(*curve.points) if curve.points else ((), ())
    axes.plot(
        across,
        up,
        color=colour,
        marker=marker,
        markersize=2.8,
        linestyle=DASHES[number % len(DASHES)],
        label=label(curve.name, 24),
    )
    if curve.end is not None and curve.points:
        axes.plot([across[-1]] * 2, curve.end, color=colour, linewidth=1.0)
    if curve.apart is not None:
        axes.plot(*curve.apart, marker="x", color=colour, linestyle="")


def _legend(figure: "Figure", axes: Sequence["Axes"]) -> None:
    handles: Dict[str, Artist] = {}
    for part in axes:
        for handle, name in zip(*part.get_legend_handles_labels()):
            handles.setdefault(name, handle)
    names: List[str] = list(handles)
    figure.legend(
        list(handles.values()),
        names,
        loc="outside upper left",
        ncols=2,
        handletextpad=0.4,
        columnspacing=1.2,
    )
