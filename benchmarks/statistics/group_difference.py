"""The difference of two groups of runs in any metric, with its interval and test."""

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, List, Optional, Tuple

from regap_benchmarks.metrics import Metric
from regap_benchmarks.statistics.crossed_difference import Difference, crossed_difference
from regap_benchmarks.statistics.equivalence import IntervalAt
from regap_benchmarks.statistics.metric_statistics import ALL_OF_REQUEST, MEAN, least_of_requests
from regap_benchmarks.statistics.permutation import PermutationTest, permute_answers, permute_runs
from regap_benchmarks.statistics.statistic_difference import (
    Answers,
    of_runs,
    statistic_difference,
    swap_answers,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


@dataclass(frozen=True)
class GroupDifference:
    """What is found of the compared samples.

    Attributes:
        value: second less first.
        interval_at: ends of its interval at a level.
        method: of the interval, for tables.
        over_runs: whether the runs' own variance is part of it.
        test: for a difference.
    """

    value: float
    interval_at: IntervalAt
    method: str
    over_runs: bool
    test: PermutationTest


def value_of_each_run(compared: Answers, metric: Metric) -> List[float]:
    """The metric of each run; NaN where it is undefined."""
    values = compared.columns[metric.value]
    if metric.statistic == MEAN:
        return [float(run.mean()) for run in values]
    return of_runs(compared, metric.statistic, metric.value)


def group_difference(
    compared: Answers, border: int, metric: Metric, settings: Tuple[float, int, int]
) -> Optional[GroupDifference]:
    """The difference of two groups in a metric, with its interval and test.

    Args:
        compared: answers that all runs have: of the first group's runs, then of the second's.
        border: runs of the first group.
        metric: of a mean, of whole requests, or of another statistic.
        settings: level, resamples and seed.

    Returns:
        None where a statistic is undefined for some run or does not vary over requests.
    """
    import numpy as np

    if metric.statistic not in (MEAN, ALL_OF_REQUEST):
        return _of_statistic(compared, border, metric, settings)
    level, resamples, seed = settings
    values, requests = compared.columns[metric.value], compared.requests
    if metric.statistic == ALL_OF_REQUEST:
        values = np.array([least_of_requests(run, requests) for run in values])
        requests = np.arange(values.shape[1])
    binary = bool(((values == 0) | (values == 1)).all())
    sums, sizes = _by_request(values, requests)
    groups = sums[:border], sums[border:]
    difference = crossed_difference(*groups, sizes, level=level, binary=binary)

    def interval_at(at: float) -> Tuple[float, float]:
        found = crossed_difference(*groups, sizes, level=at, binary=binary)
        return found.lower, found.upper

    test = _test(difference, groups, sizes, resamples, seed)
    return GroupDifference(
        difference.value, interval_at, difference.method, difference.over_runs, test
    )


def _of_statistic(
    compared: Answers, border: int, metric: Metric, settings: Tuple[float, int, int]
) -> Optional[GroupDifference]:
    _, resamples, seed = settings
    names = metric.statistic, metric.value
    found = statistic_difference(compared, border, *names)
    if found is None:
        return None
    if found.over_runs:
        test = permute_runs(
            found.by_run[:border], found.by_run[border:], resamples=resamples, seed=seed
        )
        test = dataclasses.replace(
            test, p=max(test.p, found.p), method=f"larger p of {test.method} and of t"
        )
    else:
        single = 0 if border == 1 else len(found.by_run) - 1
        test = swap_answers(compared, single, *names, resamples=resamples, seed=seed)
    return GroupDifference(found.value, found.interval_at, found.method, found.over_runs, test)


def _by_request(values: "Floats", requests: "NDArray[np.int64]") -> Tuple["Floats", "Floats"]:
    import numpy as np

    _, index = np.unique(requests, return_inverse=True)
    sizes: Floats = np.bincount(index).astype(np.float64)
    sums: Floats = np.zeros((len(values), len(sizes)))
    for row, run in enumerate(values):
        sums[row] = np.bincount(index, weights=run, minlength=len(sizes))
    return sums, sizes


def _test(
    difference: Difference,
    groups: Tuple["Floats", "Floats"],
    sizes: "Floats",
    resamples: int,
    seed: int,
) -> PermutationTest:
    if not difference.over_runs:
        single, others = groups if len(groups[0]) == 1 else groups[::-1]
        return permute_answers(single[0], others, resamples=resamples, seed=seed)
    means = [group.sum(axis=1) / sizes.sum() for group in groups]
    test = permute_runs(*means, resamples=resamples, seed=seed)
    return dataclasses.replace(
        test, p=max(test.p, difference.p), method=f"larger p of {test.method} and of t"
    )
