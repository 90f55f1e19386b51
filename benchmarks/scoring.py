"""Answers of a file to scores: those that upstream's own scripts wrote, and those of a run."""

import dataclasses
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from regap_benchmarks.benchmark import Benchmark
from regap_benchmarks.judges.grader import NO_OPTIONS, GraderOptions, set_graders
from regap_benchmarks.judges.judge import Judge, Verdict
from regap_benchmarks.judging import Progress, judge_batch, judge_responses
from regap_benchmarks.metrics import Metric, judge_header, metrics_of
from regap_benchmarks.official.files import repeated
from regap_benchmarks.official.stored_answers import REFUSED, StoredAnswer, StoredAnswers
from regap_benchmarks.records import (
    EMPTY,
    FAILED,
    STOPPED,
    UNPARSED,
    Json,
    Judgement,
    Response,
    RunHeader,
    Sample,
    read_header,
    read_run,
)
from regap_benchmarks.run_plan import header_for

# The key of the official numbers where each question has what its set gives it, a picture or none.
AS_GIVEN = "as given"
_SHOWN = 3
_TOGETHER = 64


def _silent(done: int, total: int) -> None:
    """Progress that nobody sees."""


@dataclass(frozen=True)
class ScoringOptions:
    """What a caller of this module may say.

    Attributes:
        grader: which server grades, of a task that a model grades.
        judgements: file that each judgement is written to as it comes, and whose judgements are
            taken over where it is there; None for none.
        progress: makes what is told after every batch, when the first answer is judged.
    """

    grader: GraderOptions = NO_OPTIONS
    judgements: Optional[Path] = None
    progress: Callable[[], Progress] = lambda: _silent


_PLAIN = ScoringOptions()


@dataclass(frozen=True)
class Score:
    """What `regap-bench score` shows.

    Attributes:
        task: name of the set.
        header: what was asked.
        judgements: one for each answer that counts.
        metrics: of the set's scorer.
        official: what upstream's scorer would print: under "as given", or by the picture condition
            that was asked for.
        counts: asked, answered, missing, unparsed, empty and failed answers; of a file of
            upstream's, also the repeated and the unknown ones.
        notes: what a reader of the score should know, a sentence each.
        responses: the answers, where the file holds answers.
    """

    task: str
    header: RunHeader
    judgements: Tuple[Judgement, ...]
    metrics: Tuple[Metric, ...]
    official: Mapping[str, Mapping[str, Json]]
    counts: Mapping[str, int]
    notes: Tuple[str, ...] = ()
    responses: Tuple[Response, ...] = ()


def score_stored_answers(
    benchmark: Benchmark, path: Path, data: Optional[Path], options: ScoringOptions = _PLAIN
) -> Score:
    """Score a file that upstream's own scripts wrote.

    Raises:
        ValueError: the set has no scorer, or none that takes the options; an answer to a question
            that was not asked, or a second one to the same question, where upstream's scorer does
            not pass over it; a file that is not as expected.
        FileNotFoundError: a file is missing.
        JudgeError, RecordFileError: see `judge_responses`.
    """
    scorer = _scorer_of(benchmark, options)
    stored = benchmark.stored_answers(path, data)
    kept, counts, notes = _kept(benchmark, stored, path)
    samples = {sample.id: sample for sample in stored.samples}
    responses = [_response(samples[answer.id], answer) for answer in kept]
    verdicts = {answer.id: answer.verdict for answer in kept if answer.verdict is not None}
    judge = _StoredVerdicts(scorer, verdicts) if verdicts else scorer
    header = header_for(
        stored.samples,
        settings={"tasks": {benchmark.name: benchmark.version}, "answers": path.name},
        environment={},
    )
    judgements = _judged(judge, header, responses, options)
    described = judge_header(scorer.name, scorer.describe(), scorer.metrics)
    return _score(
        benchmark,
        dataclasses.replace(header, judge=described),
        judgements,
        tuple(scorer.metrics),
        (*stored.notes, *notes),
        counts,
        responses,
    )


def score_records(benchmark: Benchmark, path: Path, options: ScoringOptions = _PLAIN) -> Score:
    """Score a file of a run: `responses.jsonl`, or `judgements.TASK.jsonl` without judging again.

    Raises:
        ValueError: the set has no scorer, or none that takes the options; the file does not ask
            the task, or holds judgements where options say how to judge.
        RecordError: a damaged file.
        FileNotFoundError: no such file.
        JudgeError, RecordFileError: see `judge_responses`.
    """
    header = read_header(path)
    cells = tuple(cell for cell in header.cells if cell.task == benchmark.name)
    if not cells:
        asked = sorted({cell.task for cell in header.cells})
        raise ValueError(
            f"{path}: expected answers to the task {benchmark.name!r}, found those of"
            f" {', '.join(asked)}. Name another task or file."
        )
    responses: List[Response] = []
    if header.judge is not None:
        if options.grader.given() or options.judgements:
            raise ValueError(
                f"{path}: expected answers, as --grader-... and --judgements are for judging,"
                " found judgements. Leave those flags out."
            )
        judgements = [item for item in read_run(path, Judgement)[1] if item.task == benchmark.name]
        metrics = metrics_of(header, str(path))[1]
    else:
        scorer = _scorer_of(benchmark, options)
        responses = [
            item for item in read_run(path, Response)[1] if item.sample.task == benchmark.name
        ]
        own = dataclasses.replace(header, cells=cells)
        judgements = _judged(scorer, own, responses, options)
        metrics = tuple(scorer.metrics)
        described = judge_header(scorer.name, scorer.describe(), scorer.metrics)
        header = dataclasses.replace(header, judge=described)
    header = dataclasses.replace(header, cells=cells)
    return _score(benchmark, header, judgements, metrics, (), {}, responses)


class _StoredVerdicts(Judge):
    """Gives the verdicts that a file of grades holds, and asks the scorer for the others."""

    judges_empty = True

    def __init__(self, scorer: Judge, verdicts: Mapping[str, Verdict]) -> None:
        self._scorer = scorer
        self._verdicts = verdicts
        self.name = scorer.name
        self.more_values = scorer.more_values
        self.kept_after = scorer.kept_after

    @property
    def metrics(self) -> Sequence[Metric]:
        return self._scorer.metrics

    def describe(self) -> Mapping[str, Json]:
        return self._scorer.describe()

    def judge(self, responses: Sequence[Response]) -> Sequence[Verdict]:
        others = [item for item in responses if item.sample.id not in self._verdicts]
        judged = iter(self._scorer.judge(others) if others else ())
        return [
            self._verdicts[item.sample.id] if item.sample.id in self._verdicts else next(judged)
            for item in responses
        ]


def _judged(
    judge: Judge, header: RunHeader, responses: Sequence[Response], options: ScoringOptions
) -> List[Judgement]:
    progress = options.progress() if responses else _silent
    if options.judgements is not None:
        judge_responses(header, responses, judge, path=options.judgements, progress=progress)
        return list(read_run(options.judgements, Judgement)[1])
    judgements: List[Judgement] = []
    size = judge.kept_after or _TOGETHER
    for start in range(0, len(responses), size):
        judgements += judge_batch(judge, responses[start : start + size])
        progress(len(judgements), len(responses))
    return judgements


def _scorer_of(benchmark: Benchmark, options: ScoringOptions) -> Judge:
    scorer = benchmark.scorer()
    if scorer is None:
        raise ValueError(
            f"Task {benchmark.name!r}: expected a set with a scorer of its own, found one that"
            " judges judge. Use regap-bench judge."
        )
    set_graders([scorer], options.grader)
    return scorer


def _kept(
    benchmark: Benchmark, stored: StoredAnswers, path: Path
) -> Tuple[List[StoredAnswer], Dict[str, int], List[str]]:
    """The answer that counts for each question, as upstream's scorer has it."""
    asked = {sample.id for sample in stored.samples}
    unknown = [answer for answer in stored.answers if answer.id not in asked]
    known = [answer for answer in stored.answers if answer.id in asked]
    twice = repeated([answer.id for answer in known])
    notes = []
    if unknown:
        shown = ", ".join(answer.id for answer in unknown[:_SHOWN])
        if not benchmark.ignores_unknown:
            raise ValueError(
                f"{unknown[0].where}: expected an answer to one of the {len(asked)} questions of"
                f" {benchmark.name!r}, found {len(unknown)} in the file to others, such as {shown}."
                " Pass the question files that the answers were made with."
            )
        notes.append(
            f"{len(unknown)} answers are to questions that were not asked, such as {shown}:"
            " upstream's scorer passes over them, and so does this."
        )
    if twice:
        shown = ", ".join(twice[:_SHOWN])
        if benchmark.answered_twice == REFUSED:
            raise ValueError(
                f"{path}: expected one answer to each question, found {len(twice)} questions"
                f" answered more than once, such as {shown}. Leave one answer to each: upstream's"
                " scorer counts every line."
            )
        notes.append(
            f"{len(twice)} questions are answered more than once, such as {shown}: the last answer"
            " counts, as for upstream's scorer."
        )
    last = {answer.id: answer for answer in known}
    counts = {"repeated": len(known) - len(last), "unknown": len(unknown)}
    return list(last.values()), counts, notes


def _response(sample: Sample, answer: StoredAnswer) -> Response:
    metadata = {**sample.metadata, **answer.metadata}
    return Response(
        sample=dataclasses.replace(sample, metadata=metadata),
        text=answer.text,
        finish=STOPPED,
        rendered_prompt=answer.prompt,
    )


def _score(
    benchmark: Benchmark,
    header: RunHeader,
    judgements: Sequence[Judgement],
    metrics: Tuple[Metric, ...],
    notes: Sequence[str],
    counts: Mapping[str, int],
    responses: Sequence[Response],
) -> Score:
    statuses = Counter(item.status for item in judgements)
    return Score(
        task=benchmark.name,
        header=header,
        judgements=tuple(judgements),
        metrics=metrics,
        official=_official(benchmark, header, judgements),
        counts={
            "asked": header.samples,
            "answered": len(judgements),
            "missing": header.samples - len(judgements),
            **{status: statuses[status] for status in (UNPARSED, EMPTY, FAILED)},
            **counts,
        },
        notes=tuple(notes),
        responses=tuple(responses),
    )


def _official(
    benchmark: Benchmark, header: RunHeader, judgements: Sequence[Judgement]
) -> Dict[str, Mapping[str, Json]]:
    if not header.settings.get("pictures"):
        return {AS_GIVEN: benchmark.official(header, judgements)}
    found = {}
    for condition in dict.fromkeys(cell.condition for cell in header.cells):
        cells = tuple(cell for cell in header.cells if cell.condition == condition)
        found[condition] = benchmark.official(
            dataclasses.replace(header, cells=cells),
            [item for item in judgements if item.condition == condition],
        )
    return found
