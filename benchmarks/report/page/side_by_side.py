"""Judges beside each other: their rates of the same answers, and how far they agree."""

import dataclasses
from typing import Dict, List, Optional, Sequence, Tuple

from regap_benchmarks.report.page.compared_runs import PageRun
from regap_benchmarks.report.page.run_estimates import MainMetrics, RunEstimate, whole
from regap_benchmarks.report.tables import NOT_AVAILABLE, Table, agreement_table, percent
from regap_benchmarks.statistics.agreement import agreement


def judge_table(estimates: Sequence[RunEstimate]) -> Optional[Table]:
    """A column for each judge; None where no metric of a set has two.

    Args:
        estimates: of all runs.
    """
    rates: Dict[Tuple[str, str, str], Dict[str, str]] = {}
    for item in whole(estimates):
        row = item.row
        if row.factor is None:
            part = rates.setdefault((row.task, row.metric, item.run.name), {})
            part[row.judge] = percent(row.value)
    several = {key: found for key, found in rates.items() if len(found) > 1}
    if not several:
        return None
    judges = list(dict.fromkeys(judge for found in several.values() for judge in found))
    return Table(
        ("Set:", "Metric:", "Run:", *(f"{judge} (%)" for judge in judges)),
        tuple(
            (*key, *(found.get(judge, NOT_AVAILABLE) for judge in judges))
            for key, found in several.items()
        ),
        ("Each rate is of the answers that the judge has scored.",),
    )


def agreement_of_runs(
    runs: Sequence[PageRun], main: MainMetrics, *, level: float, resamples: int, seed: int
) -> Optional[Table]:
    """Agreement of the judges of each run on the main metrics; None where no run has two judges.

    Args:
        runs: of the page.
        main: the metrics of each set and judge.
        level: of the intervals.
        resamples: draws of requests.
        seed: of the draws.
    """
    tables: List[Tuple[str, Table]] = []
    for run in runs:
        scorers = {cell.task for cell in run.header.cells}
        judges = [judge for judge in run.judgements if judge not in scorers]
        if len(judges) < 2:
            continue
        metrics = {
            metric.name: metric
            for (_, judge), by_kind in main.items()
            if judge in judges
            for metric in by_kind.values()
        }
        rows = agreement(
            [dataclasses.replace(run.judged_by(judge), name=judge) for judge in judges],
            list(metrics.values()),
            level=level,
            resamples=resamples,
            seed=seed,
        )
        known = [row for row in rows if row.n]
        if known:
            tables.append((run.name, agreement_table(known)))
    if not tables:
        return None
    notes = dict.fromkeys(note for _, table in tables for note in table.notes)
    return Table(
        ("Run:", *tables[0][1].columns),
        tuple((name, *row) for name, table in tables for row in table.rows),
        tuple(notes),
    )
