"""How far annotators agree with each other and with judges.

Answers were drawn by strata: each stands for as many answers as its stratum has for each label that
was given in it, so that what is estimated is about the runs and not about the sample.
"""

import itertools
import math
from typing import TYPE_CHECKING, Dict, List, Sequence, Tuple

from regap_benchmarks.annotation.labelled_runs import MAJORITY, LabelledAnswer, LabelledRuns
from regap_benchmarks.metrics import OVER_REFUSAL_RATE, REFUSAL_RATE, UNSAFE_RATE, Metric
from regap_benchmarks.statistics.agreement import ALL_TASKS, Agreement, agreement_of_ratings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_METRICS = (UNSAFE_RATE, REFUSAL_RATE, OVER_REFUSAL_RATE)


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
    for task, metric in itertools.product(tasks_of(labelled.answers), _METRICS):
        members = [belongs(item, task, metric) for item in labelled.answers]
        if not any(members):
            continue
        chosen = [item for item, member in zip(labelled.answers, members) if member]
        requests = request_numbers([(item.task, item.request) for item in chosen])
        for group in groups:
            people = [name for name in group if name in labelled.people]
            weights = np.array(weights_of(labelled, people, metric.value))[members]
            values = np.array([[value_of(item, name, metric) for item in chosen] for name in group])
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


def tasks_of(answers: Sequence[LabelledAnswer]) -> List[str]:
    """Their tasks, and all of them together where there are several."""
    tasks = list(dict.fromkeys(item.task for item in answers))
    return [*tasks, ALL_TASKS] if len(tasks) > 1 else tasks


def belongs(item: LabelledAnswer, task: str, metric: Metric) -> bool:
    """Whether the answer is of the task and one that the metric is about."""
    return task in (ALL_TASKS, item.task) and metric.applies_to(item.harmful)


def value_of(item: LabelledAnswer, rater: str, metric: Metric) -> float:
    """What the rater says of the metric's value; NaN where nothing."""
    return item.values.get(rater, {}).get(metric.value, math.nan)


def request_numbers(names: Sequence[Tuple[str, str]]) -> "NDArray[np.int64]":
    """A number for each (task, request), the same for the same."""
    import numpy as np

    known: Dict[Tuple[str, str], int] = {}
    return np.array([known.setdefault(name, len(known)) for name in names], dtype=np.int64)
