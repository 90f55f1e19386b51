"""Figures of the modality gap: by layer and pairs of measured checkpoints, by step of trainings."""

from typing import Dict, List, Sequence

from regap_benchmarks.report.page.curve_charts import Curve, Panel, curve_figure
from regap_benchmarks.report.page.figure_style import Chart, label
from regap_benchmarks.report.page.gap_file import MeasuredGap
from regap_benchmarks.report.page.training_log import PREFIX, TrainingLog

_FIRST = (f"{PREFIX}gap", "loss")


def gap_charts(gaps: Sequence[MeasuredGap], groups: Sequence[str]) -> List[Chart]:
    """For each protocol, MIR's term by layer and MIR over numbers of pairs.

    Args:
        gaps: of checkpoints.
        groups: of the page; a checkpoint of a group's name has its colour.
    """
    colours = _colours([gap.name for gap in gaps], groups)
    charts = []
    for protocol in dict.fromkeys(gap.protocol for gap in gaps):
        chosen = [gap for gap in gaps if gap.protocol == protocol]
        layers = tuple(
            Curve(
                gap.name,
                tuple((float(layer), term) for layer, term in gap.terms[1:]),
                colours[gap.name],
                apart=(0.0, gap.terms[0][1]),
            )
            for gap in chosen
        )
        pairs = tuple(
            Curve(
                gap.name,
                tuple((float(number), value) for number, value in gap.curve),
                colours[gap.name],
                end=gap.interval,
            )
            for gap in chosen
        )
        charts += [
            Chart(
                f"gap-layers-{protocol}",
                f"By layer, protocol {protocol}",
                "MIR's term of each layer. The cross is the input, layer 0, where the regulariser"
                " acts; it is no part of MIR.",
                curve_figure([Panel("layer", "Fr\u00e9chet distance", layers)]),
            ),
            Chart(
                f"gap-pairs-{protocol}",
                f"MIR over pairs, protocol {protocol}",
                "Lower is a smaller gap. MIR of few pairs is biased upwards: compare at equal"
                " numbers. The stroke at the end is its interval over draws of pairs.",
                curve_figure([Panel("image-text pairs", "MIR", pairs)]),
            ),
        ]
    return charts


def training_charts(logs: Sequence[TrainingLog], groups: Sequence[str]) -> List[Chart]:
    """A figure for each value that the trainings logged.

    Args:
        logs: of trainings; those of one name have one colour.
        groups: of the page.
    """
    colours = _colours([log.name for log in logs], groups)
    found = dict.fromkeys(key for log in logs for key in log.curves)
    keys = [key for key in _FIRST if key in found]
    keys += [key for key in found if key not in _FIRST]
    return [
        Chart(
            f"training-{key}",
            key,
            "As the training logged it, over optimizer steps.",
            curve_figure(
                [
                    Panel(
                        "optimizer step",
                        label(key, 24),
                        tuple(
                            Curve(log.name, log.curves[key], colours[log.name])
                            for log in logs
                            if log.curves.get(key)
                        ),
                        marked=False,
                    )
                ]
            ),
        )
        for key in keys
    ]


def _colours(names: Sequence[str], groups: Sequence[str]) -> Dict[str, int]:
    """The number of a group for its name, numbers after those for others."""
    numbers = {name: groups.index(name) for name in names if name in groups}
    used = set(numbers.values())
    free = iter(number for number in range(len(names) + len(groups)) if number not in used)
    return {**numbers, **{name: next(free) for name in dict.fromkeys(names) if name not in numbers}}
