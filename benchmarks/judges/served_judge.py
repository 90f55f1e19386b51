"""The base of rubric judges behind a server: messages, requests, reading, one small file each.

The last verdict of a reply wins, as such models quote the scale that they were given; what divides
the rubric is broken in the judged text (`marks.py`); a reply that cannot be read is "unparsed" and
kept. A request that the server refuses, such as one that is too long, is "failed". Anything else
that goes wrong ends the judging: no other model, prompt or rule takes over. What is judged is kept.
"""

import abc
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from regap_benchmarks.chat_completions import (
    ChatCompletions,
    ChatServerError,
    Completion,
    RefusedRequestError,
)
from regap_benchmarks.judges.judge import Judge, Verdict
from regap_benchmarks.judges.judge_options import JudgeOptions, flag
from regap_benchmarks.judges.marks import Marks
from regap_benchmarks.judges.request_cost import RequestCost, estimate_cost, price_of
from regap_benchmarks.judging import JudgeError
from regap_benchmarks.records import FAILED, UNPARSED, Json, Response

KEY = "REGAP_JUDGE_KEY"
SERVER_OPTIONS = (
    *("model", "url", "batch_size", "price_in", "price_out", "most_price", "per_minute"),
)
NEEDS = "a server with OpenAI's chat completions (--judge-url, --judge-model)"
ANYWHERE = "any: Python's standard library alone"
REQUESTS_AT_ONCE = 4
_TEMPERATURE, _SEED = 0.0, 0


class ServedJudge(Judge):
    """Asks a model for a verdict, several requests at once.

    Args:
        options: checked by `check_server`.
        server: in place of the one that the options name.

    Attributes:
        marks, mark_patterns: what divides the rubric; see `Marks`.
        most_tokens: of a reply.
    """

    marks: Sequence[str] = ()
    mark_patterns: Sequence[str] = ()
    most_tokens: int = 1024

    def __init__(self, options: JudgeOptions, server: Optional[ChatCompletions] = None) -> None:
        assert options.model is not None  # by check_server
        assert options.url is not None
        self._options = options
        self._model = options.model
        self._server = server or ChatCompletions(
            options.url, os.environ.get(KEY, ""), per_minute=options.per_minute
        )
        self._at_once = options.batch_size or REQUESTS_AT_ONCE
        self.kept_after = self._at_once
        self._marks = Marks(self.marks, self.mark_patterns)
        self._lock = threading.Lock()
        self._tokens_in = self._tokens_out = self._answered = 0

    @abc.abstractmethod
    def messages(self, response: Response) -> Tuple[List[Dict[str, str]], str]:
        """The messages of the request, and a note on what was shown.

        Raises:
            ValueError: the rubric cannot be asked of this sample.
        """

    @abc.abstractmethod
    def read(self, text: str) -> Optional[Verdict]:
        """The last verdict in a reply; None where there is none."""

    def unreadable(self) -> Mapping[str, float]:
        """Values that the published rule gives a reply that cannot be read."""
        return {}

    def describe(self) -> Mapping[str, Json]:
        """The model and how it is asked; neither server nor key decide the verdicts."""
        return {
            "model": self._model,
            "temperature": _TEMPERATURE,
            "seed": _SEED,
            "most_tokens": self.most_tokens,
        }

    def cost(self, responses: Sequence[Response]) -> RequestCost:
        """See `Judge`. Every request is made up once, so that a sample without one is told now."""
        prompts = [[each["content"] for each in self.messages(one)[0]] for one in responses]
        options = self._options
        found = estimate_cost(
            prompts,
            most_tokens=self.most_tokens,
            price_in=options.price_in,
            price_out=options.price_out,
        )
        if options.most_price is not None and (found.price or 0.0) > options.most_price:
            raise ValueError(
                f"{flag('most_price')} {options.most_price:g}: expected judging below it, found"
                f" {found}. Judge fewer answers, raise it, or choose a cheaper model."
            )
        return found

    def spent(self) -> str:
        """See `Judge`."""
        if not self._answered:
            return ""
        said = (
            f"{self._answered} replies, {self._tokens_in} tokens of prompts and {self._tokens_out}"
            " of replies by the server's own count"
        )
        price_in, price_out = self._options.price_in, self._options.price_out
        if price_in is None or price_out is None:
            return said
        price = price_of(self._tokens_in, self._tokens_out, price_in, price_out)
        return f"{said}, {price:.4g} at the prices given"

    def judge(self, responses: Sequence[Response]) -> Sequence[Verdict]:
        """Ask for all, so many at once, and read each."""
        asked = [self.messages(response) for response in responses]
        verdicts: List[Optional[Verdict]] = [None] * len(asked)
        errors: List[ChatServerError] = []

        def ask(number: int) -> None:
            if errors:
                return  # do not pay for what is going to be told as an error
            messages, note = asked[number]
            try:
                verdicts[number] = self._verdict(self._ask(messages), note)
            except RefusedRequestError as error:
                try:
                    self._check_that_others_pass(error)
                except ChatServerError as fatal:
                    errors.append(fatal)
                    return
                said = f"the server refused this request: {error}; {note}"
                verdicts[number] = Verdict(status=FAILED, explanation=said)
            except ChatServerError as error:
                errors.append(error)

        with ThreadPoolExecutor(self._at_once) as pool:
            list(pool.map(ask, range(len(asked))))
        if errors:
            raise JudgeError(
                f"Judge {self.name!r}, model {self._model!r} at {self._server.url}: expected a chat"
                f" completion, {errors[0]}. Mend {flag('url')}, {flag('model')} or {KEY}, and judge"
                " again: what is judged is kept.",
                verdicts,
            )
        return [verdict for verdict in verdicts if verdict is not None]

    def _ask(self, messages: Sequence[Mapping[str, str]], most: Optional[int] = None) -> Completion:
        body: Dict[str, Any] = {
            "model": self._model,
            "messages": list(messages),
            "temperature": _TEMPERATURE,
            "seed": _SEED,
            "max_tokens": most or self.most_tokens,
        }
        found = self._server.complete(body)
        with self._lock:
            self._answered += 1
            self._tokens_in += found.prompt_tokens or 0
            self._tokens_out += found.completion_tokens or 0
        return found

    def _check_that_others_pass(self, refused: RefusedRequestError) -> None:
        """Tell one request that is refused from settings that the server takes for none."""
        if self._answered:
            return
        try:
            self._ask([{"role": "user", "content": "Say: ready."}])
        except RefusedRequestError:
            raise refused from None

    def _verdict(self, completion: Completion, note: str) -> Verdict:
        if completion.served_by:
            note = f"{note}; answered by {completion.served_by}"
        if completion.finish == "length":
            note = f"{note}; reply cut at {self.most_tokens} tokens"
        found = self.read(completion.text)
        if found is None:
            return Verdict(
                self.unreadable(),
                status=UNPARSED,
                explanation=f"no verdict in it; {note}",
                raw=completion.text,
            )
        said = "; ".join(part for part in (found.explanation, note) if part)
        return Verdict(found.values, found.status, said, completion.text, found.scores)

    def _broken(self, text: str) -> Tuple[str, str]:
        """The text with the rubric's marks broken, and a note on it."""
        broken, number = self._marks.broken(text)
        return broken, f"; {number} marks of the rubric broken" if number else ""


def check_server(options: JudgeOptions, judge: str) -> None:
    """Refuse, before anything is sent, a judge without a server.

    Raises:
        ValueError: no URL, or no model.
    """
    for name, what in (("url", "the URL of a server"), ("model", "the model's name there")):
        if getattr(options, name) is None:
            raise ValueError(
                f"Judge {judge!r}: expected {what}, found none. Pass {flag('url')} and"
                f" {flag('model')}, and the key as {KEY} where the server asks for one."
            )
    priced = options.price_in is not None and options.price_out is not None
    if options.most_price is not None and not priced:
        raise ValueError(
            f"{flag('most_price')}: expected with {flag('price_in')} and {flag('price_out')},"
            " without which there is no price, found without. Pass both."
        )
