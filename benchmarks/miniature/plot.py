"""The demo's plot: loss and modality gap per step of the three runs."""

from pathlib import Path
from typing import TYPE_CHECKING, List, Tuple

from regap_benchmarks.miniature.report import GAP, LM_LOSS, LOSS, DemoReport, RunRecord, gap_change

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours, which stay apart in the common kinds of colour blindness.
_BLUE, _VERMILION, _GREEN, _GREY = "#0072B2", "#D55E00", "#009E73", "#666666"


def write_plot(report: DemoReport, folder: Path) -> List[Path]:
    """Draw `gap.png` and `gap.svg` into `folder` without a display.

    Returns:
        the two files.

    Raises:
        ValueError: a run logged no gap, or never an alpha.
    """
    # Figure and canvas instead of pyplot: no global state, no choice of a backend.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.0, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    losses, gaps = figure.subplots(1, 2)
    _line(losses, report.plain, LOSS, report.plain.title, _BLUE, "-", 4.0)
    _line(losses, report.measured, LOSS, report.measured.title, _GREEN, "--", 1.5)
    title = report.regularised.title
    _line(losses, report.regularised, LM_LOSS, f"{title}, LM loss alone", _VERMILION, "-", 1.5)
    _line(losses, report.regularised, LOSS, f"{title}, with the term", _VERMILION, ":", 1.5)
    losses.set_ylabel("training loss (nats per token, plus the term)")
    _line(gaps, report.measured, GAP, f"{report.measured.title}, measured only", _GREEN, "--", 1.5)
    _line(gaps, report.regularised, GAP, f"{title}, added", _VERMILION, "-", 1.5)
    gaps.set_ylabel("modality gap (mean L2 distance)")
    gaps.set_ylim(bottom=0.0)
    for axes in (losses, gaps):
        calibrated = gap_change(report.regularised).first_step
        axes.axvline(calibrated, color=_GREY, linewidth=0.8, label="alpha frozen")
        axes.set_xlabel("optimiser step")
        axes.legend(frameon=False)
    files = [folder / "gap.png", folder / "gap.svg"]
    for file in files:
        figure.savefig(file, dpi=150)
    return files


def _line(
    axes: "Axes", run: RunRecord, key: str, label: str, colour: str, style: str, width: float
) -> None:
    points: List[Tuple[float, float]] = [
        (entry["step"], entry[key]) for entry in run.history if key in entry
    ]
    if points:
        steps, values = zip(*points)
        axes.plot(steps, values, label=label, color=colour, linestyle=style, linewidth=width)
