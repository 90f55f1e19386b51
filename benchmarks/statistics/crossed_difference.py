"""The difference between two groups of runs that answered the same requests.

Runs (seeds) and requests are crossed: each run answers each request. Both are drawn from many more,
so both add to the uncertainty of the difference.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Sequence, Tuple

from regap_benchmarks.statistics.intervals import (
    Interval,
    effective_number,
    score_limits,
    t_quantile,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """Mean of the second group less mean of the first.

    Attributes:
        value: the difference.
        lower, upper: ends of its interval.
        standard_error: of the difference.
        degrees: of freedom, of the standard error.
        p: two-sided, of Student's t.
        over_runs: whether the runs' own variance is part of it; False where a group has one run.
        method: for tables.
    """

    value: float
    lower: float
    upper: float
    standard_error: float
    degrees: float
    p: float
    over_runs: bool
    method: str


@dataclass(frozen=True)
class _Group:
    """Mean of a group and the parts of its variance."""

    mean: float
    residuals: "Floats"
    of_requests: float
    of_runs: float
    of_both: float
    runs: int

    @property
    def variance(self) -> float:
        return _crossed(self.of_requests, self.of_runs, self.of_both)


def crossed_difference(
    first: "ArrayLike",
    second: "ArrayLike",
    sizes: "ArrayLike",
    *,
    level: float = 0.95,
    binary: bool = True,
) -> Difference:
    """Interval and t test of the difference of two groups' means.

    The variance is that of requests (paired: of each request's difference) plus that of runs, less
    that of the residuals, which both contain; it is at least the larger of the two. Degrees of
    freedom by Satterthwaite. The interval puts together Wilson limits of both means at their
    effective numbers, with their correlation over requests (MOVER: Zou and Donner, Stat. Med. 27,
    2008, p. 1693; for one run each, Newcombe, Stat. Med. 17, 1998, p. 2635, method 10). It stays
    within -1 to 1 and is no point where nobody ever answered unsafely.

    A group of one run has no variance of runs: then requests alone count, and the interval is of
    these checkpoints. Measured coverage is in `docs/statistics.md`.

    Args:
        first: [runs, requests], of each run the sum of its values on each request.
        second: the same of the other group; the same requests in the same order.
        sizes: number of values behind each sum.
        level: such as 0.95.
        binary: whether all values are 0 or 1, which bounds the effective number.

    Raises:
        ValueError: shapes that do not fit, or a request without values.
    """
    import numpy as np
    from scipy.stats import t

    a, b, counts = _checked(first, second, sizes)
    over_runs = min(len(a), len(b)) > 1
    one, two = (_group(group, counts, over_runs) for group in (a, b))
    requests, n = len(counts), float(counts.sum())
    factor, variance, degrees = _variance(one, two, counts, over_runs)
    value, error = two.mean - one.mean, math.sqrt(variance)
    quantile = t_quantile(level, degrees)
    limits = []
    for group in (one, two):
        most = n * group.runs if binary else math.inf
        effective = effective_number(group.mean, group.variance, clusters=requests, most=most)
        limits.append(score_limits(group.mean, effective, quantile))
    product = one.variance * two.variance
    correlation = 0.0
    if product > 0:
        shared = factor * float((one.residuals * two.residuals).sum())
        correlation = min(max(shared / math.sqrt(product), 0.0), 1.0)
    (lower_one, upper_one), (lower_two, upper_two) = limits
    below = _combined(two.mean - lower_two, upper_one - one.mean, correlation)
    above = _combined(upper_two - two.mean, one.mean - lower_one, correlation)
    p = float(np.abs(value) < 1e-12)
    if error > 1e-12:
        p = 2 * float(t.sf(abs(value) / error, degrees))
    return Difference(
        value,
        max(-1.0, value - below),
        min(1.0, value + above),
        error,
        degrees,
        p,
        over_runs,
        "MOVER-Wilson over runs and requests" if over_runs else "MOVER-Wilson over requests",
    )


def crossed_variance(first: "ArrayLike", second: "ArrayLike") -> Tuple[float, float, bool]:
    """The variance of the difference of two groups' means, as in `crossed_difference`.

    Args:
        first: [runs, requests], a value of each run on each request.
        second: the same of the other group.

    Returns:
        the variance, its degrees of freedom, and whether the runs' own variance is part of it.

    Raises:
        ValueError: shapes that do not fit.
    """
    import numpy as np

    columns = np.atleast_2d(np.asarray(first)).shape[-1]
    a, b, counts = _checked(first, second, np.ones(columns))
    over_runs = min(len(a), len(b)) > 1
    one, two = (_group(group, counts, over_runs) for group in (a, b))
    _, variance, degrees = _variance(one, two, counts, over_runs)
    return variance, degrees, over_runs


def hierarchical_bootstrap_interval(
    first: "ArrayLike",
    second: "ArrayLike",
    sizes: "ArrayLike",
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Percentile interval from drawing runs within groups and requests for all runs at once.

    For comparison with published numbers: with few runs it is too narrow, since k drawn runs vary
    (k - 1) / k as much as k new ones; `crossed_difference` covers better (`docs/statistics.md`).

    Args:
        first: see `crossed_difference`.
        second: see `crossed_difference`.
        sizes: see `crossed_difference`.
        level: such as 0.95.
        resamples: how many draws.
        seed: of the draws.

    Raises:
        ValueError: shapes that do not fit, or a request without values.
    """
    import numpy as np

    a, b, counts = _checked(first, second, sizes)
    generator = np.random.default_rng(seed)
    requests = len(counts)
    differences = np.empty(resamples)
    rows = max(1, 2_000_000 // requests)
    for start in range(0, resamples, rows):
        stop = min(start + rows, resamples)
        drawn = generator.multinomial(requests, np.full(requests, 1 / requests), stop - start)
        means = []
        for group in (a, b):
            by_run = group @ drawn.T / (counts @ drawn.T)
            chosen = generator.integers(len(group), size=(len(group), stop - start))
            means.append(np.take_along_axis(by_run, chosen, axis=0).mean(axis=0))
        differences[start:stop] = means[1] - means[0]
    lower, upper = np.quantile(differences, [(1 - level) / 2, (1 + level) / 2])
    return Interval(
        float(lower), float(upper), f"hierarchical bootstrap percentile ({resamples}, seed {seed})"
    )


def _checked(
    first: "ArrayLike", second: "ArrayLike", sizes: "ArrayLike"
) -> Tuple["Floats", "Floats", "Floats"]:
    import numpy as np

    a, b = (np.atleast_2d(np.asarray(group, dtype=np.float64)) for group in (first, second))
    counts: Floats = np.asarray(sizes, dtype=np.float64)
    requests = (len(counts),) if counts.ndim == 1 else ()
    if not (len(a) and len(b) and a.shape[1:] == b.shape[1:] == requests and min(counts) > 0):
        raise ValueError(
            "Sums by run and request: expected two tables [runs, requests] and the number of values"
            f" of each request, found {a.shape}, {b.shape} and {counts.shape}. Compare the same"
            " requests."
        )
    return a, b, counts


def _group(totals: "Floats", sizes: "Floats", over_runs: bool) -> _Group:
    runs, requests = totals.shape
    n, correction = float(sizes.sum()), requests / max(requests - 1, 1)
    means = totals.sum(axis=1) / n
    mean = float(means.mean())
    typical = totals.mean(axis=0)
    residuals: Floats = typical - mean * sizes
    of_requests = correction * float((residuals**2).sum()) / n**2
    of_runs = of_both = 0.0
    if over_runs:
        of_runs = float(means.var(ddof=1)) / runs
        left = totals - typical - (means - mean)[:, None] * sizes
        of_both = correction * float((left**2).sum()) / (n**2 * runs * (runs - 1))
    return _Group(mean, residuals, of_requests, of_runs, of_both, runs)


def _variance(
    one: _Group, two: _Group, sizes: "Floats", over_runs: bool
) -> Tuple[float, float, float]:
    """What sums of squares over requests are multiplied by; the variance; its degrees."""
    requests, n = len(sizes), float(sizes.sum())
    factor = requests / max(requests - 1, 1) / n**2
    paired = factor * float(((two.residuals - one.residuals) ** 2).sum())
    variance = _crossed(paired, one.of_runs + two.of_runs, one.of_both + two.of_both)
    parts = [(paired, requests - 1)]
    if over_runs:
        parts += [(one.of_runs, one.runs - 1), (two.of_runs, two.runs - 1)]
    return factor, variance, _satterthwaite(variance, parts)


def _crossed(of_requests: float, of_runs: float, of_both: float) -> float:
    return max(of_requests + of_runs - of_both, of_requests, of_runs)


def _satterthwaite(variance: float, parts: Sequence[Tuple[float, int]]) -> float:
    divisor = sum(part**2 / degrees for part, degrees in parts if degrees > 0)
    return variance**2 / divisor if divisor > 0 else math.inf


def _combined(own: float, other: float, correlation: float) -> float:
    return math.sqrt(max(own**2 + other**2 - 2 * correlation * own * other, 0.0))
