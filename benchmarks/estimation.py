"""From judgements to estimates: each metric with its interval and its gaps.

What is not scored is counted and never in a rate: an answer that could not be judged, an empty one,
a failed one, and one that was asked for and is not there.
"""

import dataclasses
import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Dict, List, Optional, Sequence, Set, Tuple

from regap_benchmarks.metrics import Metric
from regap_benchmarks.records import (
    EMPTY,
    FAILED,
    SCORED,
    UNPARSED,
    Cell,
    Estimate,
    Judgement,
    RunHeader,
)
from regap_benchmarks.statistics.intervals import Interval, mean_interval, statistic_interval
from regap_benchmarks.statistics.metric_statistics import (
    ALL_OF_REQUEST,
    MEAN,
    Groups,
    least_of_requests,
    statistic,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ALL = ""  # condition or category: all of them together
_CellKey = Tuple[str, str, str, Optional[bool]]


@dataclass(frozen=True)
class _Answers:
    """Judgements of one task as columns; values are NaN where absent."""

    columns: "Dict[str, NDArray[np.float64]]"
    conditions: "NDArray[np.str_]"
    categories: "NDArray[np.str_]"
    statuses: "NDArray[np.str_]"
    requests: "NDArray[np.int64]"
    left_out: "NDArray[np.bool_]"


def estimate(
    header: RunHeader,
    judgements: Sequence[Judgement],
    metrics: Sequence[Metric],
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> List[Estimate]:
    """Estimate each metric for each task: over all, by picture condition, by category, by both.

    The rows of a task stand together, first condition "" and category "" (all of them), then each
    condition, then each category, then each pair; the order within is that of the header's cells.
    A metric that no asked sample belongs to has no row. A value that a scored judgement does not
    hold does not apply to that answer: it is neither in n nor a gap (`Metric.leaves_out`).

    A gap is an answer that was asked for and is not scored. Of an answer that is missing nobody
    can say whether the metric applied: it is a gap.

    Args:
        header: of the file of judgements; its cells say what was asked.
        judgements: of one judge, each sample once, in any order.
        metrics: of that judge.
        level: of the intervals, such as 0.95.
        resamples: draws of each bootstrap; made for fractions over 50 requests or more.
        seed: of the draws.

    Raises:
        ValueError: a judgement of a cell that the header does not ask or has more of than asked;
            a sample that is there twice; two judges; a value that is not from 0 to 1.
    """
    check_judgements(header, judgements)
    judge = judgements[0].judge if judgements else str((header.judge or {}).get("name", ""))
    by_task: Dict[str, List[Judgement]] = {}
    for judgement in judgements:
        by_task.setdefault(judgement.task, []).append(judgement)
    rows: List[Estimate] = []
    for task in dict.fromkeys(cell.task for cell in header.cells):
        cells = [cell for cell in header.cells if cell.task == task]
        for metric in metrics:
            asked = [cell for cell in cells if metric.applies_to(cell.harmful)]
            answers = _columns(by_task.get(task, []), metric)
            single = len({cell.condition for cell in asked}) == 1
            whole: Dict[str, Estimate] = {}
            for condition, category in _parts(asked):
                if single and category in whole:  # the same answers under the condition's name
                    rows.append(dataclasses.replace(whole[category], condition=condition))
                    continue
                row = _estimate_part(
                    answers,
                    [cell for cell in asked if _within(cell, condition, category)],
                    metric,
                    (task, judge, condition, category),
                    (level, resamples, seed),
                )
                rows.append(row)
                if condition == ALL:
                    whole[category] = row
    return rows


def check_judgements(header: RunHeader, judgements: Sequence[Judgement]) -> None:
    """Refuse judgements that are not those of the header's run.

    Raises:
        ValueError: see `estimate`.
    """
    asked: Counter[_CellKey] = Counter()
    for cell in header.cells:
        asked[(cell.task, cell.condition, cell.category, cell.harmful)] += cell.samples
    found: Counter[_CellKey] = Counter()
    seen: Set[Tuple[str, str]] = set()
    for judgement in judgements:
        cell_key = (judgement.task, judgement.condition, judgement.category, judgement.harmful)
        if cell_key not in asked:
            raise ValueError(
                f"{_name(judgement)}: expected a task, condition, category and harmfulness that"
                f" the run asked for, found {cell_key}. The file mixes runs: judge again."
            )
        if judgement.key in seen:
            raise ValueError(
                f"{_name(judgement)}: expected one judgement of each sample, found another. Two"
                " runs have written the file: judge again."
            )
        if judgement.judge != judgements[0].judge:
            raise ValueError(
                f"{_name(judgement)}: expected judgements of {judgements[0].judge!r}, found one of"
                f" {judgement.judge!r}. Estimate each judge by itself."
            )
        seen.add(judgement.key)
        found[cell_key] += 1
        _check_values(judgement)
    for cell_key, number in found.items():
        if number > asked[cell_key]:
            raise ValueError(
                f"Cell {cell_key}: expected {asked[cell_key]} judgements at most, as the run asked,"
                f" found {number}. The file mixes runs: judge again."
            )


def strict_value(metric: Metric, total: float, n: int, gaps: int) -> Optional[float]:
    """The mean if every gap had counted against the model: 1 where lower is better, else 0.

    None for a metric without a direction, and where nothing is there to divide by.
    """
    if metric.higher_is_better is None or n + gaps == 0:
        return None
    worst = 0.0 if metric.higher_is_better else 1.0
    return (total + worst * gaps) / (n + gaps)


def _check_values(judgement: Judgement) -> None:
    for name, value in judgement.values.items():
        if not (math.isfinite(value) and 0 <= value <= 1):
            raise ValueError(
                f"{_name(judgement)}: expected {name!r} from 0 to 1, found {value}. Scale or mend"
                " the judge's values and judge again."
            )


def _name(judgement: Judgement) -> str:
    return f"Judgement of {judgement.id!r} of {judgement.task!r}"


def _parts(cells: Sequence[Cell]) -> List[Tuple[str, str]]:
    """(condition, category) of the rows; "" is all, so an unnamed category has no row."""
    if not cells:
        return []
    conditions = list(dict.fromkeys(cell.condition for cell in cells))
    categories = list(dict.fromkeys(cell.category for cell in cells if cell.category))
    pairs = {(cell.condition, cell.category) for cell in cells}
    parts = [(ALL, ALL)]
    parts += [(condition, ALL) for condition in conditions]
    parts += [(ALL, category) for category in categories]
    parts += [
        (condition, category)
        for condition in conditions
        for category in categories
        if (condition, category) in pairs
    ]
    return parts


def _within(cell: Cell, condition: str, category: str) -> bool:
    return condition in (ALL, cell.condition) and category in (ALL, cell.category)


def _columns(judgements: Sequence[Judgement], metric: Metric) -> _Answers:
    import numpy as np

    # Sorted, so that the order of a file changes no draw of the bootstrap and no rounding.
    items = sorted((item for item in judgements if metric.applies(item)), key=lambda item: item.key)
    numbers = {name: index for index, name in enumerate(sorted({i.request for i in items}))}
    names = {metric.value}.union(*(item.values for item in items))
    return _Answers(
        {
            name: np.array([item.values.get(name, math.nan) for item in items], dtype=np.float64)
            for name in names
        },
        np.array([item.condition for item in items], dtype=np.str_),
        np.array([item.category for item in items], dtype=np.str_),
        np.array([item.status for item in items], dtype=np.str_),
        np.array([numbers[item.request] for item in items], dtype=np.int64),
        np.array([metric.leaves_out(item) for item in items], dtype=bool),
    )


def _estimate_part(
    answers: _Answers,
    cells: Sequence[Cell],
    metric: Metric,
    names: Tuple[str, str, str, str],
    settings: Tuple[float, int, int],
) -> Estimate:
    import numpy as np

    task, judge, condition, category = names
    level = settings[0]
    here = np.ones(len(answers.statuses), dtype=bool)
    if condition != ALL:
        here &= answers.conditions == condition
    if category != ALL:
        here &= answers.categories == category
    scored = here & ~np.isnan(answers.columns[metric.value])
    if not metric.official:
        scored &= answers.statuses == SCORED
    n = int(scored.sum())
    unparsed, empty, failed = (
        int((here & ~answers.left_out & (answers.statuses == status)).sum())
        for status in (UNPARSED, EMPTY, FAILED)
    )
    missing = sum(cell.samples for cell in cells) - int(here.sum())
    columns = {name: values[scored] for name, values in answers.columns.items()}
    _, numbers = np.unique(answers.categories[scored], return_inverse=True)
    groups = Groups(answers.requests[scored], numbers)
    value, interval = _value(metric, columns, groups, settings) if n else (None, None)
    gaps = unparsed + empty + failed + missing
    if metric.official or metric.statistic != MEAN:
        # What a gap would have done to it is known only where there is none.
        strict = value if gaps == 0 and metric.higher_is_better is not None else None
    else:
        strict = strict_value(metric, float(columns[metric.value].sum()), n, gaps)
    return Estimate(
        task=task,
        judge=judge,
        metric=metric.name,
        condition=condition,
        category=category,
        value=value,
        lower=interval.lower if interval else None,
        upper=interval.upper if interval else None,
        level=level,
        method=interval.method if interval else "none",
        strict=strict,
        higher_is_better=metric.higher_is_better,
        n=n,
        clusters=len(np.unique(groups.requests)),
        unparsed=unparsed,
        empty=empty,
        failed=failed,
        missing=missing,
        factor=metric.factor,
    )


def _value(
    metric: Metric,
    columns: "Dict[str, NDArray[np.float64]]",
    groups: Groups,
    settings: Tuple[float, int, int],
) -> "Tuple[Optional[float], Optional[Interval]]":
    import numpy as np

    level, resamples, seed = settings
    values, requests = columns[metric.value], groups.requests
    if metric.statistic == ALL_OF_REQUEST:
        values = least_of_requests(values, requests)
        requests = np.arange(len(values))
    if metric.statistic in (MEAN, ALL_OF_REQUEST):
        interval = mean_interval(values, requests, level=level, resamples=resamples, seed=seed)
        return float(values.mean()), interval
    found = statistic(metric.statistic)
    value = found(columns, metric.value, groups)
    if math.isnan(value):
        return None, None

    def of_rows(rows: "NDArray[np.int64]", drawn: "NDArray[np.int64]") -> float:
        chosen = {name: each[rows] for name, each in columns.items()}
        return found(chosen, metric.value, Groups(drawn, groups.categories[rows]))

    return value, statistic_interval(of_rows, requests, level=level, resamples=resamples, seed=seed)
