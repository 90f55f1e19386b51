"""What `regap-bench judge ... --threshold ...` writes: sensitivity.json and sensitivity.md."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from regap_benchmarks.comparable import JudgedRun
from regap_benchmarks.judge_dependence import (
    Dependence,
    Flips,
    Groups,
    all_pairs,
    dependence,
    flips,
)
from regap_benchmarks.judging import answer_sha256
from regap_benchmarks.metrics import UNSAFE_RATE, Metric
from regap_benchmarks.records import (
    Judgement,
    RecordError,
    Response,
    from_line,
    read_records,
    read_run,
)
from regap_benchmarks.report.tables import (
    NOT_AVAILABLE,
    Table,
    agreement_table,
    interval,
    interval_column,
    markdown,
    metric_with_arrow,
    percent,
    probability,
    text,
)
from regap_benchmarks.run_folder import RunFolder
from regap_benchmarks.statistics.agreement import Agreement, Coefficient


@dataclass(frozen=True)
class SensitivityReport:
    """What was found, and where it was written.

    Attributes:
        rows: of all judges.
        agreement: of the judges as they are.
        flips: of the comparisons.
        table: for a terminal.
        files: that were written.
    """

    rows: Tuple[Dependence, ...]
    agreement: Tuple[Agreement, ...]
    flips: Tuple[Flips, ...]
    table: str
    files: Tuple[Path, ...]


@dataclass(frozen=True)
class SensitivitySettings:
    """What is asked.

    Attributes:
        judges: in the order of the table; none: every judge of all runs.
        thresholds: beside each judge's own.
        reference: the judge that the others are held against; None for the labels, where there are
            any, or the first judge.
        labels: file of people's judgements of the single run.
        level: of the intervals.
        resamples: of each bootstrap and permutation.
        seed: of the draws.
    """

    judges: Tuple[str, ...]
    thresholds: Tuple[float, ...]
    reference: Optional[str] = None
    labels: Optional[Path] = None
    level: float = 0.95
    resamples: int = 2000
    seed: int = 0


def write_sensitivity(
    groups: Mapping[str, Sequence[RunFolder]], settings: SensitivitySettings, output: Path
) -> SensitivityReport:
    """Estimate or compare stored judgements by judge and threshold, and write the tables.

    Args:
        groups: of runs; one group of one run is estimated, more are compared with the first.
        settings: what is asked.
        output: folder of the files.

    Raises:
        FileNotFoundError: a judge has not judged a run.
        ValueError: see `dependence`; labels that are none of this run.
        RecordError: a damaged file.
    """
    judged = _judged(groups, settings.judges)
    reference = settings.reference
    if settings.labels is not None:
        name, labelled = _labels(settings.labels, groups, judged)
        judged[name] = ({next(iter(groups)): [labelled]}, (UNSAFE_RATE,))
        reference = reference or name
    numbers: Dict[str, Any] = {
        "level": settings.level,
        "resamples": settings.resamples,
        "seed": settings.seed,
    }
    rows = dependence(judged, settings.thresholds, reference=reference, **numbers)
    base = reference or next(iter(judged))
    metrics = {metric.name: metric for _, own in judged.values() for metric in own}
    pairs = all_pairs(
        {judge: runs for judge, (runs, _) in judged.items()}, list(metrics.values()), **numbers
    )
    found = flips(rows, base)
    tables = [sensitivity_table(rows, found, base)]
    tables += [agreement_table(pairs)] if pairs else []
    output.mkdir(parents=True, exist_ok=True)
    files = (output / "sensitivity.json", output / "sensitivity.md")
    document = {
        "reference": base,
        "rows": [_document(row) for row in rows],
        "agreement": [dataclasses.asdict(row) for row in pairs],
        "flips": [dataclasses.asdict(row) for row in found],
    }
    files[0].write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", "utf-8")
    files[1].write_text("\n\n".join(map(markdown, tables)) + "\n", "utf-8")
    said = "\n\n".join(map(text, tables))
    return SensitivityReport(tuple(rows), tuple(pairs), tuple(found), said, files)


def sensitivity_table(rows: Sequence[Dependence], found: Sequence[Flips], reference: str) -> Table:
    """A row for each part, metric, judge and threshold, over all categories.

    Args:
        rows: of `dependence`.
        found: of `flips`.
        reference: the judge that the others are held against.
    """
    compared = any(row.comparison is not None for row in rows)
    held = any(row.against is not None for row in rows)
    levels = [row.comparison.level for row in rows if row.comparison]
    levels += [row.estimate.level for row in rows if row.estimate]
    level = interval_column(levels)
    columns = ["Task:", "Picture:", "Metric:", "Judge:", "Threshold"]
    if compared:
        columns += ["Groups:", "First (%)", "Second (%)", "Second - first (points)", level, "p"]
        columns += ["Second is:"]
    else:
        columns += ["Value (%)", level]
    columns += ["n", "Requests", "Gaps"]
    if held:
        columns += ["Kappa", level, "Alpha", "Missed", "False alarms"]
    cells = [
        (
            row.task,
            row.condition or "all",
            metric_with_arrow(row.metric.name, row.metric.higher_is_better),
            row.way.judge,
            _threshold(row),
            *_numbers(row),
            *(_held(row) if held else ()),
        )
        for row in rows
    ]
    return Table(tuple(columns), tuple(cells), tuple(_notes(found, reference, compared, held)))


def _notes(found: Sequence[Flips], reference: str, compared: bool, held: bool) -> List[str]:
    notes = [
        "A probability above the threshold counts as 1. * is how the judge was run; 'none' is a"
        " verdict or score without a threshold. Re-estimated from stored judgements; nothing was"
        " judged."
    ]
    if held:
        notes.append(
            f"Kappa and alpha are with {reference} as it was run, over the answers that both"
            f" scored. Missed are answers that {reference} calls 1 and the row 0, false alarms the"
            " other way round."
        )
    if compared:
        notes.append(
            "'Second is' reads each row by itself, at the level of its interval: 'not shown' is no"
            " proof of equality. Of so many rows some would differ by chance; the row that was"
            " chosen beforehand is the result, and the others say how far it hangs on the judge."
        )
    for flip in found:
        changed = flip.of - flip.same
        detail = f"{flip.lost} lose it, {flip.gained} gain one, {flip.reversed} reverse it"
        notes.append(
            f"{flip.task}, {flip.metric}, {flip.condition or 'all pictures'}: by {reference}"
            f" {flip.groups[1]} against {flip.groups[0]} is {flip.conclusion}; the conclusion"
            f" changes in {changed} of {flip.of} other rows ({detail}, {flip.undefined}"
            f" undefined), the sign of the difference in {flip.signs}."
        )
    return notes


def _threshold(row: Dependence) -> str:
    said = "none" if row.way.threshold is None else f"{row.way.threshold:g}"
    return said + ("*" if row.way.own else "")


def _numbers(row: Dependence) -> Tuple[str, ...]:
    if row.comparison is not None:
        one = row.comparison
        return (
            f"{one.first.name}, {one.second.name}",
            percent(one.first.mean),
            percent(one.second.mean),
            percent(one.difference, signed=True),
            interval(one.lower, one.upper, signed=True),
            probability(one.p),
            row.conclusion,
            str(one.n),
            str(one.requests),
            f"{one.first.gaps}, {one.second.gaps}",
        )
    assert row.estimate is not None
    item = row.estimate
    return (
        percent(item.value),
        interval(item.lower, item.upper),
        str(item.n),
        str(item.clusters),
        str(item.gaps),
    )


def _held(row: Dependence) -> Tuple[str, ...]:
    if row.against is None:
        return ("",) * 5
    errors = row.errors
    return (
        *_coefficient(row.against.kappa),
        _coefficient(row.against.alpha)[0],
        f"{errors.missed} of {errors.of_ones}" if errors else NOT_AVAILABLE,
        f"{errors.alarms} of {errors.of_zeros}" if errors else NOT_AVAILABLE,
    )


def _coefficient(item: Coefficient) -> Tuple[str, str]:
    value = NOT_AVAILABLE if item.value is None else f"{item.value:.2f}"
    if item.lower is None or item.upper is None:
        return value, NOT_AVAILABLE
    return value, f"[{item.lower:.2f}, {item.upper:.2f}]"


def _document(row: Dependence) -> Dict[str, Any]:
    plain = dataclasses.asdict(row)
    way = plain.pop("way")
    plain["metric"] = row.metric.name
    return {"judge": way["judge"], "threshold": way["threshold"], "own": way["own"], **plain}


def _judged(
    groups: Mapping[str, Sequence[RunFolder]], judges: Sequence[str]
) -> Dict[str, Tuple[Groups, Tuple[Metric, ...]]]:
    stored = {
        name: [(folder, folder.read_judgements()) for folder in folders]
        for name, folders in groups.items()
    }
    every = [found for folders in stored.values() for _, found in folders]
    chosen = judges or [judge for judge in every[0] if all(judge in found for found in every)]
    judged: Dict[str, Tuple[Groups, Tuple[Metric, ...]]] = {}
    for judge in chosen:
        metrics: Tuple[Metric, ...] = ()
        runs: Dict[str, List[JudgedRun]] = {}
        for name, folders in stored.items():
            for folder, found in folders:
                if judge not in found:
                    raise FileNotFoundError(
                        f"{folder.judgements(judge)}: expected judgements of {judge!r}, found none."
                        f" Run: regap-bench judge {folder.path} --judge {judge}, without"
                        " --threshold."
                    )
                header, judgements, metrics = found[judge]
                run = JudgedRun(str(folder.path), header, judgements)
                runs.setdefault(name, []).append(run)
        judged[judge] = (runs, metrics)
    return judged


def _labels(
    path: Path,
    groups: Mapping[str, Sequence[RunFolder]],
    judged: Mapping[str, Tuple[Groups, Sequence[Metric]]],
) -> Tuple[str, JudgedRun]:
    """People's judgements of a single run: lines of `Judgement`, with a run's header or without."""
    folders = [folder for every in groups.values() for folder in every]
    if len(folders) != 1:
        raise ValueError(
            f"--labels: expected with one run, whose answers they label, found {len(folders)}. Put"
            " labels of several as judgements.NAME.jsonl into their folders, and name NAME in"
            " --judge and --against."
        )
    labels = _read_labels(path)
    names = sorted({item.judge for item in labels})
    if len(names) != 1 or names[0] in judged:
        raise ValueError(
            f"--labels {path}: expected judgements of one person, under a name that is no judge's,"
            f" found {', '.join(names) or 'none'}. Give each a file of its own."
        )
    header, responses = read_run(folders[0].responses, Response)
    answers = {item.sample.key: answer_sha256(item) for item in responses}
    for item in labels:
        if item.key not in answers or item.answer_sha256 not in ("", answers[item.key]):
            raise ValueError(
                f"--labels {path}: expected labels of the answers of {folders[0].path}, found one"
                f" of {item.id!r} of {item.task!r}, which is another or has changed. Pass the"
                " labels of this run."
            )
    own = dataclasses.replace(header, judge={"name": names[0]})
    return names[0], JudgedRun(str(path), own, labels)


def _read_labels(path: Path) -> List[Judgement]:
    with path.open(encoding="utf-8") as lines:
        first = lines.readline()
    try:
        from_line(Judgement, first)
    except RecordError:
        return read_run(path, Judgement)[1]
    return list(read_records(path, Judgement))
