"""What every judge and every scorer does: answers in, verdicts out."""

import abc
from dataclasses import dataclass, field
from typing import Callable, Mapping, Optional, Sequence, Tuple

from regap_benchmarks.judges.judge_options import JudgeOptions, flag
from regap_benchmarks.judges.request_cost import RequestCost
from regap_benchmarks.metrics import Metric
from regap_benchmarks.records import SCORED, Json, Response


@dataclass(frozen=True)
class Verdict:
    """On one answer.

    Attributes:
        values: by metric value, each from 0 to 1; see `Judgement.values`. Beside another status
            than "scored" only where the published rule gives such answers a value
            (`Metric.official`).
        status: "scored", "unparsed", or, of a scorer for which an empty answer is a wrong one,
            "scored" for that too.
        explanation: why.
        raw: what a judging model wrote.
        scores: see `Judgement.scores`.
    """

    values: Mapping[str, float] = field(default_factory=dict)
    status: str = SCORED
    explanation: str = ""
    raw: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)


class Judge(abc.ABC):
    """Judges answers of any task, or scores those of one.

    Attributes:
        name: as in `--judge NAME`; a scorer has its task's name.
        judges_empty: whether empty answers are shown to it. A scorer says True: an empty answer is
            a wrong one. Of a judge of safety, an empty answer is a gap, neither safe nor unsafe.
        kept_after: verdicts that are written together at most, where each is dear, such as one of
            a paid server; None for the caller's number.
        more_values: names of values that no metric is named after, but a statistic reads.
    """

    name: str
    judges_empty: bool = False
    kept_after: Optional[int] = None
    more_values: Sequence[str] = ()

    @property
    @abc.abstractmethod
    def metrics(self) -> Sequence[Metric]:
        """What is estimated from its verdicts."""

    @abc.abstractmethod
    def describe(self) -> Mapping[str, Json]:
        """What decides its verdicts: phrases or their hash, model, threshold, prompt."""

    @abc.abstractmethod
    def judge(self, responses: Sequence[Response]) -> Sequence[Verdict]:
        """One verdict for each answer, in order."""

    def cost(self, responses: Sequence[Response]) -> Optional[RequestCost]:
        """What judging these would cost, estimated before it begins; None where it costs nothing.

        Raises:
            ValueError: more than the user allows.
        """
        return None

    def spent(self) -> str:
        """What a paid server counted, in words; empty where nothing is paid."""
        return ""

    def close(self) -> None:  # noqa: B027  (most judges hold nothing)
        """Give back what the judge holds."""


def no_check(options: JudgeOptions) -> None:
    """Of a judge that runs anywhere."""


@dataclass(frozen=True)
class JudgeCard:
    """What `regap-bench judges NAME` says of a judge that is a model.

    Attributes:
        model_class: that loads it.
        prompt: where its words come from, and how they are filled.
        parser: what of the model's words is read.
        decision: what makes an answer unsafe.
        version: of the prompt or the code that was followed, as a commit or hash where there is.
        licence: of weights and prompt.
        environment: versions that it needs.
    """

    model_class: str
    prompt: str
    parser: str
    decision: str
    version: str
    licence: str
    environment: str


@dataclass(frozen=True)
class JudgeKind:
    """A judge, by name.

    Attributes:
        name: lower case with underscores.
        summary: one line for `regap-bench judges`.
        needs: what must be installed or reachable, as a user would say it.
        source: where the phrases or the prompt were published.
        load: makes the judge; heavy imports belong here. Called with the `JudgeOptions` if the
            judge takes any, and without arguments otherwise.
        options: names of the `JudgeOptions` that the judge takes.
        check: raises before anything is generated or loaded: `ValueError` for options that cannot
            be used, `MissingRequirementError` where the judge cannot run; imports nothing heavy.
        reads_question: whether it is shown the question; see `judge_question`.
        sees_pictures: whether it is shown the sample's pictures.
        card: of a judge that is a model.
    """

    name: str
    summary: str
    needs: str
    source: str
    load: Callable[..., Judge]
    options: Tuple[str, ...] = ()
    check: Callable[[JudgeOptions], None] = no_check
    reads_question: bool = False
    sees_pictures: bool = False
    card: Optional[JudgeCard] = None

    def make(self, options: JudgeOptions) -> Judge:
        """The judge, loaded."""
        return self.load(options) if self.options else self.load()


def check_options(kinds: Sequence[JudgeKind], options: JudgeOptions) -> None:
    """Refuse options that would be ignored or mixed up among judges, and let judges check.

    Raises:
        ValueError: names the option.
        MissingRequirementError: a judge that cannot run here.
    """
    names = ", ".join(kind.name for kind in kinds)
    for option in options.given():
        if not any(option in kind.options for kind in kinds):
            raise ValueError(
                f"{flag(option)}: expected with a judge that takes it, found with {names}. Leave"
                " it out, or name another judge."
            )
    prompted = [kind.name for kind in kinds if "prompt" in kind.options]
    if options.prompt is not None and len(prompted) > 1:
        raise ValueError(
            f"--judge-prompt: expected with one judge that takes it, found {', '.join(prompted)},"
            " which have prompts of their own. Run regap-bench judge once for each; no answer is"
            " asked again."
        )
    for kind in kinds:
        kind.check(options_for(kind, kinds, options))


def options_for(kind: JudgeKind, kinds: Sequence[JudgeKind], options: JudgeOptions) -> JudgeOptions:
    """The options as one of several judges gets them.

    Raises:
        ValueError: see `JudgeOptions.of_judge`.
    """
    return options.of_judge(kind.name, [each.name for each in kinds if "model" in each.options])
