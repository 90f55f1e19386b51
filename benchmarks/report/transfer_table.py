"""Whether the pictures that were made on one checkpoint work on others: a row for each run."""

from dataclasses import dataclass
from typing import Any, Iterable, List, Mapping, Sequence, Tuple

from regap_benchmarks.attacks.attacked_samples import SUFFIX
from regap_benchmarks.estimation import ALL, estimate
from regap_benchmarks.metrics import Metric
from regap_benchmarks.records import Estimate, Judgement, RunHeader
from regap_benchmarks.report.tables import (
    NOT_AVAILABLE,
    Table,
    interval,
    interval_column,
    metric_with_arrow,
    percent,
)

_NOTE = (
    "Attacked: the pictures of the attack in place of the clean ones. White box: the checkpoint"
    " that the pictures were made on; yes only if its fingerprint and dtype are the attack's. Rates"
    " are percent of the scored answers, n of the clean and of the attacked ones; the difference is"
    " in points and has no interval: compare runs with regap-bench compare for that."
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
                rows.append(_row(run, clean, attacked))
    columns = ["Run:", "Checkpoint:", "White box:", "Task:", "Judge:", "Picture:", "Metric:"]
    label = interval_column([level])
    columns += ["Clean (%)", label, "Attacked (%)", label, "Difference (points)", "n"]
    return Table(tuple(columns), tuple(rows), (_NOTE,))


def _row(run: AskedRun, clean: Estimate, attacked: Estimate) -> Tuple[str, ...]:
    difference = NOT_AVAILABLE
    if clean.value is not None and attacked.value is not None:
        difference = percent(attacked.value - clean.value, signed=True)
    return (
        run.name,
        str(_model(run.header.settings).get("checkpoint")),
        "yes" if _is_white_box(run.header) else "no",
        clean.task,
        clean.judge,
        clean.condition,
        metric_with_arrow(clean.metric, clean.higher_is_better),
        percent(clean.value),
        interval(clean.lower, clean.upper),
        percent(attacked.value),
        interval(attacked.lower, attacked.upper),
        difference,
        f"{clean.n}, {attacked.n}",
    )


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
