"""A share of weighted, clustered values, and how many independent values would know as much.

For samples that were drawn with unequal chances: a value stands for as many answers as its weight.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Optional

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
class Proportion:
    """A share.

    Attributes:
        value: from 0 to 1.
        effective: independent values that would vary as much.
        n: values.
        clusters: among them.
    """

    value: float
    effective: float
    n: int
    clusters: int


def weighted_proportion(
    values: "ArrayLike", clusters: "ArrayLike", weights: Optional["ArrayLike"] = None
) -> Proportion:
    """The weighted mean of values 0 and 1, with its effective number.

    The variance is that of the ratio of two sums over clusters, by its residuals (linearisation:
    Korn and Graubard, Survey Methodology 24, 1998, p. 193). Strata are not used in it: what they
    gain is not claimed. Where nothing varies, it is Kish's number of clusters, (sum W)^2 / sum W^2.
    It is at most the number of values.

    Args:
        values: each from 0 to 1.
        clusters: of each value.
        weights: of each value, above 0; None for 1.

    Raises:
        ValueError: no value, other lengths, a value not from 0 to 1, a weight that is not above 0.
    """
    import numpy as np

    numbers, groups = np.asarray(values, dtype=np.float64), np.asarray(clusters)
    heavy: Floats = np.ones(len(numbers)) if weights is None else np.asarray(weights, np.float64)
    if numbers.ndim != 1 or not numbers.size or not numbers.shape == groups.shape == heavy.shape:
        raise ValueError(
            "Values, clusters and weights: expected lists of one length, 1 or more, found shapes"
            f" {numbers.shape}, {groups.shape} and {heavy.shape}. Give each value both."
        )
    if not (((numbers >= 0) & (numbers <= 1)).all() and (heavy > 0).all()):
        raise ValueError(
            "Values and weights: expected numbers from 0 to 1 and weights above 0, found values"
            f" {numbers.min()} to {numbers.max()} and weights from {heavy.min()}. Leave out what"
            " was not drawn."
        )
    _, index = np.unique(groups, return_inverse=True)
    sizes: Floats = np.bincount(index, weights=heavy).astype(np.float64)
    count, total = len(sizes), float(sizes.sum())
    # Rounding must not make a share of 1 into more.
    mean = float(np.clip((heavy * numbers).sum() / total, numbers.min(), numbers.max()))
    residuals = np.bincount(index, weights=heavy * (numbers - mean))
    variance = count / max(count - 1, 1) * float((residuals**2).sum()) / total**2
    kish = total**2 / float((sizes**2).sum())
    if mean in (0.0, 1.0) or variance <= 1e-15:
        effective = min(kish, float(len(numbers)))
    else:
        effective = effective_number(mean, variance, clusters=count, most=float(len(numbers)))
    return Proportion(mean, effective, len(numbers), count)


def proportion_interval(proportion: Proportion, *, level: float = 0.95) -> Interval:
    """Wilson's interval at the effective number, with Student's t quantile."""
    degrees = proportion.clusters - 1 if proportion.clusters > 1 else float("inf")
    quantile = t_quantile(level, degrees)
    lower, upper = score_limits(proportion.value, proportion.effective, quantile)
    return Interval(lower, upper, "weighted clustered wilson")
