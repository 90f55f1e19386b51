"""Asks a model behind any server that speaks OpenAI's chat completions, vLLM included.

The pictures go before the text, each as a data URL in PNG, which loses nothing. A batch is so many
requests at once. The server renders the prompt, so that no template is known here; each answer says
which model and fingerprint answered. An answer of another model than at the start ends the run: it
would be a file of two models.
"""

import base64
import io
import os
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Sequence, Union

from regap_benchmarks.chat_completions import (
    ChatCompletions,
    ChatServerError,
    Completion,
    RefusedRequestError,
    check_url,
)
from regap_benchmarks.decoding import Decoding
from regap_benchmarks.quantization import Quantization
from regap_benchmarks.records import CUT, STOPPED, Json
from regap_benchmarks.runners.runner import Answer, ModelOptions, Request, Runner, RunnerKind

if TYPE_CHECKING:
    from PIL.Image import Image

KEY = "REGAP_SERVER_KEY"
_FINISHES = {"stop": STOPPED, "eos": STOPPED, "length": CUT, "max_tokens": CUT}
_LARGEST_SEED = 2**31 - 1


class ServerError(OSError):
    """A server that ends the run; what was answered is kept."""


class OpenAIRunner(Runner):
    """A served model.

    Args:
        options: `path` is its name at the server, `server` the base of the API.
        server: in place of the one that the options name.

    Raises:
        ValueError: options that have no meaning here, or a model that the server does not list.
        ServerError: it does not answer.
    """

    def __init__(self, options: ModelOptions, server: Optional[ChatCompletions] = None) -> None:
        _check(options)
        assert options.server is not None  # by _check
        self._model = options.path
        self._server = server or ChatCompletions(
            options.server,
            os.environ.get(KEY, ""),
            timeout=600.0,
            per_minute=options.per_minute,
        )
        self._listed = self._look_up()
        first = self._send(
            {"messages": [{"role": "user", "content": "Say: ready."}], "max_tokens": 1}
        )
        self._served, self._fingerprint = first.model, first.fingerprint
        # Answers of a batch in which another request was refused: they are not paid twice.
        self._kept: Dict[str, Answer] = {}

    def describe(self) -> Mapping[str, Json]:
        """See `Runner`. Where the server is does not decide an answer; what it serves does."""
        return {
            "runner": OPENAI.name,
            "checkpoint": self._model,
            "served_model": self._served,
            "served_root": self._listed.get("root"),
            "context": self._listed.get("max_model_len"),
        }

    def environment(self) -> Mapping[str, Json]:
        """See `Runner`. A fingerprint may change with the server's version: each answer has it."""
        return {
            "server": self._server.url,
            "served_fingerprint": self._fingerprint,
            "served_since": self._listed.get("created"),
        }

    def length(self, prompt: str, images: int, system: Optional[str]) -> int:
        """See `Runner`: by words, as only the server knows its tokens."""
        return len(prompt.split()) + len((system or "").split()) + images

    def generate(self, requests: Sequence[Request], decoding: Decoding) -> List[Answer]:
        """See `Runner`. All are sent at once.

        Raises:
            ValueError: the server refuses a request, or its answer was filtered.
            ServerError: it cannot be asked, or another model answered.
        """
        with ThreadPoolExecutor(max(len(requests), 1)) as pool:
            found = list(pool.map(lambda request: self._answer(request, decoding), requests))
        fatal = next((each for each in found if isinstance(each, ServerError)), None)
        refused = next((each for each in found if isinstance(each, ValueError)), None)
        if fatal is not None:
            raise fatal
        if refused is not None:
            if len(requests) > 1:  # the others of the batch are asked one by one then
                self._kept = {
                    request.id: each
                    for request, each in zip(requests, found)
                    if isinstance(each, Answer)
                }
            raise refused
        return [each for each in found if isinstance(each, Answer)]

    def _answer(
        self, request: Request, decoding: Decoding
    ) -> Union[Answer, ValueError, ServerError]:
        kept = self._kept.pop(request.id, None)
        if kept is not None:
            return kept
        try:
            found = self._send(_body(request, decoding))
        except ValueError as error:
            return ValueError(f"Request {request.id!r}: {error}")
        except ServerError as error:
            return error
        if found.model != self._served:
            return ServerError(
                f"{self._server.url}: expected answers of {self._served!r}, as at the start, found"
                f" one of {found.model!r}. Serve one model, and generate into another --output."
            )
        finish = _FINISHES.get(found.finish)
        if finish is None:
            return ValueError(
                f"Request {request.id!r}: expected an answer that ended or was cut, found the"
                f" finish_reason {found.finish!r}."
            )
        return Answer(
            text=found.text.strip(),
            finish=finish,
            rendered_prompt="",
            prompt_tokens=found.prompt_tokens or 0,
            token_ids=(),
            new_tokens=found.completion_tokens or 0,
            served_by=found.served_by,
        )

    def _send(self, body: Mapping[str, Any]) -> Completion:
        try:
            return self._server.complete({"model": self._model, **body})
        except RefusedRequestError as error:
            raise ValueError(f"expected a request that the server takes, {error}.") from error
        except ChatServerError as error:
            raise self._unreachable(error) from error

    def _look_up(self) -> Mapping[str, Any]:
        try:
            listed = self._server.models()
        except ChatServerError as error:
            raise self._unreachable(error) from error
        if listed is None:
            return {}
        names = [str(each.get("id")) for each in listed]
        if self._model not in names:
            raise ValueError(
                f"--model openai:{self._model}: expected a model that {self._server.url} serves,"
                f" found {', '.join(names[:8]) or 'none'}. Name one of them."
            )
        return listed[names.index(self._model)]

    def _unreachable(self, error: ChatServerError) -> ServerError:
        return ServerError(
            f"{self._server.url}: expected a chat completion of {self._model!r}, {error}. Mend"
            f" --server, --model or {KEY}, and start again: what is answered is kept."
        )


def _body(request: Request, decoding: Decoding) -> Dict[str, Any]:
    content: List[Dict[str, Any]] = [
        {"type": "image_url", "image_url": {"url": data_url(image)}} for image in request.images
    ]
    content.append({"type": "text", "text": request.prompt})
    messages: List[Dict[str, Any]] = []
    if request.system is not None:
        messages.append({"role": "system", "content": request.system})
    # Text alone as a text: not every server takes a list of one part.
    messages.append({"role": "user", "content": content if request.images else request.prompt})
    body: Dict[str, Any] = {
        "messages": messages,
        "max_tokens": decoding.max_new_tokens,
        "temperature": decoding.temperature,
        "top_p": decoding.top_p,
        "seed": seed_of(decoding.seed, request.id),
    }
    # vLLM's own, sent only where asked for: other servers refuse them.
    if decoding.top_k:
        body["top_k"] = decoding.top_k
    if decoding.repetition_penalty != 1.0:
        body["repetition_penalty"] = decoding.repetition_penalty
    return body


def seed_of(decoding_seed: int, request_id: str) -> int:
    """The seed of one request, in 31 bits: what else is asked at once changes nothing."""
    return zlib.crc32(f"{decoding_seed}/{request_id}".encode()) & _LARGEST_SEED


def data_url(image: "Image") -> str:
    """A picture in a text, without loss."""
    file = io.BytesIO()
    image.save(file, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def _check(options: ModelOptions) -> None:
    if not options.path:
        return  # asked by `regap-bench runners`, whether it runs here
    if options.server is None:
        raise ValueError(
            f"--model openai:{options.path}: expected --server with the base of an API, such as"
            " http://localhost:8000/v1, found none."
        )
    check_url(options.server, "--server")
    for flag, given in (
        ("--model-base", options.base),
        ("--conversation", options.conversation),
        ("--image-aspect", options.image_aspect),
        (
            "--quantization",
            None if type(options.quantization) is Quantization else options.quantization,
        ),
    ):
        if given is not None:
            raise ValueError(
                f"{flag}: expected none with openai, whose server decides it, found {given!r}."
                " Leave it out."
            )
    if options.per_minute is not None and not options.per_minute > 0:
        raise ValueError(f"--requests-per-minute: expected above 0, found {options.per_minute}.")


OPENAI = RunnerKind(
    name="openai",
    summary="a model behind a server with OpenAI's chat completions, vLLM included (--server)",
    needs="a server",
    check=_check,
    load=OpenAIRunner,
    loads_weights=False,
)
