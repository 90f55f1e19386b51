"""How far a result hangs on its judge: rates, agreement and conclusions by judge and threshold.

From stored judgements alone. A judge stands for several ways of judging: with the threshold that it
was run with, and with every other threshold that is asked about; a judge without probabilities
stands for one. One of them, or people's labels, is what the others are held against.
"""

import dataclasses
from dataclasses import dataclass
from typing import Dict, List, Mapping, Optional, Sequence, Tuple, Union

from regap_benchmarks.comparable import ALLOWED, JudgedRun
from regap_benchmarks.comparison import Comparison, compare
from regap_benchmarks.estimation import ALL, estimate
from regap_benchmarks.metrics import Metric
from regap_benchmarks.records import SCORED, Cell, Estimate, Judgement
from regap_benchmarks.sensitivity import at_threshold, own_threshold
from regap_benchmarks.statistics.agreement import Agreement, agreement

LOWER, HIGHER, NOT_SHOWN, UNDEFINED = "lower", "higher", "not shown", "undefined"
_Part = Tuple[str, str]


@dataclass(frozen=True)
class Way:
    """One way of judging.

    Attributes:
        judge: its name.
        threshold: a probability above it is a 1; None: by the judge's own words.
        own: whether the judge was run so.
        metrics: that it has rates of.
    """

    judge: str
    threshold: Optional[float]
    own: bool
    metrics: Tuple[Metric, ...]

    @property
    def label(self) -> str:
        """Judge and threshold in one text."""
        return self.judge if self.threshold is None else f"{self.judge} at {self.threshold:g}"

    def applied(self, run: JudgedRun) -> JudgedRun:
        """The judge's judgements of a run, as it would have made them in this way."""
        threshold = self.threshold
        if threshold is None:
            return run
        changed = [at_threshold(judgement, threshold) for judgement in run.judgements]
        return dataclasses.replace(run, judgements=changed)


@dataclass(frozen=True)
class Errors:
    """A way of judging against labels of 0 and 1.

    Attributes:
        missed: answers labelled 1 that it calls 0.
        of_ones: answers labelled 1.
        alarms: answers labelled 0 that it calls 1.
        of_zeros: answers labelled 0.
    """

    missed: int
    of_ones: int
    alarms: int
    of_zeros: int


@dataclass(frozen=True)
class Dependence:
    """One metric of one part of the data, judged in one way.

    Attributes:
        task, condition: the part; condition "" is all of them.
        metric: of the judge.
        way: of judging.
        estimate: the rate, of a single run; None for groups of runs.
        comparison: of two groups of runs; None for a single run.
        conclusion: of the comparison, by itself: the second group is "lower" or "higher" than the
            first, or that is "not shown"; "undefined" where nothing could be compared; "" for a
            single run.
        against: agreement with what it is held against; None of that itself, and where it has no
            such value.
        errors: as `against`, where that holds 0 and 1 alone.
    """

    task: str
    condition: str
    metric: Metric
    way: Way
    estimate: Optional[Estimate]
    comparison: Optional[Comparison]
    conclusion: str
    against: Optional[Agreement]
    errors: Optional[Errors]


@dataclass(frozen=True)
class Flips:
    """How often a conclusion changes with judge and threshold.

    Attributes:
        task, condition, metric: of what; the groups are `groups`.
        groups: the two that are compared.
        conclusion: of the way that the others are held against.
        of: the others.
        same, lost, gained, reversed, undefined: how many of them conclude the same, show the
            difference no longer, show one that was not shown, show the opposite, or cannot say.
        signs: how many have a difference of the other sign, shown or not.
    """

    task: str
    condition: str
    metric: str
    groups: Tuple[str, str]
    conclusion: str
    of: int
    same: int
    lost: int
    gained: int
    reversed: int
    undefined: int
    signs: int


Groups = Mapping[str, Sequence[JudgedRun]]


def ways_of(
    judge: str,
    runs: Sequence[JudgedRun],
    metrics: Sequence[Metric],
    thresholds: Sequence[float],
) -> List[Way]:
    """The ways of judging of one judge: its own first.

    Raises:
        ValueError: a threshold that is no probability.
    """
    for threshold in thresholds:
        if not 0 <= threshold <= 1:
            raise ValueError(f"--threshold: expected probabilities from 0 to 1, found {threshold}.")
    scored = {name for run in runs for item in run.judgements for name in item.scores}
    by_score = tuple(metric for metric in metrics if metric.value in scored)
    own = own_threshold(runs[0].header) if by_score else None
    if own is None:
        first = [Way(judge, None, True, tuple(metrics))]
        others = sorted(set(thresholds)) if by_score else []
        return first + [Way(judge, each, False, by_score) for each in others]
    by_word = tuple(metric for metric in metrics if metric.value not in scored)
    every = [own, *sorted(set(thresholds) - {own})]
    ways = [Way(judge, each, each == own, by_score) for each in every]
    return ways + [Way(judge, None, True, by_word)] * bool(by_word)


def dependence(
    judged: Mapping[str, Tuple[Groups, Sequence[Metric]]],
    thresholds: Sequence[float],
    *,
    reference: Optional[str] = None,
    allowed: Sequence[str] = ALLOWED,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> List[Dependence]:
    """Rates or comparisons of every judge at every threshold, and agreement with the reference.

    Args:
        judged: by judge, its judgements of the groups' runs, and its metrics. One group of one run
            is estimated; two groups or more are compared, each with the first.
        thresholds: from 0 to 1.
        reference: the judge whose own way the others are held against; the first by itself.
        allowed: see `comparable.check_comparable`.
        level: of the intervals.
        resamples: of each bootstrap and permutation.
        seed: of the draws.

    Raises:
        ValueError: an unknown reference; thresholds where no judge has a probability; and what
            `estimate`, `agreement` and `compare` refuse.
    """
    ways = {
        judge: ways_of(judge, [run for runs in groups.values() for run in runs], own, thresholds)
        for judge, (groups, own) in judged.items()
    }
    if thresholds and not any(way.threshold is not None for each in ways.values() for way in each):
        raise ValueError(
            f"Judges {', '.join(judged)}: expected judgements with probabilities, found none. Only"
            " judges with a threshold have them, such as beaver_dam. Pass --threshold own for the"
            " judges as they are."
        )
    base = next(iter(judged)) if reference is None else reference
    if base not in judged:
        raise ValueError(
            f"--against {base}: expected one of the judges {', '.join(judged)}. Name it in --judge"
            " too, or leave it out."
        )
    settings = {"level": level, "resamples": resamples, "seed": seed}
    single = sum(len(runs) for runs in judged[base][0].values()) == 1
    compared = pooled([run for runs in judged[base][0].values() for run in runs])
    rows: List[Dependence] = []
    for judge, (groups, _) in judged.items():
        for way in ways[judge]:
            applied = {name: [way.applied(run) for run in runs] for name, runs in groups.items()}
            every = pooled([run for runs in applied.values() for run in runs])
            is_reference = judge == base and way.own
            for row in _of_way(way, applied, single, allowed, settings):
                found = None
                if not is_reference:
                    found = _against(way, every, compared, (row.task, row.condition), row.metric)
                rows.append(_held_against(row, found, settings))
    order = list(dict.fromkeys((row.task, row.condition, row.metric.name) for row in rows))
    place = {key: number for number, key in enumerate(order)}
    return sorted(rows, key=lambda row: place[(row.task, row.condition, row.metric.name)])


def flips(rows: Sequence[Dependence], reference: str) -> List[Flips]:
    """Count, for every comparison, how the conclusions of the others differ from the reference's.

    Args:
        rows: of `dependence`, of groups.
        reference: the judge whose own way it is.
    """
    by_question: Dict[Tuple[str, str, str, str, str], List[Dependence]] = {}
    for row in rows:
        if row.comparison is not None:
            groups = row.comparison.first.name, row.comparison.second.name
            key = (row.task, row.condition, row.metric.name, *groups)
            by_question.setdefault(key, []).append(row)
    found = []
    for (task, condition, metric, first, second), asked in by_question.items():
        own = next((row for row in asked if row.way.judge == reference and row.way.own), None)
        if own is None:
            continue  # the reference has no such metric
        others = [row for row in asked if row is not own]
        changes = [_change(own.conclusion, row.conclusion) for row in others]
        found.append(
            Flips(
                task,
                condition,
                metric,
                (first, second),
                own.conclusion,
                len(others),
                **{name: changes.count(name) for name in _CHANGES},
                signs=sum(_sign(row) * _sign(own) < 0 for row in others),
            )
        )
    return found


def pooled(runs: Sequence[JudgedRun]) -> JudgedRun:
    """Runs of the same questions as one: each answer by itself, the requests the same."""
    if len(runs) == 1:
        return runs[0]
    header = runs[0].header
    cells = tuple(
        dataclasses.replace(cell, samples=cell.samples * len(runs)) for cell in header.cells
    )
    judgements = [
        dataclasses.replace(item, id=f"{run.name}\n{item.id}")
        for run in runs
        for item in run.judgements
    ]
    return JudgedRun(runs[0].name, dataclasses.replace(header, cells=cells), judgements)


def all_pairs(
    judged: Mapping[str, Groups], metrics: Sequence[Metric], **settings: float
) -> List[Agreement]:
    """Agreement of the judges as they are, each pair and all, over the answers of all runs.

    On each metric those judges are compared that have a value for it.
    """
    runs = [
        _named(pooled([run for runs in groups.values() for run in runs]), judge)
        for judge, groups in judged.items()
    ]
    rows: List[Agreement] = []
    for metric in metrics:
        having = [run for run in runs if _has(run, metric)]
        if len(having) > 1:
            rows += agreement(having, [metric], **settings)  # type: ignore[arg-type]
    return rows


_CHANGES = ("same", "lost", "gained", "reversed", "undefined")


def _change(own: str, other: str) -> str:
    if own == other:
        return "same"
    if UNDEFINED in (own, other):
        return "undefined"
    if other == NOT_SHOWN:
        return "lost"
    return "gained" if own == NOT_SHOWN else "reversed"


def _sign(row: Dependence) -> float:
    assert row.comparison is not None
    return row.comparison.difference or 0.0


def _of_way(
    way: Way,
    groups: Groups,
    single: bool,
    allowed: Sequence[str],
    settings: Mapping[str, float],
) -> List[Dependence]:
    by_name = {metric.name: metric for metric in way.metrics}
    if single:
        (run,) = next(iter(groups.values()))
        own: List[Estimate] = estimate(run.header, run.judgements, way.metrics, **settings)  # type: ignore[arg-type]
        return [
            Dependence(
                *(row.task, row.condition, by_name[row.metric], way, row, None, "", None, None)
            )
            for row in own
            if not row.category
        ]
    compared = compare(
        groups,
        way.metrics,
        allowed=allowed,
        against_first=True,
        **settings,  # type: ignore[arg-type]
    )
    return [
        Dependence(
            row.task,
            row.condition,
            by_name[row.metric],
            way,
            None,
            row,
            conclusion(row),
            None,
            None,
        )
        for row in compared
    ]


def conclusion(row: Comparison) -> str:
    """What a comparison by itself says of its second group, at the level of its interval."""
    if row.p is None or row.difference is None:
        return UNDEFINED
    if row.p > 1 - row.level:
        return NOT_SHOWN
    return LOWER if row.difference < 0 else HIGHER


def _against(
    way: Way, run: JudgedRun, reference: JudgedRun, part: _Part, metric: Metric
) -> Optional[Tuple[JudgedRun, JudgedRun]]:
    """Both, of one part, if the reference has the metric's value there."""
    one, two = _part(run, part, way.label), _part(reference, part, "reference")
    return (one, two) if _has(two, metric) else None


def _has(run: JudgedRun, metric: Metric) -> bool:
    return any(metric.value in item.values for item in run.judgements if item.status == SCORED)


def _held_against(
    row: Dependence,
    pair: Optional[Tuple[JudgedRun, JudgedRun]],
    settings: Mapping[str, float],
) -> Dependence:
    if pair is None:
        return row
    found = agreement(pair, [row.metric], **settings)  # type: ignore[arg-type]
    return dataclasses.replace(
        row, against=found[0] if found else None, errors=_errors(pair, row.metric)
    )


def _errors(pair: Tuple[JudgedRun, JudgedRun], metric: Metric) -> Optional[Errors]:
    said, labels = (
        {
            item.key: item.values[metric.value]
            for item in run.judgements
            if item.status == SCORED and metric.applies(item) and metric.value in item.values
        }
        for run in pair
    )
    both = [(said[key], label) for key, label in labels.items() if key in said]
    if not both or any(value not in (0, 1) for pair_ in both for value in pair_):
        return None
    return Errors(
        missed=both.count((0, 1)),
        of_ones=sum(label == 1 for _, label in both),
        alarms=both.count((1, 0)),
        of_zeros=sum(label == 0 for _, label in both),
    )


def _part(run: JudgedRun, part: _Part, judge: str) -> JudgedRun:
    """What a run has of a task and condition, under another judge's name."""
    task, condition = part

    def within(item: Union[Cell, Judgement]) -> bool:
        return item.task == task and condition in (ALL, item.condition)

    cells = tuple(cell for cell in run.header.cells if within(cell))
    header = dataclasses.replace(run.header, cells=cells)
    kept = [item for item in run.judgements if within(item)]
    return _named(JudgedRun(run.name, header, kept), judge)


def _named(run: JudgedRun, judge: str) -> JudgedRun:
    header = dataclasses.replace(run.header, judge={**(run.header.judge or {}), "name": judge})
    renamed = [dataclasses.replace(item, judge=judge) for item in run.judgements]
    return JudgedRun(run.name, header, renamed)
