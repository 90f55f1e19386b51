"""A client of any server that speaks OpenAI's chat completions, by urllib alone.

What is worth another try is tried again, after the wait that the server names (`Retry-After`) or
one that doubles; nothing else is ever asked in its place: no other model, no other server.
"""

import email.utils
import http.client
import json
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Mapping, Optional

_WAIT_AT_MOST = 60.0
_SERVERS_WAIT_AT_MOST = 900.0
# Worth another try: the server is busy or broken for a moment.
_AGAIN = (408, 409, 425, 429, 500, 502, 503, 504, 529)
# Of one request's content, not of the server: another request may pass.
_OF_THIS_REQUEST = (400, 413, 422)


class ChatServerError(RuntimeError):
    """A server that cannot be asked, or answers something else than a chat completion."""


class RefusedRequestError(ChatServerError):
    """One request that the server does not take, such as one too long for the model."""


@dataclass(frozen=True)
class Completion:
    """What a model answered.

    Attributes:
        text: empty where the model said nothing.
        finish: the server's `finish_reason`; empty where it gives none.
        model: the model that answered, as the server names it.
        fingerprint: `system_fingerprint`; empty where the server gives none.
        prompt_tokens, completion_tokens: as the server counts; None where it does not.
    """

    text: str
    finish: str = ""
    model: str = ""
    fingerprint: str = ""
    prompt_tokens: Optional[int] = None
    completion_tokens: Optional[int] = None

    @property
    def served_by(self) -> str:
        """Model and fingerprint in one text."""
        return f"{self.model} ({self.fingerprint})" if self.fingerprint else self.model


class _Pace:
    """Lets requests begin no faster than so many a minute, over all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next = 0.0

    def wait(self, per_minute: Optional[float], sleep: Callable[[float], None]) -> None:
        if per_minute is None:
            return
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._next)
            self._next = turn + 60.0 / per_minute
        if turn > now:
            sleep(turn - now)


@dataclass(frozen=True)
class ChatCompletions:
    """Where a model is asked; may be used by several threads.

    Attributes:
        url: base of the API, such as "https://api.openai.com/v1" or "http://localhost:8000/v1".
        key: sent as a bearer token; empty for none. Never recorded.
        timeout: seconds for one request.
        tries: of one request, with waits that double between them.
        wait: seconds before the second try, where the server does not say.
        per_minute: requests that begin in a minute at most; None for no limit.
        sleep: waits.
    """

    url: str
    key: str = field(default="", repr=False)
    timeout: float = 120.0
    tries: int = 6
    wait: float = 1.0
    per_minute: Optional[float] = None
    sleep: Callable[[float], None] = time.sleep
    _pace: _Pace = field(default_factory=_Pace, repr=False, compare=False)

    def complete(self, body: Mapping[str, Any]) -> Completion:
        """Send one request.

        Args:
            body: of the request: model, messages and settings.

        Raises:
            RefusedRequestError: the server does not take this one.
            ChatServerError: the server refuses all, cannot be reached after all tries, or answers
                something else than a chat completion. Its message does not say what to do.
        """
        return _completion(self._ask("/chat/completions", body))

    def models(self) -> Optional[List[Mapping[str, Any]]]:
        """What the server says it serves; None where it has no such list.

        Raises:
            ChatServerError: as `complete`.
        """
        try:
            found = self._ask("/models", None)
        except _NotThereError:
            return None
        listed = found.get("data") if isinstance(found, dict) else None
        if not isinstance(listed, list):
            return None
        return [each for each in listed if isinstance(each, dict)]

    def _ask(self, path: str, body: Optional[Mapping[str, Any]]) -> Any:
        found, wait = "", 0.0
        for number in range(self.tries):
            if number:
                self.sleep(wait)
            wait = min(_WAIT_AT_MOST, self.wait * 2**number)
            self._pace.wait(self.per_minute, self.sleep)
            try:
                return self._send(path, body)
            except urllib.error.HTTPError as error:
                with error:
                    said = error.read(500).decode("utf-8", "replace").strip()
                found = f"HTTP {error.code}: {said}"
                if error.code in _OF_THIS_REQUEST:
                    raise RefusedRequestError(f"found {found}") from None
                if error.code in (404, 405) and body is None:
                    raise _NotThereError(f"found {found}") from None
                if error.code not in _AGAIN:
                    break
                wait = _asked_wait(error.headers.get("Retry-After"), wait)
            except (OSError, http.client.HTTPException, ValueError) as error:
                found = f"{type(error).__name__}: {error}"
        raise ChatServerError(f"found {found}")

    def _send(self, path: str, body: Optional[Mapping[str, Any]]) -> Any:
        request = urllib.request.Request(  # noqa: S310  (the scheme is checked where it is made)
            self.url.rstrip("/") + path,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Content-Type": "application/json",
                **({"Authorization": f"Bearer {self.key}"} if self.key else {}),
            },
        )
        with urllib.request.urlopen(request, timeout=self.timeout) as answer:  # noqa: S310
            found = json.loads(answer.read().decode("utf-8"))
        if body is not None:
            _content(found)  # a ValueError here is tried again
        return found


class _NotThereError(ChatServerError):
    """A server without that path."""


def check_url(url: str, flag: str) -> str:
    """Refuse what is no URL of a server.

    Args:
        url: as given.
        flag: that gave it, for the message.

    Raises:
        ValueError: another scheme than http and https, or no host.
    """
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(
            f"{flag}: expected the base of a server's API, such as http://localhost:8000/v1, found"
            f" {url!r}."
        )
    if parts.username or parts.password:
        raise ValueError(
            f"{flag}: expected a URL without a name and password, which would be recorded, found"
            " one with them. Pass the key by its environment variable."
        )
    return url


def _asked_wait(header: Optional[str], otherwise: float) -> float:
    """Seconds of a Retry-After, which is a number or a date; the server's word counts."""
    if not header:
        return otherwise
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(header).timestamp() - time.time()
        except (TypeError, ValueError):
            return otherwise
    return min(max(seconds, 0.0), _SERVERS_WAIT_AT_MOST)


def _content(answer: Any) -> str:
    try:
        content = answer["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError(f"no message in {str(answer)[:200]!r}") from error
    # A model that says nothing has no content: that is an answer which cannot be read.
    return content if isinstance(content, str) else ""


def _completion(answer: Dict[str, Any]) -> Completion:
    usage = answer.get("usage")
    counts = usage if isinstance(usage, dict) else {}
    numbers = {
        name: counts[name] if isinstance(counts.get(name), int) else None
        for name in ("prompt_tokens", "completion_tokens")
    }
    return Completion(
        text=_content(answer),
        finish=str(answer["choices"][0].get("finish_reason") or ""),
        model=str(answer.get("model") or ""),
        fingerprint=str(answer.get("system_fingerprint") or ""),
        **numbers,
    )
