"""What every runner does: answer batches of requests, and say what it is."""

import abc
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Callable, List, Mapping, Optional, Sequence, Tuple

from regap_benchmarks.answer_cost import Cost, DefenceStep
from regap_benchmarks.conversation import Turn
from regap_benchmarks.decoding import Decoding
from regap_benchmarks.quantization import Quantization
from regap_benchmarks.records import Json

if TYPE_CHECKING:
    from PIL.Image import Image

    from regap_benchmarks.attacks.target_loss import TargetLoss


class MissingRequirementError(RuntimeError):
    """A runner or quantization that this environment cannot run; says which one can."""


@dataclass(frozen=True)
class Request:
    """What a model is asked.

    Attributes:
        id: identifies the request, and with the decoding's seed its random numbers.
        prompt: the user's turn, without image placeholders.
        images: RGB pictures, in order; none for text alone.
        system: text of a system turn; None for the model's own default.
        history: turns before `prompt`. The pictures stand in the first turn of all.
        answer_start: how the answer begins; the model goes on from there.
    """

    id: str
    prompt: str
    images: Tuple["Image", ...] = ()
    system: Optional[str] = None
    history: Tuple[Turn, ...] = ()
    answer_start: str = ""


@dataclass(frozen=True)
class Answer:
    """What it answered.

    Attributes:
        text: without special tokens, without surrounding white space. After an
            `answer_start` it is what follows, with the white space in between.
        finish: "stop" or "length"; see `records`.
        rendered_prompt: the text that went into the tokenizer, template included.
        prompt_tokens: its length in tokens, an image placeholder counted as one.
        token_ids: the generated tokens, without the end token; empty where a server does not say.
        new_tokens: how many, where `token_ids` does not say.
        served_by: see `Response`.
        cost: of all calls; None where no defence counts them.
        steps: what a defence heard on the way.
    """

    text: str
    finish: str
    rendered_prompt: str
    prompt_tokens: int
    token_ids: Tuple[int, ...]
    new_tokens: Optional[int] = None
    served_by: str = ""
    cost: Optional[Cost] = None
    steps: Tuple[DefenceStep, ...] = ()


@dataclass(frozen=True)
class ModelOptions:
    """How a checkpoint is loaded: what `--model` and the flags beside it say.

    Attributes:
        path: folder of the checkpoint, or a name that the runner knows.
        base: folder of the base model, for a projector or an adapter alone.
        quantization: see `quantization`.
        dtype: "float32", "float16" or "bfloat16", of weights that are not quantized.
        device: as torch names it: "cpu", "cuda", "cuda:1".
        conversation: name of upstream's conversation template; None: as upstream chooses.
        image_aspect: "pad" or "crop", against what the checkpoint says; None: as it says.
        server: base of the API of a server with OpenAI's chat completions.
        per_minute: requests to it that begin in a minute at most.
    """

    path: str
    base: Optional[str] = None
    quantization: Quantization = field(default_factory=Quantization)
    dtype: str = "float16"
    device: str = "cpu"
    conversation: Optional[str] = None
    image_aspect: Optional[str] = None
    server: Optional[str] = None
    per_minute: Optional[float] = None


class Runner(abc.ABC):
    """A loaded model. Made by a `RunnerKind`.

    Attributes:
        takes_history: whether it can be asked with `Request.history`.
        takes_answer_start: whether it can be asked with `Request.answer_start`.
    """

    takes_history: bool = False
    takes_answer_start: bool = False

    @abc.abstractmethod
    def describe(self) -> Mapping[str, Json]:
        """What decides the answers and can be known from the model, for the run's settings.

        Names, fingerprint of the checkpoint, template, dtype and preprocessing. Equal from run to
        run on the same checkpoint: no dates, no memory.
        """

    @abc.abstractmethod
    def environment(self) -> Mapping[str, Json]:
        """Versions, device, memory footprint in bytes: what may differ when a run goes on."""

    @abc.abstractmethod
    def length(self, prompt: str, images: int, system: Optional[str]) -> int:
        """Tokens of the rendered prompt, to sort by; an image placeholder counted as one."""

    @abc.abstractmethod
    def generate(self, requests: Sequence[Request], decoding: Decoding) -> List[Answer]:
        """Answer a batch, in order.

        The tokens are those of each request alone, up to the rounding of the model's dtype.

        Args:
            requests: all with the same number of images.
            decoding: greedy or seeded sampling.

        Raises:
            ValueError: a prompt that does not fit the model's context.
        """

    def target_loss(self, request: Request, target: str) -> "TargetLoss":
        """The way from a picture's pixels to the loss of a target, for `regap-bench attack`.

        Args:
            request: with one picture.
            target: how the answer is to begin.

        Raises:
            ValueError: the runner has no such way, or the request or target does not fit.
        """
        raise ValueError(
            f"regap-bench attack: expected a runner with a way from pixels to a loss, found"
            f" {type(self).__name__}. Use llava or huggingface."
        )

    def release_memory(self) -> None:  # noqa: B027  (most runners hold nothing but the model)
        """Called after a batch that did not fit, before its halves are asked."""

    def close(self) -> None:  # noqa: B027  (most runners hold nothing but memory)
        """Give back what the model holds."""


@dataclass(frozen=True)
class RunnerKind:
    """A way to load checkpoints, by name: the KIND of `--model KIND:PATH`.

    Attributes:
        name: lower case.
        summary: one line for `regap-bench runners`.
        needs: what must be installed, as a user would say it.
        check: raises `MissingRequirementError` where it cannot run; imports nothing heavy.
        load: makes the runner. Raises `ValueError` for a checkpoint that it cannot load.
        loads_weights: whether it needs a device.
    """

    name: str
    summary: str
    needs: str
    check: Callable[[ModelOptions], None]
    load: Callable[[ModelOptions], Runner]
    loads_weights: bool = True
