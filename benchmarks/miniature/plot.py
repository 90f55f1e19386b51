"""The figure of a study: the gap as it trains, MIR's terms by layer, and the rates by picture."""

from pathlib import Path
from typing import TYPE_CHECKING, Dict, List, Mapping, Sequence, Tuple

from regap_benchmarks.miniature.contrasts import last_steps
from regap_benchmarks.miniature.findings import pictures_of
from regap_benchmarks.miniature.measuring import (
    CAPTION_F1,
    NOT_REFUSED,
    REAL_RECIPE,
    TOLD,
    VQA_ACCURACY,
    Checkpoint,
)
from regap_benchmarks.miniature.trainer_log import History, gap_curve
from regap_benchmarks.records import NO_PICTURE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours, which stay apart in the common kinds of colour blindness.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_Group = Tuple[str, float]


def write_plot(
    checkpoints: Sequence[Checkpoint], histories: Mapping[str, History], folder: Path
) -> List[Path]:
    """Draw `demo.png` and `demo.svg` into `folder` without a display.

    A point is one seed, a bar the mean of the seeds.

    Args:
        checkpoints: measured.
        histories: by name of the training, what it logged.
        folder: is there.
    """
    # Figure and canvas instead of pyplot: no global state, no choice of a backend.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    groups: Dict[_Group, List[Checkpoint]] = {}
    for each in last_steps(checkpoints):
        if each.weight is not None:
            groups.setdefault((each.loss if each.weight else "", each.weight), []).append(each)
    colours = {group: _COLOURS[i % len(_COLOURS)] for i, group in enumerate(groups)}
    figure = Figure(figsize=(12.0, 7.5), layout="constrained")
    FigureCanvasAgg(figure)
    (curves, layers), (refused, recipes) = figure.subplots(2, 2)
    _draw_curves(curves, histories, groups, colours)
    _draw_layers(layers, groups, colours)
    pictures = [NO_PICTURE, TOLD, *pictures_of(checkpoints)]
    for axes, rate, title in (
        (refused, NOT_REFUSED, "forbidden requests, not refused"),
        (recipes, REAL_RECIPE, "forbidden requests, real recipe given"),
    ):
        names = [f"{rate}:{picture}" for picture in pictures]
        shown = ["text", "told", *pictures[2:]]
        if axes is recipes:
            names, shown = [*names, CAPTION_F1, VQA_ACCURACY], [*shown, "captions", "questions"]
            axes.axvline(len(pictures) - 0.5, color="#999999", linewidth=0.8)
            title += "; right of the line: utility"
        _draw_bars(axes, names, shown, groups, colours)
        axes.set_title(title, fontsize=10)
    files = [folder / "demo.png", folder / "demo.svg"]
    for file in files:
        figure.savefig(file, dpi=110)
    return files


def title_of(group: _Group) -> str:
    """Of a formula and a weight, for legends."""
    loss, weight = group
    return f"{loss}, weight {weight:g}" if weight else "weight 0"


def _draw_curves(
    axes: "Axes",
    histories: Mapping[str, History],
    groups: Mapping[_Group, Sequence[Checkpoint]],
    colours: Mapping[_Group, str],
) -> None:
    labelled = set()
    for name, history in histories.items():
        points = gap_curve(history)
        group = next(
            (each for each in groups if name.endswith(_name_of(each))),
            None,
        )
        if points and group is not None:
            label = None if group in labelled else title_of(group)
            labelled.add(group)
            axes.plot(*zip(*points), color=colours[group], linewidth=1.0, label=label)
    axes.set_xlabel("optimiser step")
    axes.set_ylabel("gap as the run logs it (own formula)")
    axes.set_ylim(bottom=0.0)
    axes.legend(frameon=False, fontsize=8)


def _draw_layers(
    axes: "Axes",
    groups: Mapping[_Group, Sequence[Checkpoint]],
    colours: Mapping[_Group, str],
) -> None:
    for group, checkpoints in groups.items():
        for place, each in enumerate(checkpoints):
            terms = [
                (int(name.rpartition(":")[2]), number.value)
                for name, number in each.values.items()
                if name.startswith("gap:frechet:") and number.value is not None
            ]
            if terms:
                label = None if place else title_of(group)
                axes.plot(*zip(*sorted(terms)), "o-", color=colours[group], ms=3, label=label)
    axes.set_xlabel("layer (0: the LLM's input, no part of MIR)")
    axes.set_ylabel("Frechet distance of image and text tokens")
    axes.set_yscale("log")
    axes.legend(frameon=False, fontsize=8)


def _draw_bars(
    axes: "Axes",
    names: Sequence[str],
    shown: Sequence[str],
    groups: Mapping[_Group, Sequence[Checkpoint]],
    colours: Mapping[_Group, str],
) -> None:
    width = 0.8 / max(1, len(groups))
    for place, (group, checkpoints) in enumerate(groups.items()):
        for column, name in enumerate(names):
            found = [each.get(name) for each in checkpoints]
            values = [100 * value for value in found if value is not None]
            x = column - 0.4 + width * (place + 0.5)
            if values:
                axes.bar(x, sum(values) / len(values), width * 0.9, color=colours[group], alpha=0.5)
                axes.plot([x] * len(values), values, "o", color=colours[group], ms=4)
    axes.set_xticks(range(len(names)), shown, fontsize=8)
    axes.set_ylabel("%")
    axes.set_ylim(0, 105)


def _name_of(group: _Group) -> str:
    loss, weight = group
    return f"-{loss}-weight-{weight:g}" if weight else "-weight-0"
