"""Permutation tests: of runs between two groups, and of answers within requests.

All splits are tried where they are few. Otherwise a seeded sample of them, in which the observed
split counts as one (Phipson and Smyth, Stat. Appl. Genet. Mol. Biol. 9, 2010, article 39), so that
no p value is 0.
"""

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Tuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

MOST_SPLITS = 20_000
_CELLS_AT_ONCE = 2_000_000
_TOLERANCE = 1e-9  # statistics of equal splits differ by rounding


@dataclass(frozen=True)
class PermutationTest:
    """A two-sided test.

    Attributes:
        p: share of splits at least as far apart as the observed one.
        smallest_p: what p would have been had no other split been as far apart.
        method: for tables.
    """

    p: float
    smallest_p: float
    method: str


def permute_runs(
    first: "ArrayLike", second: "ArrayLike", *, resamples: int = 10_000, seed: int = 0
) -> PermutationTest:
    """Do two groups of runs differ? Splits the runs into groups in all ways.

    Exact where the runs of both groups would be exchangeable if the methods were the same: same
    requests, independent seeds. The statistic is Welch's t (Janssen, Stat. Probab. Lett. 36, 1997,
    p. 9), which goes wrong less than the plain difference where one group of another size varies
    more; measured type-I errors are in `docs/statistics.md`.

    Args:
        first: mean of each run of one group, two or more.
        second: of the other.
        resamples: of splits, where there are more than `MOST_SPLITS`.
        seed: of these.

    Raises:
        ValueError: a group of less than two runs.
    """
    import numpy as np

    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    for group in (a, b):
        if group.ndim != 1 or len(group) < 2:
            raise ValueError(
                f"Runs of a group: expected two or more, found {group.size}. Add seeds, or compare"
                " checkpoints over their requests."
            )
    values, count, size = np.concatenate([a, b]), len(a) + len(b), len(a)
    splits = math.comb(count, size)
    exact = splits <= MOST_SPLITS
    if exact:
        chosen = np.zeros((splits, count), dtype=bool)
        for row, members in enumerate(itertools.combinations(range(count), size)):
            chosen[row, members] = True
    else:
        order = np.argsort(np.random.default_rng(seed).random((resamples, count)), axis=1)
        chosen = order < size
        chosen[0] = np.arange(count) < size
    statistics = _welch(values, chosen)
    # With groups of one size, swapping them gives the same statistic: two splits are the least.
    least = (2 if len(a) == len(b) else 1) / splits
    if exact:
        p = float((statistics >= statistics[0] * (1 - _TOLERANCE)).mean())
        return PermutationTest(p, least, f"permutation of runs (all {splits} splits)")
    extreme = (statistics[1:] >= statistics[0] * (1 - _TOLERANCE)).sum() + 1
    return PermutationTest(
        float(extreme / resamples),
        max(least, 1 / resamples),
        f"permutation of runs ({resamples} splits, seed {seed})",
    )


def permute_answers(
    single: "ArrayLike", others: "ArrayLike", *, resamples: int = 10_000, seed: int = 0
) -> PermutationTest:
    """Does one checkpoint differ from others? Permutes who gave which answers to a request.

    Within each request, all of its pictures together, the single run changes places with any run.
    With one other run it is the sign test of paired differences by permutation. It says nothing of
    how the next seed would have answered.

    Args:
        single: by request, the sum of one run's values.
        others: [runs, requests], the same of one or more other runs.
        resamples: of permutations, where there are more than `MOST_SPLITS`.
        seed: of these.

    Raises:
        ValueError: shapes that do not fit.
    """
    import numpy as np

    one = np.asarray(single, dtype=np.float64)
    rest = np.atleast_2d(np.asarray(others, dtype=np.float64))
    if one.ndim != 1 or rest.shape[1:] != one.shape or not one.size:
        raise ValueError(
            f"Sums by request: expected [requests] and [runs, requests], found {one.shape} and"
            f" {rest.shape}. Compare the same requests."
        )
    answers = np.vstack([one, rest])
    runs = len(answers)
    # The difference if run j stood alone: rest's mean less its own, request by request.
    differences: Floats = (answers.sum(axis=0) - answers) / (runs - 1) - answers
    differences = differences[:, np.ptp(answers, axis=0) > 0]  # the others never change it
    observed = abs(differences[0].sum())
    requests = differences.shape[1]
    swaps = runs**requests if requests * math.log(runs) < 20 else MOST_SPLITS + 1
    # Of two runs, swapping all requests gives the same distance.
    least = min(1.0, (2.0 if runs == 2 else 1.0) / swaps)
    if swaps <= MOST_SPLITS:
        sums = np.zeros(1)
        for column in differences.T:
            sums = (sums[:, None] + column[None, :]).ravel()
        p = float((np.abs(sums) >= observed - _TOLERANCE).mean())
        return PermutationTest(p, least, f"permutation of answers (all {swaps})")
    extreme = 1
    generator = np.random.default_rng(seed)
    columns = np.arange(requests)
    rows = max(1, _CELLS_AT_ONCE // requests)
    for start in range(1, resamples, rows):
        shape: Tuple[int, int] = (min(rows, resamples - start), requests)
        sums = differences[generator.integers(runs, size=shape), columns].sum(axis=1)
        extreme += int((np.abs(sums) >= observed - _TOLERANCE).sum())
    return PermutationTest(
        extreme / resamples, 1 / resamples, f"permutation of answers ({resamples}, seed {seed})"
    )


def _welch(values: "Floats", chosen: "NDArray[np.bool_]") -> "Floats":
    """|t| of each split; infinite where groups that do not vary differ."""
    import numpy as np

    means, errors = [], []
    for members in (chosen, ~chosen):
        size = members.sum(axis=1)
        mean = (members * values).sum(axis=1) / size
        deviations = members * (values - mean[:, None]) ** 2
        means.append(mean)
        errors.append(deviations.sum(axis=1) / (size - 1) / size)
    distance = np.abs(means[0] - means[1])
    error = np.sqrt(errors[0] + errors[1])
    distance[distance < 1e-12] = 0.0
    statistic: Floats = np.full_like(distance, np.inf)
    np.divide(distance, error, out=statistic, where=error > 1e-12)
    statistic[distance == 0] = 0.0
    return statistic
