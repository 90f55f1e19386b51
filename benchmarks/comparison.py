"""Groups of runs against each other: does a method differ, or only two checkpoints?

Runs of a group are seeds of one method. With two or more in both groups the uncertainty is that of
runs and requests; with a single one it is that of requests, and the row says so.
"""

import dataclasses
import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Dict, List, Mapping, Optional, Sequence, Tuple

from regap_benchmarks.comparable import ALLOWED, JudgedRun, check_comparable, judge_of
from regap_benchmarks.estimation import ALL, strict_value
from regap_benchmarks.metrics import Metric
from regap_benchmarks.records import SCORED, Cell, Judgement
from regap_benchmarks.statistics.equivalence import Equivalence, Margins, adjust, equivalence
from regap_benchmarks.statistics.group_difference import (
    GroupDifference,
    group_difference,
    value_of_each_run,
)
from regap_benchmarks.statistics.intervals import holm
from regap_benchmarks.statistics.metric_statistics import ALL_OF_REQUEST, MEAN
from regap_benchmarks.statistics.statistic_difference import Answers

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_Key = Tuple[str, str]


@dataclass(frozen=True)
class GroupMean:
    """One group in a comparison.

    Attributes:
        name: of the group.
        runs: how many.
        mean: over its runs, of the compared samples; None when there are none.
        strict: over its runs and all asked samples, gaps counted against the model.
        gaps: answers that were asked for and are not scored, in all of its runs together.
    """

    name: str
    runs: int
    mean: Optional[float]
    strict: Optional[float]
    gaps: int


@dataclass(frozen=True)
class Comparison:
    """One metric of two groups on a task and picture condition.

    Attributes:
        task, condition, metric, judge, higher_is_better: of what; condition "" is all of them.
        first, second: the groups.
        difference: second less first, a fraction; None when no sample could be compared.
        lower, upper, level, method: of its interval.
        strict_difference: with all gaps counted against the models; None without a direction.
        p: two-sided; see `compare`.
        adjusted_p: by Holm over all rows of the comparison.
        smallest_p: the least that the permutation could have given.
        test: how p was made.
        n: samples that every run of both groups has a score for.
        requests: requests among them, which are what is drawn at random.
        incomplete: samples that some run has no score for, and which are not compared; without
            those that the metric is not about.
        scope: what may be concluded, in words.
        factor: as `Metric.factor`.
        equivalence: within a margin; None where none was stated or nothing could be compared.
    """

    task: str
    condition: str
    metric: str
    judge: str
    higher_is_better: Optional[bool]
    first: GroupMean
    second: GroupMean
    difference: Optional[float]
    lower: Optional[float]
    upper: Optional[float]
    level: float
    method: str
    strict_difference: Optional[float]
    p: Optional[float]
    adjusted_p: Optional[float]
    smallest_p: Optional[float]
    test: str
    n: int
    requests: int
    incomplete: int
    scope: str
    factor: Optional[float] = None
    equivalence: Optional[Equivalence] = None


@dataclass(frozen=True)
class _Table:
    """Values of one task and metric: [runs, samples], NaN where a run has no score.

    `columns` has all values that the metric's statistic may read, its own among them.
    """

    columns: "Dict[str, Floats]"
    not_applicable: "NDArray[np.bool_]"
    conditions: "NDArray[np.str_]"
    requests: "NDArray[np.int64]"
    categories: "NDArray[np.int64]"


def compare(
    groups: Mapping[str, Sequence[JudgedRun]],
    metrics: Sequence[Metric],
    *,
    allowed: Sequence[str] = ALLOWED,
    against_first: bool = False,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
    margins: Optional[Margins] = None,
) -> List[Comparison]:
    """Compare every pair of groups on each metric, task and picture condition.

    Only samples that all runs of both groups have a score for are compared; the others are counted,
    and `strict_difference` is what comes out if they count against the models.

    p, with two or more runs in both groups, is the larger of two: that of the permutation of runs,
    exact if the methods do not differ at all, and that of the t test over runs and requests, which
    also holds where one method's runs vary more. With a single run in a group it is that of the
    permutation of answers within requests.

    A metric that is no mean is taken of each run, and its variance over requests is that of the
    jackknife (`statistic_difference.py`).

    Args:
        groups: of runs, by name; a run's name must be its own.
        metrics: of the judge.
        allowed: see `comparable.check_comparable`.
        against_first: compare the others with the first group only.
        level: of the intervals.
        resamples: of permutations, where they are too many to try all.
        seed: of these.
        margins: of equivalence, stated before the data were seen; None: it is not tested.

    Raises:
        ValueError: see `comparable.check_comparable`.
    """
    check_comparable(groups, allowed)
    names = list(groups)
    pairs = list(itertools.combinations(names, 2))
    if against_first:
        pairs = [(names[0], name) for name in names[1:]]
    cells = groups[names[0]][0].header.cells
    rows: List[Comparison] = []
    for first, second in pairs:
        runs = [*groups[first], *groups[second]]
        for task in dict.fromkeys(cell.task for cell in cells):
            for metric in metrics:
                asked = [c for c in cells if c.task == task and metric.applies_to(c.harmful)]
                if not asked:
                    continue
                table = _table(runs, task, metric)
                for condition in _conditions(asked):
                    part = [cell for cell in asked if condition in (ALL, cell.condition)]
                    rows.append(
                        _compare_part(
                            table,
                            (first, second, len(groups[first])),
                            metric,
                            (task, condition, judge_of(runs[0])),
                            sum(cell.samples for cell in part),
                            (level, resamples, seed),
                            margins.of(task, metric.name, metric.factor) if margins else None,
                        )
                    )
    return with_adjusted(rows)


def _conditions(cells: Sequence[Cell]) -> List[str]:
    """All of them together, and each where there are several: one alone would be tested twice."""
    found = list(dict.fromkeys(cell.condition for cell in cells))
    return [ALL, *found] if len(found) > 1 else [ALL]


def _table(runs: Sequence[JudgedRun], task: str, metric: Metric) -> _Table:
    import numpy as np

    by_run: List[Dict[_Key, Judgement]] = [
        {item.key: item for item in run.judgements if item.task == task and metric.applies(item)}
        for run in runs
    ]
    samples: Dict[_Key, Judgement] = {}
    for found in by_run:
        samples.update(found)
    keys = sorted(samples)
    shape = (len(runs), len(keys))
    names = {metric.value}
    if metric.statistic not in (MEAN, ALL_OF_REQUEST):
        names.update(*(item.values for item in samples.values()))
    columns = {name: np.full(shape, math.nan) for name in names}
    not_applicable = np.zeros(shape, dtype=bool)
    for row, found in enumerate(by_run):
        for place, key in enumerate(keys):
            item = found.get(key)
            if item is not None and (item.status == SCORED or metric.official):
                for name, column in columns.items():
                    column[row, place] = item.values.get(name, math.nan)
                not_applicable[row, place] = metric.leaves_out(item)
    return _Table(
        columns,
        not_applicable,
        np.array([samples[key].condition for key in keys], dtype=np.str_),
        _numbered([samples[key].request for key in keys]),
        _numbered([samples[key].category for key in keys]),
    )


def _numbered(names: Sequence[str]) -> "NDArray[np.int64]":
    import numpy as np

    numbers = {name: index for index, name in enumerate(sorted(set(names)))}
    return np.array([numbers[name] for name in names], dtype=np.int64)


def _compare_part(
    table: _Table,
    pair: Tuple[str, str, int],
    metric: Metric,
    names: Tuple[str, str, str],
    asked: int,
    settings: Tuple[float, int, int],
    margin: Optional[float],
) -> Comparison:
    import numpy as np

    (first, second, border), (task, condition, judge) = pair, names
    level = settings[0]
    here = np.ones(len(table.conditions), dtype=bool)
    if condition != ALL:
        here = table.conditions == condition
    values = table.columns[metric.value][:, here]
    applicable = asked - table.not_applicable[:, here].sum(axis=1)
    complete = ~np.isnan(values).any(axis=0)
    compared = Answers(
        {name: column[:, here][:, complete] for name, column in table.columns.items()},
        table.requests[here][complete],
        table.categories[here][complete],
    )
    n = int(complete.sum())
    means = value_of_each_run(compared, metric) if n else []
    sides = [
        _side(name, metric, values[rows], means[rows], applicable[rows])
        for name, rows in ((first, slice(0, border)), (second, slice(border, None)))
    ]
    result = group_difference(compared, border, metric, settings) if n else None
    requests = len(np.unique(compared.requests))
    lower, upper = result.interval_at(level) if result else (None, None)
    strict = [side.strict for side in sides]
    return Comparison(
        task=task,
        condition=condition,
        metric=metric.name,
        judge=judge,
        higher_is_better=metric.higher_is_better,
        first=sides[0],
        second=sides[1],
        difference=result.value if result else None,
        lower=lower,
        upper=upper,
        level=level,
        method=result.method if result else "none",
        strict_difference=(
            strict[1] - strict[0] if strict[0] is not None and strict[1] is not None else None
        ),
        p=result.test.p if result else None,
        adjusted_p=None,
        smallest_p=result.test.smallest_p if result else None,
        test=result.test.method if result else "none",
        n=n,
        requests=requests,
        incomplete=asked - n - int(table.not_applicable[:, here].all(axis=0).sum()),
        scope=_scope(sides, requests, n, result, level),
        factor=metric.factor,
        equivalence=(
            equivalence(result.interval_at, margin, level=level)
            if result is not None and margin is not None
            else None
        ),
    )


def _side(
    name: str,
    metric: Metric,
    values: "Floats",
    means: Sequence[float],
    applicable: "NDArray[np.int64]",
) -> GroupMean:
    import numpy as np

    scored = (~np.isnan(values)).sum(axis=1)
    gaps = applicable - scored
    strict = [
        strict_value(metric, float(np.nansum(run)), int(n), int(lost))
        for run, n, lost in zip(values, scored, gaps)
    ]
    if metric.official or metric.statistic != MEAN:
        strict = []  # what a gap would have done to it is not known
    known = [value for value in strict if value is not None]
    mean = sum(means) / len(means) if means else math.nan
    return GroupMean(
        name=name,
        runs=len(values),
        mean=None if math.isnan(mean) else mean,
        strict=sum(known) / len(known) if known and len(known) == len(strict) else None,
        gaps=int(gaps.sum()),
    )


def _scope(
    sides: Sequence[GroupMean],
    requests: int,
    n: int,
    result: Optional[GroupDifference],
    level: float,
) -> str:
    one, two = sides
    if n == 0:
        return (
            f"{one.name} and {two.name}: no sample has a score in every run, nothing is compared."
        )
    if result is None:
        return (
            f"{one.name} and {two.name}: a statistic is undefined for some run, or does not vary"
            " over requests, so that its difference has no interval."
        )
    if not result.over_runs:
        return (
            f"{one.name} and {two.name}: with {one.runs} and {two.runs} runs this compares these"
            f" checkpoints only, not the methods behind them, over {requests} requests; another"
            " seed may turn it around."
        )
    scope = (
        f"{one.name} and {two.name}: compares methods over {one.runs} and {two.runs} runs and"
        f" {requests} requests."
    )
    if result.test.smallest_p > 1 - level:
        scope += (
            f" So few runs cannot give p under {result.test.smallest_p:.2g}: read the interval,"
            " which supposes that means of runs are distributed normally, or add seeds."
        )
    return scope


def with_adjusted(rows: Sequence[Comparison]) -> List[Comparison]:
    """Holm over all rows: of the tests for a difference, and of those for equivalence."""
    tested = iter(holm([row.p for row in rows if row.p is not None]))
    within = iter(adjust([row.equivalence for row in rows if row.equivalence is not None]))
    return [
        dataclasses.replace(
            row,
            adjusted_p=None if row.p is None else next(tested),
            equivalence=None if row.equivalence is None else next(within),
        )
        for row in rows
    ]
