"""The rate that is behind a judge's rate, when the judge's errors are known from labels.

A judge who finds a share of the unsafe answers (sensitivity) and passes a share of the others
(specificity) reports another rate than there is. Rogan and Gladen (Am. J. Epidemiol. 107, 1978,
p. 71) turn that around; the interval holds the uncertainty of all three numbers.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, List, Optional, Tuple

from regap_benchmarks.statistics.intervals import Interval
from regap_benchmarks.statistics.weighted_proportion import Proportion, weighted_proportion

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_MOST_UNDEFINED = 0.05
_NO_UNSAFE = "not defined: people found no unsafe answer, sensitivity is unknown"
_NO_OTHER = "not defined: people found unsafe answers only, specificity is unknown"
_DO_NOT_FIT = "no interval: no draw leaves the end of the scale, the labels do not fit this rate"
_NO_INTERVAL = "no interval: too few labels to tell the judge from chance"
_NO_BETTER_THAN_CHANCE = (
    "not defined: sensitivity and specificity sum to {sum:.2f}, at most 1, and such a judge tells"
    " nothing of the rate"
)


@dataclass(frozen=True)
class CorrectedRate:
    """A rate as labels correct it.

    Attributes:
        value: from 0 to 1; None where it is not defined.
        lower, upper: ends of its interval; None where it is not defined.
        unclipped: before it was put into [0, 1]; None where it is not defined.
        reason: why something is None; empty otherwise.
        method: of the interval.
    """

    value: Optional[float]
    lower: Optional[float]
    upper: Optional[float]
    unclipped: Optional[float]
    reason: str = ""
    method: str = ""

    @property
    def clipped(self) -> bool:
        """Whether the formula left [0, 1]."""
        return self.unclipped is not None and self.unclipped != self.value


def rogan_gladen(apparent: float, sensitivity: float, specificity: float) -> Optional[float]:
    """(apparent + specificity - 1) / (sensitivity + specificity - 1), as it comes.

    Args:
        apparent: the judge's rate, from 0 to 1.
        sensitivity: share of the unsafe answers that the judge calls unsafe.
        specificity: share of the others that it does not.

    Returns:
        below 0 or above 1 where the three numbers do not fit together; None where sensitivity and
        specificity sum to 1 or less: then the judge is no better than chance.

    Raises:
        ValueError: a number that is not from 0 to 1.
    """
    for name, value in (
        ("Judge's rate", apparent),
        ("Sensitivity", sensitivity),
        ("Specificity", specificity),
    ):
        if not 0 <= value <= 1:
            raise ValueError(f"{name}: expected a share from 0 to 1, found {value}. Give a share.")
    youden = sensitivity + specificity - 1
    # Shares of integers sum to 1 but for rounding.
    return None if youden <= 1e-12 else (apparent + specificity - 1) / youden


@dataclass(frozen=True)
class LabelledVerdicts:
    """What a judge and people say of the same answers.

    Attributes:
        judge: the judge's values 0 and 1, [n].
        people: theirs, [n].
        requests: the number of each answer's request, [n], of the same numbering as the rate's.
        weights: how many answers each stands for, [n].
    """

    judge: "Floats"
    people: "Floats"
    requests: "NDArray[np.int64]"
    weights: "Floats"


def sensitivity_and_specificity(
    labels: LabelledVerdicts,
) -> Tuple[Optional[Proportion], Optional[Proportion]]:
    """Of the judge, weighted; None where people found no answer of that kind."""
    import numpy as np

    found: List[Optional[Proportion]] = []
    for kind in (1.0, 0.0):
        chosen = labels.people == kind
        right = (labels.judge == kind)[chosen].astype(np.float64)
        groups, weights = labels.requests[chosen], labels.weights[chosen]
        found.append(weighted_proportion(right, groups, weights) if chosen.any() else None)
    return found[0], found[1]


def corrected_rate(
    verdicts: "Floats",
    requests: "NDArray[np.int64]",
    labels: LabelledVerdicts,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> CorrectedRate:
    """Rogan and Gladen's rate of a run, with its interval.

    The interval is the percentile bootstrap of whole requests: rate, sensitivity and specificity
    are taken anew of each draw, so that it holds what they have in common. Where the judge agrees
    with people in every unsafe answer or in every other one, draws know no error of that kind, and
    where more than a twentieth of them define no rate, they say little: then it is
    `lang_reiczigel_interval`, which is wide. docs/annotation.md has the measured coverage of both.

    Args:
        verdicts: of the judge over the run, 0 and 1, [answers].
        requests: the number of each answer's request, [answers].
        labels: from which sensitivity and specificity are estimated.
        level: of the interval.
        resamples: draws of requests.
        seed: of the draws.

    Raises:
        ValueError: no verdicts; see `weighted_proportion`.
    """
    import numpy as np

    apparent = weighted_proportion(verdicts, requests)
    sensitivity, specificity = sensitivity_and_specificity(labels)
    if sensitivity is None or specificity is None:
        missing = _NO_UNSAFE if sensitivity is None else _NO_OTHER
        return CorrectedRate(None, None, None, None, missing)
    unclipped = rogan_gladen(apparent.value, sensitivity.value, specificity.value)
    if unclipped is None:
        both = sensitivity.value + specificity.value
        return CorrectedRate(None, None, None, None, _NO_BETTER_THAN_CHANCE.format(sum=both))
    value = float(np.clip(unclipped, 0, 1))
    if 0 < sensitivity.value < 1 and 0 < specificity.value < 1:
        draws = _draws(verdicts, requests, labels, resamples, seed)
        defined = draws[~np.isnan(draws)]
        if len(defined) >= (1 - _MOST_UNDEFINED) * resamples:
            lower, upper = np.quantile(np.clip(defined, 0, 1), [(1 - level) / 2, (1 + level) / 2])
            method = f"cluster bootstrap percentile ({resamples}, seed {seed})"
            if upper - lower < 1e-12:
                return CorrectedRate(value, None, None, unclipped, _DO_NOT_FIT, method)
            return CorrectedRate(value, float(lower), float(upper), unclipped, "", method)
    interval = lang_reiczigel_interval(apparent, sensitivity, specificity, level=level)
    if interval is None:
        return CorrectedRate(value, None, None, unclipped, _NO_INTERVAL)
    # The estimate may lie beside the interval, whose middle is another one.
    lower, upper = min(interval.lower, value), max(interval.upper, value)
    return CorrectedRate(value, lower, upper, unclipped, "", interval.method)


def lang_reiczigel_interval(
    apparent: Proportion, sensitivity: Proportion, specificity: Proportion, *, level: float = 0.95
) -> Optional[Interval]:
    """The interval of Lang and Reiczigel (Prev. Vet. Med. 113, 2014, p. 13), within [0, 1].

    It adds z^2 / 2 successes in z^2 answers to the rate and one label of each kind to the other
    two, takes the estimate's variance there, and shifts its middle. It is for independent binomial
    counts; here stand effective numbers. Labels of the run's own answers vary with its rate, which
    it does not know: of these it is too wide.

    Returns:
        None where the added labels leave no judge better than chance.
    """
    from scipy.stats import norm

    z = float(norm.ppf((1 + level) / 2))
    n, positives, negatives = apparent.effective, sensitivity.effective, specificity.effective
    rate, rate_n = (n * apparent.value + z**2 / 2) / (n + z**2), n + z**2
    found, found_n = (positives * sensitivity.value + 1) / (positives + 2), positives + 2
    passed, passed_n = (negatives * specificity.value + 1) / (negatives + 2), negatives + 2
    youden = found + passed - 1
    if youden <= 0:
        return None
    middle = (rate + passed - 1) / youden
    of_found, of_passed = found * (1 - found) / found_n, passed * (1 - passed) / passed_n
    shift = 2 * z**2 * (middle * of_found - (1 - middle) * of_passed)
    variance = rate * (1 - rate) / rate_n + middle**2 * of_found + (1 - middle) ** 2 * of_passed
    half = z * math.sqrt(variance) / youden
    lower, upper = (min(1.0, max(0.0, middle + shift + sign * half)) for sign in (-1, 1))
    return Interval(lower, upper, "Lang-Reiczigel at effective numbers")


def _draws(
    verdicts: "Floats",
    requests: "NDArray[np.int64]",
    labels: LabelledVerdicts,
    resamples: int,
    seed: int,
) -> "Floats":
    """The rate of each draw of requests, unclipped; NaN where one defines none."""
    import numpy as np

    names = np.unique(np.concatenate([requests, labels.requests]))
    count = len(names)
    by_run, by_labels = np.searchsorted(names, requests), np.searchsorted(names, labels.requests)

    def sums(index: "NDArray[np.intp]", weights: "Floats") -> "Floats":
        found: Floats = np.bincount(index, weights=weights, minlength=count).astype(np.float64)
        return found

    unsafe, weights = labels.people == 1, labels.weights
    called = labels.judge == 1
    rows = np.stack(
        [
            sums(by_run, np.ones(len(verdicts))),
            sums(by_run, verdicts),
            sums(by_labels, weights * unsafe),
            sums(by_labels, weights * (unsafe & called)),
            sums(by_labels, weights * ~unsafe),
            sums(by_labels, weights * ~(unsafe | called)),
        ]
    )
    generator = np.random.default_rng(seed)
    draws: Floats = np.empty(resamples)
    size = max(1, 2_000_000 // count)
    for start in range(0, resamples, size):
        stop = min(start + size, resamples)
        times = generator.multinomial(count, np.full(count, 1 / count), stop - start)
        n, positive, bad, found, good, passed = rows @ times.T
        with np.errstate(divide="ignore", invalid="ignore"):
            youden = found / bad + passed / good - 1
            rate = (positive / n + passed / good - 1) / youden
        draws[start:stop] = np.where(youden > 1e-12, rate, math.nan)
    return draws
