"""How far annotators agree with each other and with judges, and the rates that labels correct.

Answers were drawn by strata: each stands for as many answers as its stratum has for each label that
was given in it, so that what is estimated is about the runs and not about the sample.
"""

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Dict, List, Optional, Sequence, Tuple

from regap_benchmarks.annotation.labelled_runs import MAJORITY, LabelledAnswer, LabelledRuns
from regap_benchmarks.metrics import OVER_REFUSAL_RATE, REFUSAL_RATE, UNSAFE_RATE, Metric
from regap_benchmarks.records import SCORED
from regap_benchmarks.statistics.agreement import ALL_TASKS, Agreement, agreement_of_ratings
from regap_benchmarks.statistics.intervals import Interval
from regap_benchmarks.statistics.rogan_gladen import (
    CorrectedRate,
    LabelledVerdicts,
    corrected_rate,
    sensitivity_and_specificity,
)
from regap_benchmarks.statistics.weighted_proportion import (
    Proportion,
    proportion_interval,
    weighted_proportion,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_METRICS = (UNSAFE_RATE, REFUSAL_RATE, OVER_REFUSAL_RATE)


@dataclass(frozen=True)
class CorrectedRow:
    """The unsafe rate of one run by one judge, corrected.

    Attributes:
        run: its name.
        judge: whose rate.
        task: "" for all of them.
        apparent: the judge's rate over all answers that it scored.
        sensitivity, specificity: of the judge against people, weighted; None where not defined.
        labels: of people, of answers that the judge scored.
        pooled: whether the two are from all runs together.
        people: the rate by the labels alone, weighted, and its interval; None without labels.
        people_interval: of that.
        corrected: the judge's rate as people correct it.
        level: of the intervals.
    """

    run: str
    judge: str
    task: str
    apparent: Proportion
    sensitivity: Optional[Proportion]
    specificity: Optional[Proportion]
    labels: int
    pooled: bool
    people: Optional[Proportion]
    people_interval: Optional[Interval]
    corrected: CorrectedRate
    level: float


def weights_of(labelled: LabelledRuns, raters: Sequence[str], value: str) -> List[float]:
    """How many answers each stands for, where all these people gave the value; NaN elsewhere.

    The answers of its stratum, by those of its stratum to which all of them gave it.
    """
    whole = [
        all(value in item.values.get(rater, {}) for rater in raters) for item in labelled.answers
    ]
    counts: Dict[int, int] = {}
    for item, here in zip(labelled.answers, whole):
        counts[item.stratum] = counts.get(item.stratum, 0) + here
    return [
        labelled.key.strata[item.stratum][1] / counts[item.stratum] if here else math.nan
        for item, here in zip(labelled.answers, whole)
    ]


def answers_without_labels(labelled: LabelledRuns) -> int:
    """Answers to harmful requests in strata in which people gave no label that counts."""
    metric = UNSAFE_RATE
    given = {
        item.stratum
        for item in labelled.answers
        if not math.isnan(_value(item, labelled.truth, metric))
    }
    return sum(
        answers
        for number, (stratum, answers) in enumerate(labelled.key.strata)
        if metric.applies_to(stratum.harmful) and number not in given
    )


def agreement_with_people(
    labelled: LabelledRuns, *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> List[Agreement]:
    """Agreement of each pair of annotators, of all of them, and of people with each judge.

    Over all runs together, for each task and for all; with several annotators their majority is
    held against the judges, too.

    Args:
        labelled: labels and verdicts.
        level: of the intervals.
        resamples: draws of requests.
        seed: of the draws.
    """
    import numpy as np

    annotators = [name for name in labelled.people if name != MAJORITY]
    groups: List[Tuple[str, ...]] = list(itertools.combinations(annotators, 2))
    groups += [tuple(annotators)] * (len(annotators) > 2)
    groups += [(person, judge) for judge in labelled.judges for person in labelled.people]
    rows: List[Agreement] = []
    for task, metric in itertools.product(_tasks(labelled.answers), _METRICS):
        members = [_belongs(item, task, metric) for item in labelled.answers]
        if not any(members):
            continue
        chosen = [item for item, member in zip(labelled.answers, members) if member]
        requests = _numbers([(item.task, item.request) for item in chosen])
        for group in groups:
            people = [name for name in group if name in labelled.people]
            weights = np.array(weights_of(labelled, people, metric.value))[members]
            values = np.array([[_value(item, name, metric) for item in chosen] for name in group])
            if all(np.isnan(row).all() for row in values):
                continue
            rows.append(
                agreement_of_ratings(
                    values,
                    requests,
                    (task, metric.name, group),
                    level=level,
                    resamples=resamples,
                    seed=seed,
                    weights=weights,
                )
            )
    return rows


def corrected_unsafe_rates(
    labelled: LabelledRuns,
    *,
    pooled: bool = False,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> List[CorrectedRow]:
    """The unsafe rate of each run and judge, as labels correct it, for each task and for all.

    Args:
        labelled: labels and verdicts.
        pooled: whether a judge's errors are estimated over all runs together, supposing that it
            errs alike on all of them.
        level: of the intervals.
        resamples: draws of requests.
        seed: of the draws.
    """
    rows = []
    for run, judged in enumerate(labelled.judged):
        for judge in judged:
            for task in _tasks([item for item in labelled.answers if item.run == run]):
                row = _corrected(labelled, run, judge, task, pooled, (level, resamples, seed))
                if row is not None:
                    rows.append(row)
    return rows


def _corrected(
    labelled: LabelledRuns,
    run: int,
    judge: str,
    task: str,
    pooled: bool,
    settings: Tuple[float, int, int],
) -> Optional[CorrectedRow]:
    import numpy as np

    level, resamples, seed = settings
    value = UNSAFE_RATE.value
    verdicts = [
        item
        for item in labelled.judged[run][judge][1]
        if task in (ALL_TASKS, item.task)
        and UNSAFE_RATE.applies(item)
        and item.status == SCORED
        and value in item.values
    ]
    if not verdicts:
        return None
    weights = weights_of(labelled, [labelled.truth], value)
    mine = [
        (item, weight)
        for item, weight in zip(labelled.answers, weights)
        if _belongs(item, task, UNSAFE_RATE) and not math.isnan(weight)
    ]
    here = [pair for pair in mine if pair[0].run == run]
    used = [
        (item, weight)
        for item, weight in (mine if pooled else here)
        if value in item.values.get(judge, {})
    ]
    names = [(item.task, item.request) for item in verdicts]
    numbers = _numbers([*names, *((item.task, item.request) for item, _ in used)])
    labels = LabelledVerdicts(
        np.array([float(item.values[judge][value] >= 0.5) for item, _ in used]),
        np.array([item.values[labelled.truth][value] for item, _ in used]),
        numbers[len(names) :],
        np.array([weight for _, weight in used]),
    )
    found = np.array([float(item.values[value] >= 0.5) for item in verdicts])
    own = numbers[: len(names)]
    people = None
    if here:
        people = weighted_proportion(
            [item.values[labelled.truth][value] for item, _ in here],
            _numbers([(item.task, item.request) for item, _ in here]),
            [weight for _, weight in here],
        )
    sensitivity, specificity = sensitivity_and_specificity(labels)
    return CorrectedRow(
        run=labelled.names[run],
        judge=judge,
        task=task,
        apparent=weighted_proportion(found, own),
        sensitivity=sensitivity,
        specificity=specificity,
        labels=len(used),
        pooled=pooled,
        people=people,
        people_interval=None if people is None else proportion_interval(people, level=level),
        corrected=corrected_rate(found, own, labels, level=level, resamples=resamples, seed=seed),
        level=level,
    )


def _tasks(answers: Sequence[LabelledAnswer]) -> List[str]:
    tasks = list(dict.fromkeys(item.task for item in answers))
    return [*tasks, ALL_TASKS] if len(tasks) > 1 else tasks


def _belongs(item: LabelledAnswer, task: str, metric: Metric) -> bool:
    return task in (ALL_TASKS, item.task) and metric.applies_to(item.harmful)


def _value(item: LabelledAnswer, rater: str, metric: Metric) -> float:
    return item.values.get(rater, {}).get(metric.value, math.nan)


def _numbers(names: Sequence[Tuple[str, str]]) -> "NDArray[np.int64]":
    import numpy as np

    known: Dict[Tuple[str, str], int] = {}
    return np.array([known.setdefault(name, len(known)) for name in names], dtype=np.int64)
