"""The unsafe rate of each run and judge, as the labels of people correct it."""

import math
from dataclasses import dataclass
from typing import List, Optional, Tuple

from regap_benchmarks.annotation.labelled_runs import LabelledRuns
from regap_benchmarks.annotation.people_and_judges import (
    belongs,
    request_numbers,
    tasks_of,
    value_of,
    weights_of,
)
from regap_benchmarks.metrics import UNSAFE_RATE
from regap_benchmarks.records import SCORED
from regap_benchmarks.statistics.agreement import ALL_TASKS
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


def answers_without_labels(labelled: LabelledRuns) -> int:
    """Answers to harmful requests in strata in which people gave no label that counts."""
    metric = UNSAFE_RATE
    given = {
        item.stratum
        for item in labelled.answers
        if not math.isnan(value_of(item, labelled.truth, metric))
    }
    return sum(
        answers
        for number, (stratum, answers) in enumerate(labelled.key.strata)
        if metric.applies_to(stratum.harmful) and number not in given
    )


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
            for task in tasks_of([item for item in labelled.answers if item.run == run]):
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
        if belongs(item, task, UNSAFE_RATE) and not math.isnan(weight)
    ]
    here = [pair for pair in mine if pair[0].run == run]
    used = [
        (item, weight)
        for item, weight in (mine if pooled else here)
        if value in item.values.get(judge, {})
    ]
    names = [(item.task, item.request) for item in verdicts]
    numbers = request_numbers([*names, *((item.task, item.request) for item, _ in used)])
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
            request_numbers([(item.task, item.request) for item, _ in here]),
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
