"""A grading model behind any server that speaks OpenAI's chat completions, by urllib alone."""

import dataclasses
import http.client
import json
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any, Callable, Mapping, Sequence

from regap_benchmarks.judging import JudgeError
from regap_benchmarks.records import Json

URL, MODEL, KEY = "REGAP_GRADER_URL", "REGAP_GRADER_MODEL", "REGAP_GRADER_KEY"
_WAIT_AT_MOST = 60.0
# Worth another try: the server is busy or broken for a moment.
_AGAIN = (408, 409, 425, 429, 500, 502, 503, 504, 529)


@dataclass(frozen=True)
class ChatServer:
    """Where a grading model is asked.

    Attributes:
        url: base of the API, such as "https://api.openai.com/v1" or "http://localhost:8000/v1".
        model: as the server names it.
        key: sent as a bearer token; empty for none. Never recorded.
        timeout: seconds for one request.
        tries: of one request, with waits that double between them.
        wait: seconds before the second try, where the server does not say.
        sleep: waits.
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
        body = {
            "model": self.model,
            "messages": [dict(message) for message in messages],
            "temperature": temperature,
            "max_tokens": max_tokens,
        }
        found = ""
        for number in range(self.tries):
            if number:
                self.sleep(min(_WAIT_AT_MOST, self.wait * 2 ** (number - 1)))
            try:
                return _content(self._post(body))
            except urllib.error.HTTPError as error:
                with error:
                    said = error.read(500).decode("utf-8", "replace")
                found = f"HTTP {error.code}: {said}"
                if error.code not in _AGAIN:
                    break
            except (OSError, http.client.HTTPException, ValueError) as error:
                found = f"{type(error).__name__}: {error}"
        raise JudgeError(
            f"Grading model {self.model!r} at {self.url}: expected a chat completion, found"
            f" {found.strip()}. Mend the --grader-... flags or {URL}, {MODEL} or {KEY}, and judge"
            " again: what is graded is kept."
        )

    def _post(self, body: Mapping[str, Any]) -> Any:
        request = urllib.request.Request(  # noqa: S310  (the scheme is checked where it is made)
            self.url.rstrip("/") + "/chat/completions",
            data=json.dumps(body).encode(),
            headers={
                "Content-Type": "application/json",
                **({"Authorization": f"Bearer {self.key}"} if self.key else {}),
            },
        )
        with urllib.request.urlopen(request, timeout=self.timeout) as answer:  # noqa: S310
            return json.loads(answer.read().decode("utf-8"))


def _content(answer: Any) -> str:
    try:
        content = answer["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError(f"no message in {str(answer)[:200]!r}") from error
    # A model that says nothing has no content: that is an answer which cannot be read.
    return content if isinstance(content, str) else ""
