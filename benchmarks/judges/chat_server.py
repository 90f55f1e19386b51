"""A grading model behind any server that speaks OpenAI's chat completions."""

import dataclasses
import time
from dataclasses import dataclass
from typing import Callable, Mapping, Sequence

from regap_benchmarks.chat_completions import ChatCompletions, ChatServerError
from regap_benchmarks.judging import JudgeError
from regap_benchmarks.records import Json

URL, MODEL, KEY = "REGAP_GRADER_URL", "REGAP_GRADER_MODEL", "REGAP_GRADER_KEY"


@dataclass(frozen=True)
class ChatServer:
    """Where a grading model is asked.

    Attributes:
        url: base of the API, such as "https://api.openai.com/v1" or "http://localhost:8000/v1".
        model: as the server names it.
        key: sent as a bearer token; empty for none. Never recorded.
        timeout, tries, wait, sleep: see `ChatCompletions`.
    """

    url: str
    model: str
    key: str = dataclasses.field(default="", repr=False)
    timeout: float = 120.0
    tries: int = 6
    wait: float = 1.0
    sleep: Callable[[float], None] = time.sleep

    def describe(self) -> Mapping[str, Json]:
        """What decides its grades. The key is no part of it."""
        return {"model": self.model}

    def ask(
        self, messages: Sequence[Mapping[str, str]], *, temperature: float, max_tokens: int
    ) -> str:
        """The text that the model answers.

        Raises:
            JudgeError: the server refuses, cannot be reached after all tries, or answers something
                else than a chat completion. What was graded before is kept.
        """
        server = ChatCompletions(
            self.url, self.key, self.timeout, self.tries, self.wait, sleep=self.sleep
        )
        body = {
            "model": self.model,
            "messages": [dict(message) for message in messages],
            "temperature": temperature,
            "max_tokens": max_tokens,
        }
        try:
            return server.complete(body).text
        except ChatServerError as error:
            raise JudgeError(
                f"Grading model {self.model!r} at {self.url}: expected a chat completion,"
                f" {error}. Mend the --grader-... flags or {URL}, {MODEL} or {KEY},"
                " and judge again: what is graded is kept."
            ) from error
