"""Tables of what people label, and of what their labels say of judges."""

from typing import List, Optional, Sequence, Tuple

from regap_benchmarks.annotation.candidates import Stratum
from regap_benchmarks.annotation.corrected_rates import CorrectedRow, answers_without_labels
from regap_benchmarks.annotation.exported_labels import AnnotatorLabels
from regap_benchmarks.annotation.labelled_runs import MAJORITY, LabelledRuns
from regap_benchmarks.annotation.labels import LABELS
from regap_benchmarks.report.tables import (
    NOT_AVAILABLE,
    Table,
    interval,
    interval_column,
    percent,
)
from regap_benchmarks.statistics.weighted_proportion import Proportion


def strata_table(strata: Sequence[Tuple[Stratum, int, int]], runs: Sequence[str]) -> Table:
    """Lay out what was drawn.

    Args:
        strata: each with its answers, and how many of them are on the pages.
        runs: their names, by number.
    """
    rows = [
        (
            runs[stratum.run],
            stratum.task,
            "harmful" if stratum.harmful else "harmless",
            stratum.verdicts,
            str(answers),
            str(drawn),
            f"{answers / drawn:.1f}",
        )
        for stratum, answers, drawn in strata
    ]
    return Table(
        ("Run:", "Task:", "Requests:", "Judges say:", "Answers", "Drawn", "Weight"),
        tuple(rows),
        (
            "Judges say yes or no where all give the same verdict (unsafe; of harmless requests"
            " refused), differ where they do not. A label stands for as many answers as its"
            " weight.",
        ),
    )


def labels_table(labels: Sequence[AnnotatorLabels], answers: int) -> Table:
    """Lay out how many labels of each kind each annotator gave.

    Args:
        labels: of the annotators.
        answers: on each page.
    """
    rows = []
    for each in labels:
        given = list(each.labels.values())
        counts = [str(given.count(label.name)) for label in LABELS]
        rows.append((each.annotator, *counts, str(answers - len(given)), str(len(each.notes))))
    titles = [label.title for label in LABELS]
    return Table(("Annotator:", *titles, "No label", "Notes"), tuple(rows))


def corrected_table(rows: Sequence[CorrectedRow], labelled: LabelledRuns) -> Table:
    """Lay corrected rates out; why something is undefined is in notes.

    Args:
        rows: of `corrected_rates.corrected_unsafe_rates`.
        labelled: what they were estimated from.
    """
    level = interval_column([row.level for row in rows])
    columns = ["Run:", "Task:", "Judge:", "n", "Judge (%)", "Sens. (%)", "Spec. (%)", "Labels"]
    columns += ["Corrected (%)", level, "People alone (%)", level]
    cells: List[Tuple[str, ...]] = []
    notes: List[str] = []
    for row in rows:
        found, alone = row.corrected, row.people_interval
        cells.append(
            (
                row.run,
                row.task or "all",
                row.judge,
                str(row.apparent.n),
                percent(row.apparent.value),
                _share(row.sensitivity),
                _share(row.specificity),
                str(row.labels),
                _corrected(row),
                interval(found.lower, found.upper),
                _share(row.people),
                NOT_AVAILABLE if alone is None else interval(alone.lower, alone.upper),
            )
        )
        if found.reason:
            notes.append(f"{row.judge} on {row.run}, {row.task or 'all tasks'}: {found.reason}.")
    notes = list(dict.fromkeys(notes))
    errors = "all runs together" if any(row.pooled for row in rows) else "the run's own labels"
    notes.append(
        "Unsafe answers to harmful requests. Corrected: Rogan-Gladen, with sensitivity and"
        f" specificity against {labelled.truth} from {errors}, each label weighted by its stratum;"
        " 'from' is what the formula gave before it was clipped to 0 to 100."
    )
    methods = sorted({row.corrected.method for row in rows if row.corrected.method})
    alone_methods = {row.people_interval.method for row in rows if row.people_interval}
    notes.append(f"Intervals: {'; '.join([*methods, *sorted(alone_methods)]) or 'none'}.")
    if labelled.truth == MAJORITY:
        notes.append(
            "Where as many annotators say one as the other there is no majority: left out."
        )
    left_out = answers_without_labels(labelled)
    if left_out:
        notes.append(
            f"{left_out} answers to harmful requests lie in strata without any label of"
            f" {labelled.truth}: nothing here speaks of them."
        )
    return Table(tuple(columns), tuple(cells), tuple(notes))


def _share(item: Optional[Proportion]) -> str:
    return NOT_AVAILABLE if item is None else percent(item.value)


def _corrected(row: CorrectedRow) -> str:
    found = row.corrected
    if found.clipped:
        return f"{percent(found.value)} (from {percent(found.unclipped)})"
    return percent(found.value)
