"""Correlations over checkpoints, with intervals that know which of them belong together.

Checkpoints of one base and seed are not independent: whole clusters are drawn. Rank correlation
(Spearman), so that a curve counts like a line; the partial one given a third number is that of the
ranks' residuals. numpy and scipy are imported where they are used.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, List, Optional, Sequence

from regap_benchmarks.statistics.intervals import statistic_interval

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

FEW_CLUSTERS = 5


@dataclass(frozen=True)
class Correlation:
    """One correlation.

    Attributes:
        value: from -1 to 1; None where a side does not vary.
        lower, upper: of the cluster bootstrap; None with fewer than two clusters, or where most
            draws have none.
        n: checkpoints.
        clusters: bases and seeds.
        within: mean over the clusters of the correlation inside each, where each is as if it were
            alone; None where none has one.
        method: of the interval.
    """

    value: Optional[float]
    lower: Optional[float]
    upper: Optional[float]
    n: int
    clusters: int
    within: Optional[float]
    method: str


def correlation(
    first: Sequence[float],
    second: Sequence[float],
    clusters: Sequence[int],
    *,
    given: Optional[Sequence[float]] = None,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Correlation:
    """Spearman's correlation, or the partial one.

    Args:
        first: a number of each checkpoint.
        second: another.
        clusters: of each checkpoint, its base and seed.
        given: a third number, whose part is taken out of both.
        level: of the interval.
        resamples: draws of whole clusters.
        seed: of the draws.

    Raises:
        ValueError: sequences of other lengths.
    """
    import numpy as np

    if not len(first) == len(second) == len(clusters) or (
        given is not None and len(given) != len(first)
    ):
        raise ValueError(
            f"Correlation: expected sequences of one length, found {len(first)}, {len(second)} and"
            f" {len(clusters)}. Give each checkpoint all its numbers."
        )
    x, y, groups = np.asarray(first, float), np.asarray(second, float), np.asarray(clusters)
    z = None if given is None else np.asarray(given, float)

    def of_rows(rows: "NDArray[np.int64]", drawn: "NDArray[np.int64]") -> float:
        return rank_correlation(x[rows], y[rows], None if z is None else z[rows])

    everything = np.arange(len(x))
    value = of_rows(everything, groups)
    count = len(np.unique(groups))
    interval = None
    if count > 1 and not math.isnan(value):
        interval = statistic_interval(of_rows, groups, level=level, resamples=resamples, seed=seed)
    inside: List[float] = []
    for group in np.unique(groups):
        found = of_rows(everything[groups == group], groups)
        if not math.isnan(found):
            inside.append(found)
    return Correlation(
        value=None if math.isnan(value) else value,
        lower=interval.lower if interval else None,
        upper=interval.upper if interval else None,
        n=len(x),
        clusters=count,
        within=sum(inside) / len(inside) if inside else None,
        method=interval.method if interval else "none",
    )


def rank_correlation(first: "Floats", second: "Floats", given: "Optional[Floats]") -> float:
    """Spearman's correlation; partial with a third number; NaN where one does not vary."""
    import numpy as np
    from scipy.stats import rankdata

    if len(first) < 2:
        return math.nan
    x, y = rankdata(first), rankdata(second)
    if given is not None:
        design = np.column_stack([np.ones(len(x)), rankdata(given)])
        x, y = (_residuals(design, each) for each in (x, y))
    x, y = x - x.mean(), y - y.mean()
    size = float(np.sqrt((x**2).sum() * (y**2).sum()))
    return float((x * y).sum() / size) if size > 1e-9 else math.nan


def _residuals(design: "ArrayLike", values: "Floats") -> "Floats":
    import numpy as np

    matrix = np.asarray(design, float)
    fitted: Floats = matrix @ np.linalg.lstsq(matrix, values, rcond=None)[0]
    return values - fitted
