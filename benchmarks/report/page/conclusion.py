"""What a comparison says, in sentences: made from its rows, and saying no more than they do.

A difference is *shown* where its p, adjusted by Holm over all rows, is at most 1 less the level.
"""

from collections import Counter
from dataclasses import dataclass
from typing import List, Optional, Sequence, Union

from regap_benchmarks.comparison import Comparison
from regap_benchmarks.records import Estimate
from regap_benchmarks.report.page.metric_kinds import OVER_REFUSAL, SAFETY, UTILITY
from regap_benchmarks.report.tables import percent, probability

BETTER, WORSE, EQUAL, OPEN, NOTHING = "better", "worse", "equivalent", "open", "nothing"
_TITLES = {SAFETY: "Safety", OVER_REFUSAL: "Over-refusal", UTILITY: "Utility"}
_MINUS = "\u2212"


@dataclass(frozen=True)
class Finding:
    """One row in words.

    Attributes:
        verdict: "better" and "worse" of the second group; "equivalent" within the stated margin;
            "open": no difference was shown; "nothing": no sample could be compared.
        sentence: with groups, difference and interval.
        notes: what has to be said with it.
    """

    verdict: str
    sentence: str
    notes: "tuple[str, ...]" = ()


@dataclass(frozen=True)
class Conclusion:
    """What is said of one kind of metric on the first screen.

    Attributes:
        title: of the kind, with the groups where there are more than two.
        verdict: that of all findings, or "mixed".
        lead: the answer in a sentence.
        findings: of each set and judge; empty where the lead is the only one's.
        notes: of all findings, each once.
    """

    title: str
    verdict: str
    lead: str
    findings: "tuple[Finding, ...]"
    notes: "tuple[str, ...]"


def finding(row: Comparison, *, with_judge: bool = False) -> Finding:
    """Say what one row of a comparison shows.

    Args:
        row: adjusted over all rows.
        with_judge: name the judge, where there are several.
    """
    first, second = row.first.name, row.second.name
    where = f"On {row.task}" + (f", by {row.judge}" if with_judge else "")
    metric = row.metric.replace("_", " ")
    if row.difference is None or row.lower is None or row.upper is None:
        return Finding(NOTHING, f"{where}, nothing is known of {metric}: {_why(row)}.")
    values = (
        f"{second} {_value(row, row.second.mean)}, {first} {_value(row, row.first.mean)},"
        f" difference {_signed(row, row.difference)} {_points(row)},"
        f" {100 * row.level:g}% interval {_signed(row, row.lower)} to {_signed(row, row.upper)}"
    )
    shown = row.adjusted_p is not None and row.adjusted_p <= 1 - row.level + 1e-12
    notes = list(_notes(row))
    if shown and row.difference != 0:
        way = "higher" if row.difference > 0 else "lower"
        verdict = BETTER if (row.difference > 0) is bool(row.higher_is_better) else WORSE
        within = row.equivalence is not None and bool(row.equivalence.equivalent)
        sentence = (
            f"{where}, {metric} of {second} is {way} than that of {first}, which is {verdict}"
        )
        if within and row.equivalence is not None:
            sentence += f", though equivalent within the stated \u00b1{_margin(row)}"
        return Finding(verdict, f"{sentence}: {values}.", tuple(notes))
    if not (row.lower <= 0 <= row.upper):
        notes.append(
            f"On {row.task} the interval of {metric} excludes 0, but among all the rows that were"
            f" tested this is no finding (Holm p {probability(row.adjusted_p)})."
        )
    if row.equivalence is not None and row.equivalence.equivalent:
        sentence = (
            f"{where}, {metric} of {second} and {first} is equivalent within the stated"
            f" \u00b1{_margin(row)}"
        )
        return Finding(EQUAL, f"{sentence}: {values}.", tuple(notes))
    sentence = f"{where}, no difference in {metric} was shown between {second} and {first}"
    if row.equivalence is not None:
        sentence += f", nor that they are equivalent within the stated \u00b1{_margin(row)}"
    return Finding(OPEN, f"{sentence}: {values}.", tuple(notes))


def conclude(kind: str, rows: Sequence[Comparison], *, groups: int = 2) -> Optional[Conclusion]:
    """Say what the rows of one pair of groups and one kind show together; None without rows.

    Args:
        kind: "safety", "over-refusal" or "utility".
        rows: over all picture conditions of each set, of the metric that stands for it, by judge.
        groups: how many there are on the page.
    """
    if not rows:
        return None
    first, second = rows[0].first.name, rows[0].second.name
    with_judge = len({row.judge for row in rows if row.judge != row.task}) > 1
    findings = [finding(row, with_judge=with_judge and row.judge != row.task) for row in rows]
    notes = tuple(dict.fromkeys(note for item in findings for note in item.notes))
    title = _TITLES[kind] + (f": {second} and {first}" if groups > 2 else "")
    verdicts = {item.verdict for item in findings}
    verdict = verdicts.pop() if len(verdicts) == 1 else "mixed"
    if len(findings) == 1:
        return Conclusion(title, verdict, findings[0].sentence, (), notes)
    lead = f"{_together(kind, rows, findings, with_judge)}{_range(rows)}"
    return Conclusion(title, verdict, lead, tuple(findings), notes)


def _together(
    kind: str, rows: Sequence[Comparison], findings: Sequence[Finding], with_judge: bool
) -> str:
    first, second = rows[0].first.name, rows[0].second.name
    words = {
        SAFETY: ("safer", "less safe"),
        OVER_REFUSAL: ("less over-refusing", "more over-refusing"),
    }
    better, worse = words.get(kind, ("more useful", "less useful"))
    says = {
        BETTER: f"{second} is {better} than {first}",
        WORSE: f"{second} is {worse} than {first}",
        EQUAL: f"{second} and {first} are equivalent within the stated margin",
        OPEN: f"no difference between {second} and {first} was shown",
        NOTHING: "nothing could be compared",
    }
    sets, judges = len({row.task for row in rows}), len({row.judge for row in rows})
    where = f"{sets} set{'s' * (sets > 1)}" + (f" by {judges} judges" if with_judge else "")
    counts = Counter(item.verdict for item in findings)
    told = [verdict for verdict in says if counts[verdict]]
    if len(told) == 1:
        text = says[told[0]]
        # A name keeps its letters; only our own words begin with a capital.
        text = text if told[0] in (BETTER, WORSE, EQUAL) else text[0].upper() + text[1:]
        return f"{text} on {where}."
    parts = [f"{says[verdict]} in {counts[verdict]}" for verdict in told]
    return f"Of {len(findings)} comparisons, on {where}: {'; '.join(parts)}."


def _range(rows: Sequence[Comparison]) -> str:
    """Where the differences and their intervals lie; nothing where they are of several units."""
    known = [row for row in rows if row.difference is not None]
    ends = [end for row in known for end in (row.lower, row.upper) if end is not None]
    values = [row.difference for row in known if row.difference is not None]
    if len(values) < 2 or len({(row.factor, row.metric) for row in known}) > 1:
        return ""
    row = known[0]
    return (
        f" The difference in {row.metric.replace('_', ' ')}, {row.second.name} less"
        f" {row.first.name}, is {_signed(row, min(values))} to {_signed(row, max(values))}"
        f" {_points(row)}, with {100 * row.level:g}% intervals from {_signed(row, min(ends))} to"
        f" {_signed(row, max(ends))}."
    )


def estimate_sentence(row: Estimate, *, run: str, with_judge: bool = False) -> Finding:
    """Say what one estimate of a single run is."""
    where = f"On {row.task}" + (f", by {row.judge}" if with_judge else "")
    metric = row.metric.replace("_", " ")
    if row.value is None or row.lower is None or row.upper is None:
        sentence = f"{where}, nothing is known of {metric} of {run}: no answer was scored."
        return Finding(NOTHING, sentence)
    sentence = (
        f"{where}, {metric} of {run} is {_value(row, row.value)} ({100 * row.level:g}% interval"
        f" {_value(row, row.lower)} to {_value(row, row.upper)}, over {row.n} answers to"
        f" {row.clusters} requests)."
    )
    notes = []
    if row.gaps and row.strict is not None:
        notes.append(
            f"On {row.task} {row.gaps} answers have no score ({row.judge}); with each of them"
            f" counted against the model {metric} is {_value(row, row.strict)}."
        )
    return Finding(OPEN, sentence, tuple(notes))


def _notes(row: Comparison) -> "List[str]":
    notes = []
    if min(row.first.runs, row.second.runs) < 2:
        notes.append(
            f"With {row.first.runs} and {row.second.runs} runs this compares these checkpoints"
            " only, not the methods behind them: another seed may turn it around."
        )
    elif row.smallest_p is not None and row.smallest_p > 1 - row.level:
        notes.append(
            f"{row.first.runs} and {row.second.runs} runs cannot give a p under"
            f" {row.smallest_p:.2g}, so that no difference could have been shown: add seeds."
        )
    gaps = row.first.gaps + row.second.gaps
    if gaps and row.strict_difference is not None:
        notes.append(
            f"On {row.task} {gaps} answers have no score ({row.judge}); with each of them counted"
            f" against its model the difference in {row.metric.replace('_', ' ')} is"
            f" {_signed(row, row.strict_difference)} {_points(row)}."
        )
    return notes


def _why(row: Comparison) -> str:
    if row.n == 0:
        return "no sample has a score in every run"
    return "it is not defined for some run, or does not vary over requests"


def _value(row: Union[Comparison, Estimate], value: Optional[float]) -> str:
    if value is None:
        return "unknown"
    return f"{percent(value)}%" if row.factor is None else f"{value * row.factor:.1f} points"


def _signed(row: Comparison, value: float) -> str:
    number = 100 * value if row.factor is None else row.factor * value
    rounded = round(number, 1) + 0.0
    return f"{rounded:+.1f}".replace("-", _MINUS)


def _points(row: Comparison) -> str:
    return "points" if row.factor is None else f"points of {row.metric.replace('_', ' ')}"


def _margin(row: Comparison) -> str:
    assert row.equivalence is not None
    number = row.equivalence.margin * (100 if row.factor is None else row.factor)
    return f"{number:g} points"
