"""Scorers whose grades a model gives, behind a server: which one, and what they share."""

import dataclasses
import os
import urllib.parse
from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional, Sequence

from regap_benchmarks.judges.chat_server import KEY, MODEL, URL, ChatServer
from regap_benchmarks.judges.judge import Judge
from regap_benchmarks.judging import JudgeError


@dataclass(frozen=True)
class GraderOptions:
    """What the `--grader-...` flags say; where they say nothing, the environment does.

    Attributes:
        url: base of the API; else `REGAP_GRADER_URL`.
        model: as the server names it; else `REGAP_GRADER_MODEL`.
        key_file: file whose text is the key; else `REGAP_GRADER_KEY` is the key. A key is no flag:
            other users of a machine see the words of a command.
        timeout: seconds for one request; None for `ChatServer`'s.
        tries: of one request; None for `ChatServer`'s.
    """

    url: Optional[str] = None
    model: Optional[str] = None
    key_file: Optional[Path] = None
    timeout: Optional[float] = None
    tries: Optional[int] = None

    def __post_init__(self) -> None:
        if self.url is not None and not _is_url(self.url):
            raise ValueError(
                f"--grader-url: expected one such as http://localhost:8000/v1, found {self.url!r}."
            )
        if self.timeout is not None and not self.timeout > 0:
            raise ValueError(f"--grader-timeout: expected seconds above 0, found {self.timeout:g}.")
        if self.tries is not None and self.tries < 1:
            raise ValueError(f"--grader-tries: expected 1 or more, found {self.tries}.")

    def given(self) -> List[str]:
        """The flags that were given."""
        return [
            f"--grader-{item.name.replace('_', '-')}"
            for item in dataclasses.fields(self)
            if getattr(self, item.name) is not None
        ]

    def known_model(self) -> Optional[str]:
        """The model's name; None where nothing names one, such as for stored grades."""
        return self.model or os.environ.get(MODEL) or None

    def server(self, task: str) -> ChatServer:
        """The server.

        Raises:
            JudgeError: nothing names it or its model, or the file of the key cannot be read.
        """
        url, model = self.url or os.environ.get(URL, ""), self.known_model() or ""
        if not _is_url(url) or not model:
            raise JudgeError(
                f"Task {task!r} is graded by a model: expected --grader-url and --grader-model, or"
                f" {URL} and {MODEL}, of a server with OpenAI's chat completions, found {url!r} and"
                f" {model!r}. Set them, and --grader-key-file or {KEY} where the server asks for a"
                " key; or score stored grades with regap-bench score."
            )
        server = ChatServer(url, model, self._key())
        if self.timeout is not None:
            server = dataclasses.replace(server, timeout=self.timeout)
        if self.tries is not None:
            server = dataclasses.replace(server, tries=self.tries)
        return server

    def _key(self) -> str:
        if self.key_file is None:
            return os.environ.get(KEY, "")
        try:
            return self.key_file.read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            raise JudgeError(
                f"--grader-key-file {self.key_file}: expected a file with the key, found"
                f" {type(error).__name__}. Name another one."
            ) from error


NO_OPTIONS = GraderOptions()


class Grader(Judge):
    """A scorer that asks a model for each grade.

    Args:
        server: that of `options` if absent, looked up when the first answer is graded: stored
            grades need none.
    """

    judges_empty = True
    kept_after = 1

    def __init__(self, server: Optional[ChatServer] = None) -> None:
        self._server = server
        self.options = NO_OPTIONS

    @property
    def server(self) -> ChatServer:
        """The server.

        Raises:
            JudgeError: see `GraderOptions.server`.
        """
        if self._server is None:
            self._server = self.options.server(self.name)
        return self._server

    @property
    def model(self) -> Optional[str]:
        """The grading model; None where nothing names one."""
        return self._server.model if self._server else self.options.known_model()


def set_graders(scorers: Sequence[Optional[Judge]], options: GraderOptions) -> List[Grader]:
    """Tell those that are graders which server they ask.

    Returns:
        the graders among them.

    Raises:
        ValueError: options were given, and none of them is a grader.
    """
    graders = [scorer for scorer in scorers if isinstance(scorer, Grader)]
    if options.given() and not graders:
        raise ValueError(
            f"{', '.join(options.given())}: expected with a task that a model grades, such as"
            " mm_vet, found none. Leave it out."
        )
    for grader in graders:
        grader.options = options
    return graders


def _is_url(text: str) -> bool:
    parts = urllib.parse.urlsplit(text)
    return parts.scheme in ("http", "https") and bool(parts.netloc)
