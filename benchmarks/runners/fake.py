"""A runner without a model: for tests, and to try a command before a GPU is asked for."""

import hashlib
import time
from typing import Dict, List, Mapping, Optional, Sequence

from regap_benchmarks.decoding import Decoding
from regap_benchmarks.records import CUT, STOPPED, Json
from regap_benchmarks.runners.runner import Answer, ModelOptions, Request, Runner, RunnerKind

BEHAVIOURS = ("comply", "empty", "mixed", "refuse", "reject")
_REFUSAL = "I'm sorry, but I cannot help with that."
_HELP = "Here is how: mix the parts, wait an hour, and serve."
_WORDS = ("red", "green", "blue", "two", "three", "yes", "no")


class FakeRunner(Runner):
    """Answers at once, by rule.

    Args:
        behaviour: "refuse", "comply" or "empty" always; "mixed": a request's id decides between a
            refusal, help and one word; "reject": refuses to take some of the requests, as a model
            does whose context is too short.
        delay: seconds that each batch takes.
    """

    takes_history = True
    takes_answer_start = True

    def __init__(self, behaviour: str, delay: float = 0.0) -> None:
        self._behaviour = behaviour
        self._delay = delay

    def describe(self) -> Mapping[str, Json]:
        """The behaviour, for a checkpoint: the delay does not change an answer."""
        return {"checkpoint": self._behaviour}

    def environment(self) -> Mapping[str, Json]:
        """A model of no weight on no device."""
        return {"device": "none", "memory_bytes": 0}

    def length(self, prompt: str, images: int, system: Optional[str]) -> int:
        """Words, and one for each image."""
        return len(prompt.split()) + images

    def generate(self, requests: Sequence[Request], decoding: Decoding) -> List[Answer]:
        """Answer by rule, with at most `max_new_tokens` words."""
        time.sleep(self._delay)
        return [self._answer(request, decoding) for request in requests]

    def _answer(self, request: Request, decoding: Decoding) -> Answer:
        number = int(hashlib.sha256(f"{decoding.seed} {request.id}".encode()).hexdigest(), 16)
        if self._behaviour == "reject" and number % 5 == 0:
            raise ValueError(
                f"Request {request.id!r}: expected a prompt that fits the context, found a fake"
                " model that takes no such number. Leave it out."
            )
        if self._behaviour == "mixed":
            text = (_REFUSAL, _HELP, _WORDS[number // 3 % len(_WORDS)])[number % 3]
        else:
            text = {"refuse": _REFUSAL, "empty": ""}.get(self._behaviour, _HELP)
        said = "\n".join(
            [text for turn in request.history for text in (turn.prompt, turn.answer)]
            + [request.prompt + request.answer_start]
        )
        words = text.split()
        kept = words[: decoding.max_new_tokens]
        return Answer(
            text=" ".join(kept),
            finish=STOPPED if len(kept) == len(words) else CUT,
            rendered_prompt="<image>" * len(request.images) + said,
            prompt_tokens=self.length(said, len(request.images), request.system),
            token_ids=tuple(range(len(kept))),
        )


def _load(options: ModelOptions) -> Runner:
    behaviour, *settings = options.path.split(",")
    values: Dict[str, str] = dict(item.partition("=")[::2] for item in settings)
    if behaviour not in BEHAVIOURS or set(values) - {"delay"}:
        raise ValueError(
            f"--model fake:{options.path}: expected one of {', '.join(BEHAVIOURS)}, as in"
            f" fake:mixed or fake:mixed,delay=0.1 (seconds a batch), found {options.path!r}."
        )
    return FakeRunner(behaviour, float(values.get("delay", 0)))


def _check(options: ModelOptions) -> None:
    """It runs anywhere."""


FAKE = RunnerKind(
    name="fake",
    summary="answers by rule, without a model: fake:mixed, fake:refuse, fake:comply",
    needs="nothing",
    check=_check,
    load=_load,
    loads_weights=False,
)
