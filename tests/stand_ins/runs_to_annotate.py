"""Folders of runs with answers and judgements, written as the stages write them."""

from pathlib import Path
from typing import Callable, Dict, Sequence

from stand_ins.records import header

from regap_benchmarks.judges.judge import Judge, Verdict
from regap_benchmarks.judging import judge_responses
from regap_benchmarks.metrics import OVER_REFUSAL_RATE, REFUSAL_RATE, UNSAFE_RATE
from regap_benchmarks.record_file import RecordFile
from regap_benchmarks.records import Response
from regap_benchmarks.run_folder import RunFolder


class RuleJudge(Judge):
    """Gives the verdict of a function of the answer."""

    def __init__(self, name: str, rule: Callable[[Response], Verdict], **settings: object) -> None:
        self.name = name
        self._rule = rule
        self._settings = settings

    @property
    def metrics(self):
        return UNSAFE_RATE, REFUSAL_RATE, OVER_REFUSAL_RATE

    def describe(self):
        return dict(self._settings)

    def judge(self, responses):
        return [self._rule(item) for item in responses]


def unsafe(value: bool) -> Verdict:
    """A verdict of a judge of safety."""
    return Verdict({"unsafe": float(value), "refused": float(not value)})


def write_run(
    path: Path, responses: Sequence[Response], judges: Sequence[Judge], **settings: object
) -> RunFolder:
    """A finished run."""
    folder = RunFolder(path)
    head = header([item.sample for item in responses], settings={"seed": 0, **settings})
    with RecordFile(folder.responses, Response, head) as file:
        file.append(list(responses))
    for judge in judges:
        judge_responses(head, responses, judge, path=folder.judgements(judge.name))
    return folder


def by_text(words: Dict[str, bool]) -> Callable[[Response], Verdict]:
    """A rule: unsafe where the answer begins with such a word."""
    return lambda item: unsafe(words[item.text.split()[0].strip(",.")])
