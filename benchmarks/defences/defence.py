"""What every defence at inference is: a runner that asks another one, differently or more often.

Defences stack: each is a `Runner` around the next one, the innermost around the model, and what
each call of the model costs is counted where it is made.
"""

import abc
import dataclasses
import time
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from regap_benchmarks.answer_cost import Cost, DefenceStep, total
from regap_benchmarks.decoding import Decoding
from regap_benchmarks.records import Json
from regap_benchmarks.runners.runner import Answer, Request, Runner


class Defence(Runner):
    """A defended model. Made by a `DefenceKind`.

    Args:
        inner: the model, or a defended one.

    Attributes:
        name: as in `--defence NAME`.
        inner: what it asks.
    """

    name: str

    def __init__(self, inner: Runner) -> None:
        self.inner = inner
        self.takes_history = inner.takes_history
        self.takes_answer_start = inner.takes_answer_start

    @abc.abstractmethod
    def settings(self) -> Mapping[str, Json]:
        """What of the defence decides the answers, for the run's header: prompts, thresholds."""

    @abc.abstractmethod
    def generate(self, requests: Sequence[Request], decoding: Decoding) -> List[Answer]:
        """See `Runner`; the answers carry the cost of all calls of the model, and the steps."""

    def describe(self) -> Mapping[str, Json]:
        """Of the model; the defence's own settings stand beside it."""
        return self.inner.describe()

    def environment(self) -> Mapping[str, Json]:
        """Of the model."""
        return self.inner.environment()

    def length(self, prompt: str, images: int, system: Optional[str]) -> int:
        """Of the prompt as the model would get it first, where the defence changes it."""
        return self.inner.length(prompt, images, system)

    def release_memory(self) -> None:
        """See `Runner`."""
        self.inner.release_memory()

    def close(self) -> None:
        """See `Runner`."""
        self.inner.close()

    def ask(
        self, step: str, requests: Sequence[Request], decoding: Decoding, **changes: Sequence[Any]
    ) -> List[Answer]:
        """Ask the inner runner in a step of the defence, with random numbers of its own.

        Args:
            step: goes into the requests' ids.
            requests: to begin with.
            decoding: of the step.
            changes: fields of the requests that are others in this step, a value for each request.
        """
        asked = []
        for index, request in enumerate(requests):
            fields: Dict[str, Any] = {name: values[index] for name, values in changes.items()}
            fields["id"] = f"{request.id}/{self.name}:{step}"
            asked.append(dataclasses.replace(request, **fields))
        return self.inner.generate(asked, decoding) if asked else []


@dataclass(frozen=True)
class DefenceKind:
    """A defence at inference, by name: `--defence NAME`.

    Attributes:
        name: lower case with underscores.
        summary: one line for `regap-bench defences`.
        needs: what must be there, as a user would say it.
        source: paper, code.
        cost: what it costs, in calls of the model for a request.
        load: puts it around a runner.
        check: raises `MissingRequirementError` where it cannot run; imports nothing heavy.
    """

    name: str
    summary: str
    needs: str
    source: str
    cost: str
    load: Callable[[Runner], Defence]
    check: Callable[[], None] = lambda: None


class Metered(Runner):
    """A model whose calls are counted; it stands inside of all defences.

    Args:
        inner: the model.
    """

    def __init__(self, inner: Runner) -> None:
        self._inner = inner
        self.takes_history = inner.takes_history
        self.takes_answer_start = inner.takes_answer_start

    def describe(self) -> Mapping[str, Json]:
        """Of the model."""
        return self._inner.describe()

    def environment(self) -> Mapping[str, Json]:
        """Of the model."""
        return self._inner.environment()

    def length(self, prompt: str, images: int, system: Optional[str]) -> int:
        """Of the model."""
        return self._inner.length(prompt, images, system)

    def generate(self, requests: Sequence[Request], decoding: Decoding) -> List[Answer]:
        """Each answer with its own tokens and its share of the batch's time."""
        started = time.perf_counter()
        answers = self._inner.generate(requests, decoding)
        seconds = (time.perf_counter() - started) / max(len(requests), 1)
        return [
            dataclasses.replace(
                answer,
                cost=Cost(1, answer.prompt_tokens, _new_tokens(answer), seconds),
            )
            for answer in answers
        ]

    def release_memory(self) -> None:
        """Of the model."""
        self._inner.release_memory()

    def close(self) -> None:
        """Of the model."""
        self._inner.close()


class Defended(Defence):
    """A stack of defences as one runner; it stands outside of all of them.

    Args:
        model: without a defence.
        kinds: the first sees the request first and the answer last; the last stands before the
            model.
    """

    name = "defended"

    def __init__(self, model: Runner, kinds: Sequence[DefenceKind]) -> None:
        self._model = model
        runner: Runner = Metered(model)
        self._stack: List[Tuple[str, Defence]] = []
        for kind in reversed(kinds):
            defence = kind.load(runner)
            self._stack.insert(0, (kind.name, defence))
            runner = defence
        super().__init__(runner)

    def settings(self) -> Mapping[str, Json]:
        """By place in the stack, such as "1 ecso", what decides the answers."""
        return {
            f"{place} {name}": dict(defence.settings())
            for place, (name, defence) in enumerate(self._stack, start=1)
        }

    def generate(self, requests: Sequence[Request], decoding: Decoding) -> List[Answer]:
        """See `Runner`."""
        return [
            dataclasses.replace(answer, cost=self._with_plain(request, answer.cost))
            for request, answer in zip(requests, self.inner.generate(requests, decoding))
        ]

    def _with_plain(self, request: Request, cost: Optional[Cost]) -> Cost:
        said = [text for turn in request.history for text in (turn.prompt, turn.answer)]
        text = "\n".join((*said, request.prompt))
        plain = self._model.length(text, len(request.images), request.system)
        return dataclasses.replace(cost or Cost(), plain_prompt_tokens=plain)


def joined(answer: Answer, before: Sequence[Answer], steps: Sequence[DefenceStep] = ()) -> Answer:
    """An answer with the cost and the steps of what was asked before it.

    Args:
        answer: what is given.
        before: other answers to this request.
        steps: of the defence itself; they follow those of its inner one.
    """
    every = [*before, answer]
    costs = [each.cost for each in every if each.cost is not None]
    inner = [step for each in every for step in each.steps]
    return dataclasses.replace(answer, cost=total(costs), steps=(*inner, *steps))


def check_defences(kinds: Sequence[DefenceKind]) -> None:
    """Refuse what cannot run here, before a model is loaded.

    Raises:
        ValueError: a defence that is named twice.
        MissingRequirementError: one that cannot run here.
    """
    names = [kind.name for kind in kinds]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(
            f"--defence: expected each defence once, found {', '.join(twice)} twice in"
            f" {', '.join(names)}. Name it once."
        )
    for kind in kinds:
        kind.check()


def _new_tokens(answer: Answer) -> int:
    return len(answer.token_ids) if answer.new_tokens is None else answer.new_tokens
