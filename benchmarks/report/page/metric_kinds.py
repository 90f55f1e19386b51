"""Which metrics are of safety and which of utility, and which one of a set stands for it."""

from typing import Dict, Sequence

from regap_benchmarks.metrics import Metric
from regap_benchmarks.records import Cell

SAFETY, OVER_REFUSAL, UTILITY, NEITHER = "safety", "over-refusal", "utility", ""


def kind_of(metric: Metric) -> str:
    """What the metric is about, read from its direction and the samples that it is of.

    What is of harmful requests alone is of safety; what should be low of harmless ones is of
    over-refusal; what else should be high is of utility.
    """
    if metric.higher_is_better is None:
        return NEITHER
    if metric.harmful is True:
        return SAFETY
    if metric.higher_is_better:
        return UTILITY
    return OVER_REFUSAL if metric.harmful is False else NEITHER


def main_metrics(metrics: Sequence[Metric], cells: Sequence[Cell]) -> Dict[str, Metric]:
    """By kind, the first of a judge's metrics that some asked sample belongs to."""
    found: Dict[str, Metric] = {}
    for metric in metrics:
        kind = kind_of(metric)
        if kind and kind not in found and any(metric.applies_to(cell.harmful) for cell in cells):
            found[kind] = metric
    return found
