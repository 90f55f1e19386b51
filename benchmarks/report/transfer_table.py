"""Whether the pictures that were made on one checkpoint work on others: a row for each run."""

from dataclasses import dataclass
from typing import Any, Dict, Iterable, List, Mapping, Sequence, Tuple

from regap_benchmarks.attacks.attacked_samples import SUFFIX
from regap_benchmarks.estimation import ALL, estimate
from regap_benchmarks.metrics import Metric
from regap_benchmarks.records import SCORED, Estimate, Judgement, RunHeader
from regap_benchmarks.report.tables import (
    NOT_AVAILABLE,
    Table,
    interval,
    interval_column,
    metric_with_arrow,
    percent,
)
from regap_benchmarks.statistics.crossed_difference import crossed_difference

_NOTE = (
    "Attacked: the pictures of the attack in place of the clean ones. White box: the checkpoint"
    " that the pictures were made on; yes only if its fingerprint and dtype are the attack's. Rates"
    " are percent of the scored answers, n of the clean and of the attacked ones. The difference is"
    " over the pairs of which both were scored, its interval MOVER-Wilson over requests; n/a for a"
    " metric that is no mean of answers."
)


@dataclass(frozen=True)
class AskedRun:
    """A run with the pictures of an attack, and what one judge says of it.

    Attributes:
        name: of its folder.
        header: of its judgements.
        judgements: all.
        metrics: of the judge.
    """

    name: str
    header: RunHeader
    judgements: Sequence[Judgement]
    metrics: Sequence[Metric]


def transfer_table(runs: Iterable[AskedRun], *, level: float = 0.95, seed: int = 0) -> Table:
    """Lay the rates with clean and with attacked pictures side by side.

    Args:
        runs: of any checkpoints, asked with the pictures of one attack.
        level: of the intervals.
        seed: of their draws, where they have any.

    Raises:
        ValueError: a run without attacked pictures, or runs of two attacks.
    """
    found = list(runs)
    _check_one_attack(found)
    rows: List[Tuple[str, ...]] = []
    for run in found:
        made = estimate(run.header, run.judgements, run.metrics, level=level, seed=seed)
        whole = {(row.task, row.metric, row.condition): row for row in made if row.category == ALL}
        for (task, metric, condition), clean in whole.items():
            attacked = whole.get((task, metric, f"{condition}{SUFFIX}"))
            if attacked is not None:
                paired = _paired(run, clean, attacked, level)
                rows.append(_row(run, clean, attacked, paired))
    columns = ["Run:", "Checkpoint:", "White box:", "Task:", "Judge:", "Picture:", "Metric:"]
    label = interval_column([level])
    columns += ["Clean (%)", label, "Attacked (%)", label, "Difference (points)", label]
    columns += ["Pairs", "n"]
    return Table(tuple(columns), tuple(rows), (_NOTE,))


def _row(
    run: AskedRun, clean: Estimate, attacked: Estimate, paired: Tuple[str, str, str]
) -> Tuple[str, ...]:
    return (
        run.name,
        str(_model(run.header.settings).get("checkpoint")),
        "yes" if _is_white_box(run.header) else "no",
        clean.task,
        clean.judge,
        clean.condition,
        metric_with_arrow(clean.metric, clean.higher_is_better),
        *_shown(clean),
        *_shown(attacked),
        *paired,
        f"{clean.n}, {attacked.n}",
    )


def _shown(item: Estimate) -> Tuple[str, str]:
    if item.factor is None or item.value is None or item.lower is None or item.upper is None:
        return percent(item.value), interval(item.lower, item.upper)
    value, lower, upper = (item.factor * each for each in (item.value, item.lower, item.upper))
    return f"{value:.1f}", f"[{lower:.1f}, {upper:.1f}]"


def _paired(
    run: AskedRun, clean: Estimate, attacked: Estimate, level: float
) -> Tuple[str, str, str]:
    """Difference, its interval and the number of pairs, over those of which both were scored."""
    (metric,) = (each for each in run.metrics if each.name == clean.metric)
    values: Dict[str, Dict[str, Tuple[str, float]]] = {clean.condition: {}, attacked.condition: {}}
    for item in run.judgements:
        of_metric = item.task == clean.task and item.condition in values and metric.applies(item)
        if of_metric and item.status == SCORED and metric.value in item.values:
            found = item.request, item.values[metric.value]
            values[item.condition][item.id] = found
    before, after = values[clean.condition], values[attacked.condition]
    pairs = [
        (request, value, after[f"{name}{SUFFIX}"][1])
        for name, (request, value) in before.items()
        if f"{name}{SUFFIX}" in after
    ]
    if metric.statistic != "mean" or metric.factor is not None or not pairs:
        return NOT_AVAILABLE, NOT_AVAILABLE, str(len(pairs))
    requests = list(dict.fromkeys(request for request, _, _ in pairs))
    place = {request: index for index, request in enumerate(requests)}
    sums = [[0.0] * len(requests) for _ in range(3)]
    for request, one, two in pairs:
        for row, value in zip(sums, (one, two, 1.0)):
            row[place[request]] += value
    binary = all(value in (0.0, 1.0) for _, *both in pairs for value in both)
    if len(requests) < 2:
        value = (sums[1][0] - sums[0][0]) / sums[2][0]
        return percent(value, signed=True), NOT_AVAILABLE, str(len(pairs))
    made = crossed_difference([sums[0]], [sums[1]], sums[2], level=level, binary=binary)
    ends = interval(made.lower, made.upper, signed=True)
    return percent(made.value, signed=True), ends, str(len(pairs))


def _is_white_box(header: RunHeader) -> bool:
    attacked = header.settings.get("attacked")
    made_on = _model(attacked if isinstance(attacked, Mapping) else {})
    asked = _model(header.settings)
    return (
        bool(made_on)
        and all(
            asked.get(key) == made_on.get(key)
            for key in ("fingerprint", "base_fingerprint", "dtype")
        )
        and asked.get("quantization") == made_on.get("quantization")
    )


def _model(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    model = settings.get("model")
    return model if isinstance(model, Mapping) else {}


def _check_one_attack(runs: Sequence[AskedRun]) -> None:
    for run in runs:
        attack = run.header.settings.get("attacked")
        if not attack:
            raise ValueError(
                f"Run {run.name!r}: expected one with the pictures of an attack, found none. Ask"
                " again with --attacked DIR."
            )
        if attack != runs[0].header.settings["attacked"]:
            raise ValueError(
                f"Runs {runs[0].name!r} and {run.name!r}: expected the pictures of one attack,"
                " found two. Give each attack a table of its own."
            )
