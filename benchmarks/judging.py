"""Responses and a judge make `judgements.JUDGE.jsonl`: resumable, and never a generation again."""

import dataclasses
import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, List, Optional, Sequence, Tuple

from regap_benchmarks.judges.judge import Judge, Verdict
from regap_benchmarks.metrics import judge_header
from regap_benchmarks.record_file import RecordFile, RecordFileError
from regap_benchmarks.records import (
    EMPTY,
    ERROR,
    FAILED,
    SCORED,
    STATUSES,
    Judgement,
    Response,
    RunHeader,
)

Progress = Callable[[int, int], None]


class JudgeError(RuntimeError):
    """A judge whose verdicts are not verdicts, or that cannot go on.

    Attributes:
        finished: of the batch in which it stopped, the verdicts that were made; None for the
            others. They are kept, as they may have been paid for.
    """

    def __init__(self, message: str, finished: Sequence[Optional[Verdict]] = ()) -> None:
        super().__init__(message)
        self.finished = tuple(finished)


@dataclass(frozen=True)
class JudgingSummary:
    """What a call of `judge_responses` did.

    Attributes:
        judged: answers that have a judgement now.
        found: judgements that an earlier call had written.
        by_status: how many have each status.
    """

    judged: int
    found: int
    by_status: Dict[str, int]


def judge_responses(
    header: RunHeader,
    responses: Sequence[Response],
    judge: Judge,
    *,
    path: Path,
    tasks: Optional[Sequence[str]] = None,
    batch_size: int = 64,
    progress: Progress = lambda done, total: None,
    before: Callable[[Judge, Sequence[Response]], None] = lambda judge, shown: None,
) -> JudgingSummary:
    """Judge every answer that the file does not hold yet.

    Args:
        header: of the responses.
        responses: of a run; answers that are missing stay missing and are counted by estimates.
        judge: answers that ended in an error are not shown to it, empty ones only if it says so.
        path: the file to write or continue.
        tasks: those that are judged; None for all.
        batch_size: answers that are judged together, at most; fewer where the judge says so.
        progress: told after every batch.
        before: told, before the first batch, of the answers that will be shown to the judge; may
            refuse by an exception.

    Raises:
        JudgeError: another number of verdicts than answers, a value that is not from 0 to 1, an
            unknown status or metric.
        RecordFileError: the file is another run's or judge's, holds judgements of answers that
            have changed since, or cannot be written.
    """
    cells = tuple(cell for cell in header.cells if tasks is None or cell.task in tasks)
    described = judge_header(judge.name, judge.describe(), judge.metrics)
    own = dataclasses.replace(header, cells=cells, judge=described)
    asked = [item for item in responses if tasks is None or item.sample.task in tasks]
    statuses = dict.fromkeys(STATUSES, 0)
    with RecordFile(path, Judgement, own) as file:
        done = {judgement.key: judgement for judgement in file.records}
        _check_unchanged(path, asked, done)
        for judgement in file.records:
            statuses[judgement.status] += 1
        left = [response for response in asked if response.sample.key not in done]
        finished = len(done)
        try:
            before(judge, shown_to(judge, left))
        except BaseException:
            if not done:
                path.unlink(missing_ok=True)  # nothing was judged: no file of judgements
            raise
        progress(finished, len(asked))
        size = min(batch_size, judge.kept_after or batch_size)
        for start in range(0, len(left), size):
            batch = left[start : start + size]
            try:
                judgements = judge_batch(judge, batch)
            except JudgeError as error:
                file.append(_finished(judge, batch, error))
                raise
            file.append(judgements)
            for judgement in judgements:
                statuses[judgement.status] += 1
            finished += len(judgements)
            progress(finished, len(asked))
    return JudgingSummary(finished, len(done), statuses)


def answer_sha256(response: Response) -> str:
    """Identifies an answer, so that a judgement of another one is found out."""
    return hashlib.sha256(f"{response.finish}\n{response.text}".encode()).hexdigest()[:16]


def _check_unchanged(
    path: Path, responses: Sequence[Response], done: Dict[Tuple[str, str], Judgement]
) -> None:
    hashes = {response.sample.key: answer_sha256(response) for response in responses}
    changed = [key for key, judgement in done.items() if hashes.get(key) != judgement.answer_sha256]
    if changed:
        raise RecordFileError(
            f"{path}: expected judgements of the run's present answers, found {len(changed)} of"
            f" answers that have changed or gone since, such as {changed[0][1]!r}. Judge all again"
            " with --overwrite."
        )


def judge_batch(judge: Judge, responses: Sequence[Response]) -> List[Judgement]:
    """Judge some answers together, in order.

    Raises:
        JudgeError: see `judge_responses`.
    """
    shown = shown_to(judge, responses)
    verdicts = list(judge.judge(shown)) if shown else []
    if len(verdicts) != len(shown):
        raise JudgeError(
            f"Judge {judge.name!r}: expected {len(shown)} verdicts, found {len(verdicts)}. Mend the"
            " judge; nothing of this batch was written."
        )
    known, official = _allowed(judge)
    by_key = {}
    for response, verdict in zip(shown, verdicts):
        _check(judge, response, verdict, known, official)
        by_key[response.sample.key] = verdict
    return [_judgement(judge, response, by_key.get(response.sample.key)) for response in responses]


def shown_to(judge: Judge, responses: Sequence[Response]) -> List[Response]:
    """Of some answers those that the judge is shown: no failed ones, and empty ones by its will."""
    return [response for response in responses if _unjudged(judge, response) is None]


def _finished(judge: Judge, responses: Sequence[Response], error: JudgeError) -> List[Judgement]:
    shown = shown_to(judge, responses)
    if len(error.finished) != len(shown):
        return []
    known, official = _allowed(judge)
    kept = []
    for response, verdict in zip(shown, error.finished):
        if verdict is not None:
            _check(judge, response, verdict, known, official)
            kept.append(_judgement(judge, response, verdict))
    return kept


def _allowed(judge: Judge) -> Tuple["set[str]", bool]:
    known = {metric.value for metric in judge.metrics} | set(judge.more_values)
    return known, any(metric.official for metric in judge.metrics)


def _unjudged(judge: Judge, response: Response) -> Optional[str]:
    if response.finish == ERROR:
        return FAILED
    if not response.text.strip() and not judge.judges_empty:
        return EMPTY
    return None


def _check(
    judge: Judge, response: Response, verdict: Verdict, known: "set[str]", official: bool
) -> None:
    wrong = None
    if verdict.status not in STATUSES:
        wrong = f"the status {verdict.status!r}"
    elif {*verdict.values, *verdict.scores} - known:
        wrong = f"the values {sorted({*verdict.values, *verdict.scores} - known)}"
    elif verdict.status == SCORED and not verdict.values:
        wrong = "no value"
    elif verdict.status != SCORED and verdict.values and not official:
        wrong = f"values beside the status {verdict.status!r}"
    else:
        for name, value in (*verdict.values.items(), *verdict.scores.items()):
            if not (math.isfinite(value) and 0 <= value <= 1):
                wrong = f"{name} = {value}"
    if wrong:
        raise JudgeError(
            f"Judge {judge.name!r}, sample {response.sample.id!r} of {response.sample.task!r}:"
            f" expected a status of {', '.join(STATUSES)} and, of a scored answer only, values from"
            f" 0 to 1 of {sorted(known)}, found {wrong}. Mend the judge; nothing of this batch was"
            " written."
        )


def _judgement(judge: Judge, response: Response, verdict: Optional[Verdict]) -> Judgement:
    if verdict is None:
        status = _unjudged(judge, response) or FAILED
        verdict = Verdict(status=status, explanation=response.error)
    sample = response.sample
    return Judgement(
        task=sample.task,
        id=sample.id,
        request=sample.request,
        condition=sample.condition,
        category=sample.category,
        harmful=sample.harmful,
        judge=judge.name,
        status=verdict.status,
        values=dict(verdict.values),
        explanation=verdict.explanation,
        raw=verdict.raw,
        answer_sha256=answer_sha256(response),
        scores=dict(verdict.scores),
    )
