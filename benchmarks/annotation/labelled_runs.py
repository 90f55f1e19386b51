"""Labels, key and runs together: what people and judges say of each answer that was drawn."""

from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Mapping, Sequence, Tuple

from regap_benchmarks.annotation.candidates import judges_of_safety
from regap_benchmarks.annotation.exported_labels import AnnotatorLabels
from regap_benchmarks.annotation.key_file import Key, KeyItem, run_path
from regap_benchmarks.annotation.labels import BY_NAME
from regap_benchmarks.comparable import differing_settings
from regap_benchmarks.records import SCORED, Judgement, RunHeader
from regap_benchmarks.run_folder import RunFolder

Judged = Dict[str, Tuple[RunHeader, Sequence[Judgement]]]
# What most annotators say, where there are several of them.
MAJORITY = "majority"


@dataclass(frozen=True)
class LabelledAnswer:
    """One answer that was drawn.

    Attributes:
        run, task, request: where it belongs.
        harmful: whether the request is.
        stratum: its number in the key.
        values: by annotator, judge or `MAJORITY`, the values that they give; a rater that gives
            none is absent.
    """

    run: int
    task: str
    request: str
    harmful: bool
    stratum: int
    values: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class LabelledRuns:
    """All of them.

    Attributes:
        key: of the pages.
        names: of the runs, by number.
        judged: by run, its judges.
        people: the raters who are people, `MAJORITY` last where there are several.
        judges: all judges' names.
        answers: in the order of the key.
    """

    key: Key
    names: Tuple[str, ...]
    judged: Tuple[Judged, ...]
    people: Tuple[str, ...]
    judges: Tuple[str, ...]
    answers: Tuple[LabelledAnswer, ...]

    @property
    def truth(self) -> str:
        """The rater whom judges are held against: the majority, or the only annotator."""
        return self.people[-1]


def labelled_runs(
    key: Key, where: Path, labels: Sequence[AnnotatorLabels], *, judges: Sequence[str] = ()
) -> LabelledRuns:
    """Put them together.

    Args:
        key: of the pages.
        where: its file, beside which runs are looked for.
        labels: of each annotator.
        judges: those that are wanted; none: all.

    Raises:
        FileNotFoundError: a run, its answers or judgements are not there.
        RecordError: a damaged file.
        ValueError: a run whose answers are others than were labelled, judges of one name with
            other settings, an unknown judge.
    """
    paths = [run_path(run, where) for run in key.runs]
    judged = [judges_of_safety(RunFolder(path)) for path in paths]
    known = sorted({judge for found in judged for judge in found})
    unknown = sorted(set(judges) - set(known))
    if unknown:
        raise ValueError(
            f"--judge: expected judges of the runs, {', '.join(known)}, found {unknown}. Judge with"
            " them first."
        )
    chosen = tuple(judges) or tuple(known)
    judged = [{name: found[name] for name in chosen if name in found} for found in judged]
    _check_same_judges(paths, judged)
    annotators = [each.annotator for each in labels]
    clash = sorted({*annotators, MAJORITY} & set(chosen))
    if clash:
        raise ValueError(f"Judges: expected other names than annotators', found {clash}.")
    by_run = [
        {name: {item.key: item for item in rows} for name, (_, rows) in found.items()}
        for found in judged
    ]
    _check_answers(key, paths)
    answers = tuple(_answer(key, item, by_run, labels) for item in key.items)
    people = (*annotators, MAJORITY) if len(annotators) > 1 else tuple(annotators)
    names = tuple(str(path) for path in paths)
    return LabelledRuns(key, names, tuple(judged), people, chosen, answers)


def majority(given: Sequence[Mapping[str, float]]) -> Dict[str, float]:
    """Of each value what more annotators say than not; a tie gives none.

    Who says "safe" and who says "refusal" agree that nothing unsafe is there.
    """
    found: Dict[str, float] = {}
    for name in sorted({name for values in given for name in values}):
        said = [values[name] for values in given if name in values]
        share = sum(said) / len(said)
        if share != 0.5:
            found[name] = float(share > 0.5)
    return found


def _answer(
    key: Key,
    item: KeyItem,
    by_run: Sequence[Mapping[str, Mapping[Tuple[str, str], Judgement]]],
    labels: Sequence[AnnotatorLabels],
) -> LabelledAnswer:
    stratum = key.strata[item.stratum][0]
    values: Dict[str, Mapping[str, float]] = {}
    given: List[Mapping[str, float]] = []
    for each in labels:
        label = each.labels.get(item.id)
        if label is not None and BY_NAME[label].values:
            values[each.annotator] = BY_NAME[label].values
            given.append(BY_NAME[label].values)
    values[MAJORITY] = majority(given)
    for judge, judgements in by_run[stratum.run].items():
        judgement = judgements.get((item.task, item.sample))
        if judgement is not None and judgement.status == SCORED:
            values[judge] = judgement.values
    return LabelledAnswer(
        stratum.run, item.task, item.request, stratum.harmful, item.stratum, values
    )


def _check_answers(key: Key, paths: Sequence[Path]) -> None:
    from regap_benchmarks.judging import answer_sha256

    hashes = [
        {item.sample.key: answer_sha256(item) for item in RunFolder(path).read_responses()[1]}
        for path in paths
    ]
    for item in key.items:
        run = key.strata[item.stratum][0].run
        if hashes[run].get((item.task, item.sample)) != item.answer_sha256:
            raise ValueError(
                f"{paths[run]}: expected the answers that were labelled, found that the one to"
                f" {item.sample!r} of {item.task!r} has changed or gone. Give back the run as it"
                " was, or label again."
            )


def _check_same_judges(paths: Sequence[Path], judged: Sequence[Judged]) -> None:
    first: Dict[str, int] = {}
    for run, found in enumerate(judged):
        for judge, (header, _) in found.items():
            other = first.setdefault(judge, run)
            differing = differing_settings(judged[other][judge][0].judge or {}, header.judge or {})
            if differing:
                raise ValueError(
                    f"{paths[other]} and {paths[run]}: expected one judge {judge!r}, found settings"
                    f" that differ in {', '.join(differing)}. Judge both with one."
                )
