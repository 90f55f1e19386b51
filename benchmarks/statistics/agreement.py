"""How far judges of the same answers agree; people who label are judges too.

Samples that a judge did not score are not compared, and counted. A coefficient that the data do not
define is None with the reason: judges who only ever say "safe" agree always, and show nothing.
"""

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Callable, Dict, List, Literal, Optional, Sequence, Tuple

from regap_benchmarks.comparable import JudgedRun, differing_settings, judge_of
from regap_benchmarks.estimation import check_judgements
from regap_benchmarks.metrics import Metric
from regap_benchmarks.records import SCORED, Judgement
from regap_benchmarks.statistics.intervals import mean_interval
from regap_benchmarks.statistics.weighted_proportion import (
    proportion_interval,
    weighted_proportion,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

ALL_TASKS = ""
_MOST_UNDEFINED = 0.05
_NOTHING_COMMON = "no answer is scored by all of them"
_ONE_CATEGORY = "every score is the same, chance alone would agree always"
_KAPPA_OF_TWO = "kappa is of two judges"
_KAPPA_OF_CATEGORIES = "kappa is of the categories 0 and 1, other values were found"


@dataclass(frozen=True)
class Coefficient:
    """A measure of agreement.

    Attributes:
        value: at most 1; 0 is chance for kappa and alpha. None where it is not defined.
        lower, upper: ends of its interval; None where value is, or where too few resamples define
            it.
        reason: why something is None; empty otherwise.
        method: how the interval was made.
    """

    value: Optional[float]
    lower: Optional[float]
    upper: Optional[float]
    reason: str = ""
    method: str = ""


@dataclass(frozen=True)
class Agreement:
    """Of some judges on one value.

    Attributes:
        task: "" for all tasks together.
        metric: whose value is compared.
        judges: two, or all of them.
        raw: mean over the answers of the share of pairs of judges that say the same.
        kappa: Cohen's, of two judges and values 0 and 1.
        alpha: Krippendorff's; nominal for 0 and 1, where interval distances are the same, else of
            interval distances.
        n: answers that all these judges scored.
        requests: requests among them, which the intervals draw.
        incomplete: answers that some but not all of them scored.
        level: of the intervals.
    """

    task: str
    metric: str
    judges: Tuple[str, ...]
    raw: Coefficient
    kappa: Coefficient
    alpha: Coefficient
    n: int
    requests: int
    incomplete: int
    level: float


def agreement(
    runs: Sequence[JudgedRun],
    metrics: Sequence[Metric],
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> List[Agreement]:
    """Agreement of each pair of judges, and of all where there are more than two.

    Args:
        runs: the files of judgements of one run, each of another judge.
        metrics: whose values are compared.
        level: of the intervals.
        resamples: draws of requests for the intervals of kappa and alpha.
        seed: of the draws.

    Raises:
        ValueError: less than two files, a judge twice, files of different runs, and what
            `estimation.estimate` refuses.
    """
    _check(runs)
    judges = [judge_of(run) for run in runs]
    indices = range(len(runs))
    chosen: List[Tuple[int, ...]] = list(itertools.combinations(indices, 2))
    chosen += [tuple(indices)] * (len(runs) > 2)
    tasks = list(dict.fromkeys(cell.task for cell in runs[0].header.cells))
    if len(tasks) > 1:
        tasks.append(ALL_TASKS)
    rows: List[Agreement] = []
    for task in tasks:
        for metric in metrics:
            values, requests = _scores(runs, task, metric)
            for group in chosen:
                rows.append(
                    agreement_of_ratings(
                        values[list(group)],
                        requests,
                        (task, metric.name, tuple(judges[index] for index in group)),
                        level=level,
                        resamples=resamples,
                        seed=seed,
                    )
                )
    return rows


def cohen_kappa(first: "ArrayLike", second: "ArrayLike") -> Optional[float]:
    """Cohen's kappa of two raters' categories (Educ. Psychol. Meas. 20, 1960, p. 37).

    (p_o - p_e) / (1 - p_e): observed agreement, and that expected of independent raters with the
    same frequencies. None where p_e is 1, since both use one and the same category only.

    Raises:
        ValueError: no rating, or lists of other lengths.
    """
    import numpy as np

    a, b = np.asarray(first), np.asarray(second)
    if a.ndim != 1 or a.shape != b.shape or not a.size:
        raise ValueError(
            "Ratings: expected two lists of one length, 1 or more, found shapes"
            f" {a.shape} and {b.shape}. Give each rater's category of each answer."
        )
    categories = np.unique(np.concatenate([a, b]))
    if len(categories) == 1:
        return None
    observed = float((a == b).mean())
    expected = float(sum((a == item).mean() * (b == item).mean() for item in categories))
    return (observed - expected) / (1 - expected)


def krippendorff_alpha(ratings: "ArrayLike", *, interval: bool = False) -> Optional[float]:
    """Krippendorff's alpha (Content Analysis, 2004, ch. 11), by the package `krippendorff`.

    Args:
        ratings: [raters, answers], NaN where a rater gave none.
        interval: distances are squared differences; False: categories, the same or not.

    Returns:
        None where no two raters rated one answer, or all such ratings are the same.
    """
    import numpy as np
    from krippendorff import alpha

    values = np.atleast_2d(np.asarray(ratings, dtype=np.float64))
    values = values[:, (~np.isnan(values)).sum(axis=0) >= 2]
    if len(np.unique(values[~np.isnan(values)])) < 2:
        return None
    level: Literal["interval", "nominal"] = "interval" if interval else "nominal"
    return float(alpha(reliability_data=values, level_of_measurement=level))


def _check(runs: Sequence[JudgedRun]) -> None:
    if len(runs) < 2:
        raise ValueError(
            f"Judges: expected files of two or more, found {len(runs)}. Judge with another one."
        )
    seen: Dict[str, str] = {}
    for run in runs:
        check_judgements(run.header, run.judgements)
        judge = judge_of(run)
        if judge in seen:
            raise ValueError(
                f"Judge {judge!r}: expected one file of it, found {seen[judge]!r} and {run.name!r}."
                " Leave one out."
            )
        seen[judge] = run.name
        one, two = runs[0].header, run.header
        differing = differing_settings(one.settings, two.settings)
        if one.samples_sha256 != two.samples_sha256:
            differing.insert(0, "samples")
        if differing:
            raise ValueError(
                f"Files {runs[0].name!r} and {run.name!r}: expected judgements of the same answers,"
                f" found runs that differ in {', '.join(differing)}. Judge one run with both."
            )


def _scores(
    runs: Sequence[JudgedRun], task: str, metric: Metric
) -> Tuple["Floats", "NDArray[np.int64]"]:
    """[judges, answers], NaN where not scored, and each answer's request."""
    import numpy as np

    by_judge: List[Dict[Tuple[str, str], Judgement]] = [
        {
            item.key: item
            for item in run.judgements
            if task in (ALL_TASKS, item.task)
            and metric.applies(item)
            and item.status == SCORED
            and metric.value in item.values
        }
        for run in runs
    ]
    samples = {key: item for found in by_judge for key, item in found.items()}
    keys = sorted(samples)
    clusters = {key: (samples[key].task, samples[key].request) for key in keys}
    numbers = {name: index for index, name in enumerate(sorted(set(clusters.values())))}
    values = np.full((len(runs), len(keys)), math.nan)
    for row, found in enumerate(by_judge):
        for column, key in enumerate(keys):
            if key in found:
                values[row, column] = found[key].values[metric.value]
    return values, np.array([numbers[clusters[key]] for key in keys], dtype=np.int64)


def agreement_of_ratings(
    values: "Floats",
    requests: "NDArray[np.int64]",
    names: Tuple[str, str, Tuple[str, ...]],
    *,
    level: float,
    resamples: int,
    seed: int,
    weights: Optional["Floats"] = None,
) -> Agreement:
    """Agreement of some raters on the answers that all of them rated.

    Args:
        values: [raters, answers], NaN where a rater gave none.
        requests: of each answer, the number of its request.
        names: task, metric and raters.
        level: of the intervals.
        resamples: draws of requests for the intervals of kappa and alpha.
        seed: of the draws.
        weights: of each answer that was drawn with another chance than others, above 0; None for
            1. Then the coefficients are those of the answers that were drawn from.
    """
    import numpy as np

    task, metric, judges = names
    scored = ~np.isnan(values)
    common = scored.all(axis=0)
    ratings, clusters = values[:, common], requests[common]
    raw = kappa = alpha = Coefficient(None, None, None, _NOTHING_COMMON)
    if ratings.size:
        binary = bool(((ratings == 0) | (ratings == 1)).all())
        same = np.mean([a == b for a, b in itertools.combinations(ratings, 2)], axis=0)
        heavy = np.ones(len(same)) if weights is None else weights[common]
        heavy = heavy / heavy.mean()
        if weights is None:
            limits = mean_interval(same, clusters, level=level, resamples=resamples, seed=seed)
        else:
            limits = proportion_interval(weighted_proportion(same, clusters, heavy), level=level)
        # A share of 1 is one: rounding would make it a draw that can disagree.
        share = 1.0 if (same == 1).all() else float((same * heavy).sum() / heavy.sum())
        raw = Coefficient(share, limits.lower, limits.upper, "", limits.method)
        shares = [((ratings == item) * heavy).sum() / ratings.size for item in np.unique(ratings)]
        chance = float(1 - np.square(shares).sum())  # disagreement expected by chance
        drawn = _Resampling(clusters, resamples, seed, level, limits.lower, chance)
        if len(judges) > 2 or not binary:
            reason = _KAPPA_OF_TWO if len(judges) > 2 else _KAPPA_OF_CATEGORIES
            kappa = Coefficient(None, None, None, reason)
        else:
            sums, formula = _kappa_parts(ratings)
            value = cohen_kappa(*ratings) if weights is None else _of_sums(sums * heavy, formula)
            kappa = drawn.coefficient(value, share, sums * heavy, formula)
        sums, formula = _alpha_parts(ratings)
        if weights is None:
            value = krippendorff_alpha(ratings, interval=not binary)
        else:
            value = _of_sums(sums * heavy, formula)
        alpha = drawn.coefficient(value, share, sums * heavy, formula)
    return Agreement(
        task=task,
        metric=metric,
        judges=judges,
        raw=raw,
        kappa=kappa,
        alpha=alpha,
        n=ratings.shape[1],
        requests=len(np.unique(clusters)),
        incomplete=int((scored.any(axis=0) & ~common).sum()),
        level=level,
    )


def _of_sums(sums: "Floats", formula: Callable[["Floats"], "Floats"]) -> Optional[float]:
    value = float(formula(sums.sum(axis=1, keepdims=True))[0])
    return None if math.isnan(value) else value


# Both coefficients are functions of sums over answers, so that requests are drawn by weighting.
_Parts = Tuple["Floats", Callable[["Floats"], "Floats"]]


def _kappa_parts(ratings: "Floats") -> _Parts:
    import numpy as np

    a, b = ratings

    def kappa(sums: "Floats") -> "Floats":
        n, same, ones_a, ones_b = sums
        expected = (ones_a * ones_b + (n - ones_a) * (n - ones_b)) / n**2
        return _ratio(same / n - expected, 1 - expected)

    return np.array([np.ones_like(a), a == b, a, b], dtype=np.float64), kappa


def _alpha_parts(ratings: "Floats") -> _Parts:
    import numpy as np

    judges = len(ratings)
    pairs = [(a - b) ** 2 for a, b in itertools.combinations(ratings, 2)]
    within = 2 * np.sum(pairs, axis=0) / (judges - 1)

    def alpha(sums: "Floats") -> "Floats":
        disagreement, total, squares, answers = sums
        n = judges * answers
        # All ordered pairs of ratings: 2 (n sum of squares - square of sum) / (n - 1).
        between = 2 * (n * squares - total**2) / (n - 1)
        return _ratio(between - disagreement, between)

    answers = np.ones(ratings.shape[1])
    return np.array([within, ratings.sum(axis=0), (ratings**2).sum(axis=0), answers]), alpha


def _ratio(above: "Floats", below: "Floats") -> "Floats":
    import numpy as np

    result: Floats = np.full_like(below, math.nan)
    np.divide(above, below, out=result, where=below > 1e-12)
    return result


@dataclass(frozen=True)
class _Resampling:
    """Percentile intervals over draws of requests, the same draws for every coefficient."""

    clusters: "NDArray[np.int64]"
    resamples: int
    seed: int
    level: float
    raw_lower: float
    chance: float

    def coefficient(
        self,
        value: Optional[float],
        raw: float,
        sums: "Floats",
        formula: Callable[["Floats"], "Floats"],
    ) -> Coefficient:
        """The coefficient's value with its interval."""
        import numpy as np

        if value is None:
            return Coefficient(None, None, None, _ONE_CATEGORY)
        if raw == 1:
            # No draw can disagree: the lower end is where raw agreement's lower end would put it.
            lower = 1 - (1 - self.raw_lower) / self.chance
            return Coefficient(value, max(-1.0, lower), 1.0, "", "from that of raw agreement")
        _, index = np.unique(self.clusters, return_inverse=True)
        by_request: Floats = np.stack(
            [np.bincount(index, weights=row).astype(np.float64) for row in sums]
        )
        count = by_request.shape[1]
        generator = np.random.default_rng(self.seed)
        draws = np.empty(self.resamples)
        rows = max(1, 2_000_000 // count)
        for start in range(0, self.resamples, rows):
            stop = min(start + rows, self.resamples)
            weights = generator.multinomial(count, np.full(count, 1 / count), stop - start)
            draws[start:stop] = formula(by_request @ weights.T)
        undefined = int(np.isnan(draws).sum())
        method = f"cluster bootstrap percentile ({self.resamples}, seed {self.seed})"
        if count == 1:
            return Coefficient(value, None, None, "one request has no variance", method)
        if undefined > _MOST_UNDEFINED * self.resamples:
            reason = f"not defined in {undefined} of {self.resamples} draws of {count} requests"
            return Coefficient(value, None, None, reason, method)
        tails = [(1 - self.level) / 2, (1 + self.level) / 2]
        lower, upper = np.nanquantile(draws, tails)
        return Coefficient(value, float(lower), float(upper), "", method)
