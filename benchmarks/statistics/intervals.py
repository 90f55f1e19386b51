"""Intervals of one mean, and corrections for many tests.

The methods were chosen by measured coverage; `docs/statistics.md` has the numbers. Differences of
groups are in `crossed_difference.py`, tests in `permutation.py`. numpy and scipy are imported where
they are used.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Callable, List, Optional, Sequence, Tuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

_FEW_CLUSTERS = 50
_CELLS_AT_ONCE = 2_000_000  # 16 MB of draws


@dataclass(frozen=True)
class Interval:
    """A confidence interval, in the unit of the values.

    Attributes:
        lower, upper: its ends.
        method: how it was made, for tables.
    """

    lower: float
    upper: float
    method: str


def mean_interval(
    values: "ArrayLike",
    clusters: "ArrayLike",
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """The interval that fits the values.

    - 0 and 1, one value in each cluster: `wilson_interval`.
    - 0 and 1, several values in some cluster; values that are all equal; any values of less than 50
      clusters, of which a bootstrap is too narrow: `clustered_wilson_interval`. It is no point.
    - Other values: `cluster_bootstrap_interval`, bias-corrected and accelerated.

    Args:
        values: from 0 to 1.
        clusters: of each value, the cluster, such as the request; integers.
        level: probability to cover, such as 0.95.
        resamples: draws of the bootstrap, where one is made; 100 or more.
        seed: of the draws.

    Raises:
        ValueError: no value, a value that is not from 0 to 1, other lengths, a level outside of
            (0, 1), less than 100 resamples.
    """
    numbers, totals, _sizes = _by_cluster(values, clusters)
    _check_level(level)
    if ((numbers == 0) | (numbers == 1)).all():
        if len(totals) == len(numbers):
            return wilson_interval(float(numbers.sum()), len(numbers), level=level)
        return clustered_wilson_interval(values, clusters, level=level)
    if len(totals) < _FEW_CLUSTERS or (numbers == numbers[0]).all():
        return clustered_wilson_interval(values, clusters, level=level)
    return cluster_bootstrap_interval(values, clusters, level=level, resamples=resamples, seed=seed)


def wilson_interval(successes: float, n: float, *, level: float = 0.95) -> Interval:
    """Wilson's score interval of a proportion (J. Am. Stat. Assoc. 22, 1927, p. 209).

    Raises:
        ValueError: n is not above 0, successes are not from 0 to n, or a level outside of (0, 1).
    """
    _check_level(level)
    if not (n > 0 and 0 <= successes <= n):
        raise ValueError(
            f"Proportion: expected 0 to n successes of n above 0, found {successes} of {n}. Give"
            " counts of scored answers."
        )
    from scipy.stats import norm

    lower, upper = score_limits(successes / n, n, float(norm.ppf((1 + level) / 2)))
    return Interval(lower, upper, "wilson")


def clustered_wilson_interval(
    values: "ArrayLike", clusters: "ArrayLike", *, level: float = 0.95
) -> Interval:
    """Wilson's interval at the effective number of values, with Student's t quantile.

    The effective number is that of independent values which would vary as much: p (1 - p) / V,
    where V is the variance of the mean by the clusters' residuals (Korn and Graubard, Survey
    Methodology 24, 1998, p. 193; with Wilson: Franco et al., J. Surv. Stat. Methodol. 7, 2019,
    p. 334). Of values 0 and 1 it is at most their number. Where the clusters do not vary, it is the
    number of clusters: 0 of 20 requests, each under five pictures, say no more than 0 of 20.

    Raises:
        ValueError: see `mean_interval`.
    """
    numbers, totals, sizes = _by_cluster(values, clusters)
    _check_level(level)
    count, n = len(totals), float(len(numbers))
    mean = float(numbers.sum() / n)
    residuals = totals - mean * sizes
    variance = count / max(count - 1, 1) * float((residuals**2).sum()) / n**2
    most = n if ((numbers == 0) | (numbers == 1)).all() else math.inf
    effective = effective_number(mean, variance, clusters=count, most=most)
    quantile = t_quantile(level, count - 1 if count > 1 else math.inf)
    lower, upper = score_limits(mean, effective, quantile)
    return Interval(lower, upper, "clustered wilson")


def cluster_bootstrap_interval(
    values: "ArrayLike",
    clusters: "ArrayLike",
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    accelerated: bool = True,
) -> Interval:
    """Bootstrap interval of the mean of all values, drawing whole clusters with replacement.

    BCa (Efron, J. Am. Stat. Assoc. 82, 1987, p. 171), with the acceleration from the jackknife
    over clusters, or the plain percentiles. Means that are all equal give no interval by
    resampling: then `clustered_wilson_interval` answers.

    Args:
        values: see `mean_interval`.
        clusters: see `mean_interval`.
        level: see `mean_interval`.
        resamples: see `mean_interval`.
        seed: see `mean_interval`.
        accelerated: False for the plain percentiles.

    Raises:
        ValueError: see `mean_interval`.
    """
    import numpy as np
    from scipy.stats import norm

    _numbers, totals, sizes = _by_cluster(values, clusters)
    _check_level(level)
    _check_resamples(resamples)
    means = totals / sizes
    if len(totals) == 1 or np.allclose(means, means[0], rtol=0, atol=1e-12):
        return clustered_wilson_interval(values, clusters, level=level)
    draws = _cluster_means(totals, sizes, resamples, np.random.default_rng(seed))
    tails = np.array([(1 - level) / 2, (1 + level) / 2])
    name = "percentile"
    if accelerated:
        name = "BCa"
        mean = totals.sum() / sizes.sum()
        below = ((draws < mean).mean() + (draws <= mean).mean()) / 2
        bias = norm.ppf(np.clip(below, 1 / (2 * resamples), 1 - 1 / (2 * resamples)))
        without = (totals.sum() - totals) / (sizes.sum() - sizes)
        spread = without.mean() - without
        acceleration = (spread**3).sum() / (6 * (spread**2).sum() ** 1.5)
        shifted = bias + norm.ppf(tails)
        tails = norm.cdf(bias + shifted / (1 - acceleration * shifted))
    lower, upper = np.quantile(draws, tails)
    return Interval(
        float(lower), float(upper), f"cluster bootstrap {name} ({resamples}, seed {seed})"
    )


def statistic_interval(
    statistic: "Callable[[NDArray[np.int64], NDArray[np.int64]], float]",
    clusters: "NDArray[np.int64]",
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Optional[Interval]:
    """Percentile bootstrap interval of any statistic, drawing whole clusters with replacement.

    Args:
        statistic: from the rows that are drawn, and the number of each row's cluster, to a number.
            A cluster that is drawn twice comes under two numbers.
        clusters: of each value, [n].
        level: such as 0.95.
        resamples: draws, 100 or more; those where the statistic is NaN are left out.
        seed: of the draws.

    Returns:
        None where less than nine tenths of the draws give a number, or all give the same: then
        resampling says nothing of the uncertainty.
    """
    import numpy as np

    _check_level(level)
    _check_resamples(resamples)
    _, index = np.unique(clusters, return_inverse=True)
    order = np.argsort(index, kind="stable")
    starts = np.searchsorted(index[order], np.arange(int(index.max()) + 2))
    count = len(starts) - 1
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(resamples):
        drawn = generator.integers(count, size=count)
        sizes = starts[drawn + 1] - starts[drawn]
        within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        rows = order[np.repeat(starts[drawn], sizes) + within]
        found.append(statistic(rows, np.repeat(np.arange(count), sizes)))
    draws = np.array(found)
    draws = draws[~np.isnan(draws)]
    if len(draws) < 0.9 * resamples or np.ptp(draws) < 1e-12:
        return None
    lower, upper = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Interval(
        float(lower), float(upper), f"cluster bootstrap percentile ({resamples}, seed {seed})"
    )


def score_limits(mean: float, n: float, quantile: float) -> Tuple[float, float]:
    """Ends of the score interval at a number of values and a quantile that need not be whole.

    Args:
        mean: from 0 to 1.
        n: above 0.
        quantile: of the normal or of Student's t distribution.
    """
    square = quantile**2 / n
    centre = (mean + square / 2) / (1 + square)
    half = quantile / (1 + square) * math.sqrt(mean * (1 - mean) / n + square / (4 * n))
    # At 0 and 1 the formula's end is the mean itself, but for rounding.
    lower = 0.0 if mean == 0 else max(0.0, centre - half)
    upper = 1.0 if mean == 1 else min(1.0, centre + half)
    return lower, upper


def effective_number(mean: float, variance: float, *, clusters: int, most: float) -> float:
    """How many independent 0 and 1 values have a mean of this variance.

    Args:
        mean: from 0 to 1.
        variance: of the mean.
        clusters: the answer where the variance is 0.
        most: the largest answer.
    """
    spread = mean * (1 - mean)
    if spread <= 1e-12 or variance <= 1e-15:
        return min(float(clusters), most)
    return min(spread / variance, most)


def t_quantile(level: float, degrees: float) -> float:
    """Two-sided quantile of Student's t distribution; of the normal one at infinite degrees."""
    from scipy.stats import norm, t

    tail = (1 + level) / 2
    return float(norm.ppf(tail) if math.isinf(degrees) else t.ppf(tail, degrees))


def holm(p_values: Sequence[float]) -> List[float]:
    """Adjust for many tests so that any false rejection has the test's level (Holm, 1979)."""
    return _adjust(p_values, "holm")


def benjamini_hochberg(p_values: Sequence[float]) -> List[float]:
    """Adjust so that the expected share of false rejections has the test's level (1995)."""
    return _adjust(p_values, "fdr_bh")


def _adjust(p_values: Sequence[float], method: str) -> List[float]:
    if not all(0 <= p <= 1 for p in p_values):
        raise ValueError(
            f"p values: expected numbers from 0 to 1, found {list(p_values)}. Leave out tests that"
            " could not be made."
        )
    if not p_values:
        return []
    from statsmodels.stats.multitest import multipletests

    return [float(p) for p in multipletests(list(p_values), method=method)[1]]


def _by_cluster(values: "ArrayLike", clusters: "ArrayLike") -> Tuple["Floats", "Floats", "Floats"]:
    """The values, and of each cluster their sum and number."""
    import numpy as np

    numbers, groups = np.asarray(values, dtype=np.float64), np.asarray(clusters)
    if numbers.ndim != 1 or numbers.shape != groups.shape or not len(numbers):
        raise ValueError(
            "Values and clusters: expected two lists of one length, 1 or more, found shapes"
            f" {numbers.shape} and {groups.shape}. Give each scored answer its request."
        )
    if not ((numbers >= 0) & (numbers <= 1)).all():  # NaN is neither
        raise ValueError(
            f"Values: expected numbers from 0 to 1, found {numbers.min()} to {numbers.max()}."
            " Scale the judge's values."
        )
    _, index = np.unique(groups, return_inverse=True)
    totals: Floats = np.bincount(index, weights=numbers).astype(np.float64)
    sizes: Floats = np.bincount(index).astype(np.float64)
    return numbers, totals, sizes


def _cluster_means(
    totals: "Floats", sizes: "Floats", resamples: int, generator: "np.random.Generator"
) -> "Floats":
    import numpy as np

    count = len(totals)
    means = np.empty(resamples)
    rows = max(1, _CELLS_AT_ONCE // count)
    for start in range(0, resamples, rows):
        stop = min(start + rows, resamples)
        drawn = generator.integers(count, size=(stop - start, count), dtype=np.int32)
        means[start:stop] = totals[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    return means


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(
            f"Confidence level: expected a number between 0 and 1, found {level}. Use 0.95."
        )


def _check_resamples(resamples: int) -> None:
    if resamples < 100:
        raise ValueError(f"Resamples: expected 100 or more, found {resamples}. Use 2000.")
