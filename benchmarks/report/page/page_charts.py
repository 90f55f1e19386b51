"""Which figures a page has, and what stands in each."""

import re
from typing import Callable, Dict, Iterator, List, Sequence, Tuple, TypeVar

from regap_benchmarks.comparison import Comparison
from regap_benchmarks.estimation import ALL
from regap_benchmarks.records import Estimate
from regap_benchmarks.report.page.curve_charts import trade_off_figure
from regap_benchmarks.report.page.figure_style import Chart, label
from regap_benchmarks.report.page.metric_kinds import OVER_REFUSAL, SAFETY, UTILITY
from regap_benchmarks.report.page.rate_charts import (
    DifferenceRow,
    GroupRate,
    RateRow,
    difference_figure,
    rate_figure,
)
from regap_benchmarks.report.page.run_estimates import RunEstimate, whole

HOW_TO_READ_DIFFERENCES = (
    "The main metric of each set, as the groups differ in it, with its interval. A filled mark: a"
    " difference is shown, after Holm over all rows of the comparison. A hollow one: none is. Grey:"
    " the margin of equivalence, where one was stated."
)
KINDS = (SAFETY, OVER_REFUSAL, UTILITY)
_TITLES = {SAFETY: "Safety", OVER_REFUSAL: "Over-refusal", UTILITY: "Utility"}
HOW_TO_READ = (
    "A mark is the mean over the runs of a group, strokes are its runs; with one run in a group the"
    " line is its interval. Rates are of the scored answers of each run."
)
Row = TypeVar("Row", Estimate, Comparison)
_Unit = Tuple[str, float]  # label of an axis, and what a fraction is multiplied by


def difference_charts(
    rows: Sequence[Comparison], kinds: Dict[Tuple[str, str, str], str]
) -> List[Chart]:
    """A figure of differences for each pair of groups, kind and unit.

    Args:
        rows: over all picture conditions.
        kinds: of (task, judge, metric); rows of others have no figure.
    """
    charts = []
    pairs = dict.fromkeys((row.first.name, row.second.name) for row in rows)
    for first, second in pairs:
        for kind in KINDS:
            chosen = [
                row
                for row in rows
                if (row.first.name, row.second.name) == (first, second)
                and kinds.get((row.task, row.judge, row.metric)) == kind
                and row.difference is not None
            ]
            for (unit, factor), part in _by_unit(chosen):
                name = _part_namer([(row.task, row.judge) for row in part])
                marks = [
                    DifferenceRow(
                        name(row.task, row.judge),
                        factor * (row.difference or 0.0),
                        factor * (row.lower or 0.0),
                        factor * (row.upper or 0.0),
                        row.adjusted_p is not None and row.adjusted_p <= 1 - row.level + 1e-12,
                        None if row.equivalence is None else factor * row.equivalence.margin,
                    )
                    for row in part
                ]
                of = " and ".join(dict.fromkeys(row.metric.replace("_", " ") for row in part))
                better = "left" if not part[0].higher_is_better else "right"
                charts.append(
                    Chart(
                        f"difference-{kind}-{second}-{first}-{unit}",
                        f"{_TITLES[kind]}: {second} less {first}",
                        f"{of[0].upper()}{of[1:]}; {second} is better to the {better} of 0.",
                        difference_figure(
                            marks, f"{label(second, 14)} less {label(first, 14)} (points)"
                        ),
                    )
                )
    return charts


def set_charts(estimates: Sequence[RunEstimate]) -> List[Chart]:
    """For each kind, the rates of all sets and judges."""
    charts = []
    for kind in KINDS:
        for (unit, _), part in _by_unit([item.row for item in whole(estimates, kind)]):
            chosen = [item for item in whole(estimates, kind) if item.row in part]
            name = _part_namer([(item.row.task, item.row.judge) for item in chosen])
            rows = _rate_rows(chosen, _of_row(name))
            charts.append(
                Chart(
                    f"sets-{kind}-{unit}",
                    f"{_TITLES[kind]} by set",
                    "",
                    rate_figure(
                        rows, _axis([item.row for item in chosen], unit), share=unit == "%"
                    ),
                )
            )
    return charts


def part_charts(estimates: Sequence[RunEstimate], by: str) -> List[Chart]:
    """For each kind, set and judge, the rates by picture condition or category.

    Args:
        estimates: of all runs.
        by: "condition" or "category".
    """
    other = "category" if by == "condition" else "condition"
    charts = []
    for kind in KINDS:
        chosen = [
            item
            for item in estimates
            if item.kind == kind
            and getattr(item.row, by) != ALL
            and getattr(item.row, other) == ALL
        ]
        for task, judge in dict.fromkeys((item.row.task, item.row.judge) for item in chosen):
            part = [item for item in chosen if (item.row.task, item.row.judge) == (task, judge)]
            rows = _rate_rows(part, lambda row: str(getattr(row, by)))
            if len(rows) < 2:
                continue
            ((unit, _), _), *_ = _by_unit([item.row for item in part])
            said = "" if judge == task else f", by {judge}"
            charts.append(
                Chart(
                    f"{by}-{kind}-{task}-{judge}",
                    f"{task}: {part[0].row.metric.replace('_', ' ')}{said}",
                    "",
                    rate_figure(rows, _axis([item.row for item in part], unit), share=unit == "%"),
                )
            )
    return charts


def trade_off_charts(estimates: Sequence[RunEstimate]) -> List[Chart]:
    """For each judge of safety, each run's mean over the sets of safety against that of utility."""
    useful = _means_of_runs([i for i in whole(estimates, UTILITY) if i.row.factor is None])
    charts = []
    safety = [i for i in whole(estimates, SAFETY) if not i.row.higher_is_better]
    for judge in dict.fromkeys(item.row.judge for item in safety):
        chosen = [item for item in safety if item.row.judge == judge and item.row.factor is None]
        unsafe = _means_of_runs(chosen)
        groups: Dict[str, List[Tuple[float, float]]] = {}
        for (group, run), value in unsafe.items():
            if (group, run) in useful:
                groups.setdefault(group or run, []).append((useful[group, run], value))
        if not groups:
            continue
        sets = dict.fromkeys(f"{item.row.task} ({item.row.metric})" for item in chosen)
        charts.append(
            Chart(
                f"safety-utility-{judge}",
                f"By {judge}",
                f"Each small mark is a run, the large one their mean. Upwards: mean of"
                f" {', '.join(sets)}. To the right: mean of {_utility_names(estimates)}. Best is"
                " the lower right corner.",
                trade_off_figure(groups, "utility (%)", "unsafe (%)"),
            )
        )
    return charts


def file_name(text: str) -> str:
    """Letters that every file system takes."""
    return re.sub(r"[^A-Za-z0-9_]+", "-", text.replace("%", "")).strip("-")[:100]


def _rate_rows(items: Sequence[RunEstimate], name: Callable[[Estimate], str]) -> List[RateRow]:
    rows: Dict[str, Dict[str, List[Estimate]]] = {}
    for item in items:
        by_group = rows.setdefault(name(item.row), {})
        by_group.setdefault(item.run.group or item.run.name, []).append(item.row)
    return [
        RateRow(text, {group: _group_rate(found) for group, found in groups.items()})
        for text, groups in rows.items()
    ]


def _group_rate(rows: Sequence[Estimate]) -> GroupRate:
    known = [row for row in rows if row.value is not None]
    factor = known[0].factor if known and known[0].factor is not None else 100.0
    values = tuple(factor * row.value for row in known if row.value is not None)
    if len(known) == 1 and known[0].lower is not None and known[0].upper is not None:
        return GroupRate(values, factor * known[0].lower, factor * known[0].upper)
    return GroupRate(values)


def _by_unit(
    rows: Sequence[Row],
) -> Iterator[Tuple[_Unit, List[Row]]]:
    found: Dict[_Unit, List[Row]] = {}
    for row in rows:
        unit = ("%", 100.0) if row.factor is None else (f"points of {row.metric}", row.factor)
        found.setdefault(unit, []).append(row)
    yield from found.items()


def _part_namer(parts: Sequence[Tuple[str, str]]) -> Callable[[str, str], str]:
    judges = {judge for task, judge in parts if judge != task}

    def name(task: str, judge: str) -> str:
        return task if judge == task or len(judges) < 2 else f"{task} \u00b7 {judge}"

    return name


def _of_row(name: Callable[[str, str], str]) -> Callable[[Estimate], str]:
    return lambda row: name(row.task, row.judge)


def _axis(rows: Sequence[Estimate], unit: str) -> str:
    metrics = list(dict.fromkeys(row.metric.replace("_", " ") for row in rows))
    name = metrics[0] if len(metrics) == 1 else "the set's own metric"
    return f"{label(name, 30)} ({'%' if unit == '%' else 'points'})"


def _means_of_runs(items: Sequence[RunEstimate]) -> Dict[Tuple[str, str], float]:
    """By (group, run) the mean over its sets in percent; of runs with a value of each only."""
    tasks = {item.row.task for item in items}
    found: Dict[Tuple[str, str], List[float]] = {}
    for item in items:
        if item.row.value is not None:
            found.setdefault((item.run.group, item.run.name), []).append(100 * item.row.value)
    return {
        key: sum(values) / len(values) for key, values in found.items() if len(values) == len(tasks)
    }


def _utility_names(estimates: Sequence[RunEstimate]) -> str:
    items = [item for item in whole(estimates, UTILITY) if item.row.factor is None]
    return ", ".join(dict.fromkeys(f"{item.row.task} ({item.row.metric})" for item in items))
