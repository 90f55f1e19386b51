"""The difference of two groups of runs in a statistic that is no mean: F1, a ratio, a sum of parts.

Each run has its own value of the statistic. How it depends on the requests is learnt by leaving
them out, one at a time or in groups (jackknife); the pseudo-values take the place of the answers in
the variance of `crossed_difference`.
"""

import math
from typing import TYPE_CHECKING, List, Mapping, NamedTuple, Optional, Tuple, Union

from regap_benchmarks.statistics.crossed_difference import crossed_variance
from regap_benchmarks.statistics.intervals import t_quantile
from regap_benchmarks.statistics.metric_statistics import Groups, statistic
from regap_benchmarks.statistics.permutation import PermutationTest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from regap_benchmarks.statistics.metric_statistics import Statistic

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]
    Rows = Union[NDArray[np.bool_], slice]

# Requests beyond this number are left out in groups: each value of the statistic takes time.
MOST_GROUPS = 400
MOST_SWAPS = 2000


class Answers(NamedTuple):
    """Values of the answers that all runs have.

    Attributes:
        columns: by name, [runs, answers].
        requests: number of each answer's request, [answers].
        categories: number of each answer's category, [answers].
    """

    columns: "Mapping[str, Floats]"
    requests: "Ints"
    categories: "Ints"


class StatisticDifference(NamedTuple):
    """Mean over the second group's runs less mean over the first's.

    Attributes:
        by_run: of each run, the statistic.
        value: the difference.
        standard_error, degrees: of it, by the jackknife.
        over_runs: whether the runs' own variance is part of it; False where a group has one run.
        p: two-sided, of Student's t.
    """

    by_run: Tuple[float, ...]
    value: float
    standard_error: float
    degrees: float
    over_runs: bool
    p: float

    def interval_at(self, level: float) -> Tuple[float, float]:
        """Ends of Student's interval."""
        half = t_quantile(level, self.degrees) * self.standard_error
        return self.value - half, self.value + half

    @property
    def method(self) -> str:
        """For tables."""
        return "jackknife over runs and requests" if self.over_runs else "jackknife over requests"


def of_runs(answers: Answers, name: str, value: str) -> List[float]:
    """The statistic of each run; NaN where it is undefined."""
    everything = slice(None)
    runs = len(next(iter(answers.columns.values())))
    return [_of(statistic(name), answers, value, run, everything) for run in range(runs)]


def statistic_difference(
    answers: Answers, border: int, name: str, value: str
) -> Optional[StatisticDifference]:
    """Estimate the difference of two groups in a statistic.

    Args:
        answers: of the first group's runs, then of the second's.
        border: runs of the first group.
        name: of the statistic.
        value: the metric's own column.

    Returns:
        None where it is undefined for some run, or with some request left out, and where it does
        not vary at all, of which a jackknife knows nothing.
    """
    import numpy as np
    from scipy.stats import t

    found = statistic(name)
    runs = len(next(iter(answers.columns.values())))
    left_out = _groups(answers.requests)
    count = int(left_out.max()) + 1
    if count < 2:
        return None
    whole, pseudo = np.array(of_runs(answers, name, value)), np.empty((runs, count))
    kept = [left_out != group for group in range(count)]
    for run in range(runs):
        without = np.array([_of(found, answers, value, run, rows) for rows in kept])
        pseudo[run] = whole[run] + (count - 1) * (whole[run] - without)
    if np.isnan(pseudo).any():
        return None
    # About each run's own value: the jackknife's shift of the mean is no part of the variance.
    pseudo += (whole - pseudo.mean(axis=1))[:, None]
    variance, degrees, over_runs = crossed_variance(pseudo[:border], pseudo[border:])
    difference = float(whole[border:].mean() - whole[:border].mean())
    error = math.sqrt(variance)
    if error <= 1e-12:
        return None
    p = 2 * float(t.sf(abs(difference) / error, degrees))
    by_run = tuple(float(item) for item in whole)
    return StatisticDifference(by_run, difference, error, degrees, over_runs, p)


def swap_answers(
    answers: Answers, single: int, name: str, value: str, *, resamples: int, seed: int
) -> PermutationTest:
    """Does one checkpoint differ from others in a statistic? As `permutation.permute_answers`.

    Within each request, all of its answers together, the single run changes places with any run.

    Args:
        answers: of all runs.
        single: which run stands alone.
        name: of the statistic.
        value: the metric's own column.
        resamples: of permutations, `MOST_SWAPS` at most; the observed one counts among them.
        seed: of these.
    """
    import numpy as np

    found = statistic(name)
    runs = len(next(iter(answers.columns.values())))
    rest = [run for run in range(runs) if run != single]
    resamples = min(resamples, MOST_SWAPS)
    _, request = np.unique(answers.requests, return_inverse=True)
    everything = np.arange(len(request))
    groups = Groups(answers.requests, answers.categories)

    def distance(source: "Ints") -> float:
        # source[request]: the run whose answers the single run takes; that run takes its own.
        taken = source[request]
        values = []
        for run in [single, *rest]:
            own = taken if run == single else np.where(taken == run, single, run)
            columns = {key: column[own, everything] for key, column in answers.columns.items()}
            values.append(found(columns, value, groups))
        return abs(sum(values[1:]) / len(rest) - values[0])

    requests = int(request.max()) + 1
    observed = distance(np.full(requests, single))
    generator = np.random.default_rng(seed)
    extreme = 1
    for _ in range(1, resamples):
        drawn = distance(generator.integers(runs, size=requests))
        extreme += bool(math.isnan(drawn) or drawn >= observed - 1e-9)
    return PermutationTest(
        extreme / resamples, 1 / resamples, f"permutation of answers ({resamples}, seed {seed})"
    )


def _groups(requests: "Ints") -> "Ints":
    import numpy as np

    _, number = np.unique(requests, return_inverse=True)
    groups: Ints = number % MOST_GROUPS
    return groups


def _of(
    found: "Statistic",
    answers: Answers,
    value: str,
    run: int,
    rows: "Union[NDArray[np.bool_], slice]",
) -> float:
    columns = {key: column[run, rows] for key, column in answers.columns.items()}
    groups = Groups(answers.requests[rows], answers.categories[rows])
    return float(found(columns, value, groups))
