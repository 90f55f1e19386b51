"""The rates that a page shows: of each run, of the metrics that stand for their sets."""

from dataclasses import dataclass
from typing import Dict, List, Optional, Sequence, Tuple

from regap_benchmarks.estimation import ALL, estimate
from regap_benchmarks.metrics import Metric
from regap_benchmarks.records import Estimate, RunHeader
from regap_benchmarks.report.page.compared_runs import PageRun
from regap_benchmarks.report.page.metric_kinds import main_metrics

# Task and judge, and by kind the metric that stands for them.
MainMetrics = Dict[Tuple[str, str], Dict[str, Metric]]


@dataclass(frozen=True)
class RunEstimate:
    """A rate of one run.

    Attributes:
        run: whose.
        kind: "safety", "over-refusal" or "utility".
        row: the estimate.
    """

    run: PageRun
    kind: str
    row: Estimate


def main_of(runs: Sequence[PageRun]) -> MainMetrics:
    """Of each task and judge, the metrics that the page's figures show."""
    found: MainMetrics = {}
    for run in runs:
        for judge, (header, _, metrics) in run.judgements.items():
            for task in _tasks(header):
                cells = [cell for cell in header.cells if cell.task == task]
                found.setdefault((task, judge), main_metrics(metrics, cells))
    return found


def estimate_runs(
    runs: Sequence[PageRun], main: MainMetrics, *, level: float, resamples: int, seed: int
) -> List[RunEstimate]:
    """Estimate them for each run, over all, by picture condition and by category.

    Raises:
        ValueError: see `estimation.estimate`.
    """
    found: List[RunEstimate] = []
    for run in runs:
        for judge, (header, judgements, _) in run.judgements.items():
            kinds = {
                (task, metric.name): kind
                for task in _tasks(header)
                for kind, metric in main[task, judge].items()
            }
            metrics = {
                metric.name: metric
                for task in _tasks(header)
                for metric in main[task, judge].values()
            }
            rows = estimate(
                header,
                judgements,
                list(metrics.values()),
                level=level,
                resamples=resamples,
                seed=seed,
            )
            found += [
                RunEstimate(run, kinds[row.task, row.metric], row)
                for row in rows
                if (row.task, row.metric) in kinds
            ]
    return found


def whole(estimates: Sequence[RunEstimate], kind: Optional[str] = None) -> List[RunEstimate]:
    """Those over all conditions and categories, of one kind or of all."""
    return [
        item
        for item in estimates
        if item.row.condition == ALL
        and item.row.category == ALL
        and (kind is None or item.kind == kind)
    ]


def _tasks(header: RunHeader) -> List[str]:
    return list(dict.fromkeys(cell.task for cell in header.cells))
