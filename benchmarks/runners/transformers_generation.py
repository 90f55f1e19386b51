"""What the runners on transformers share: decoding settings, sampling that no batch changes, ends.

transformers' own `generate` does the work in 4.37 and 5. It always takes the largest score: to
sample, noise that belongs to the request alone is added to the scores before.
"""

import contextlib
import hashlib
import logging
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Dict,
    Iterator,
    List,
    Mapping,
    Optional,
    Sequence,
    Tuple,
)

from regap_benchmarks.decoding import Decoding
from regap_benchmarks.records import CUT, STOPPED, Json
from regap_benchmarks.runners.runner import Request

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_DISTRIBUTIONS = ("torch", "transformers", "accelerate", "bitsandbytes", "peft", "llava-torch")
# Of a checkpoint's generation_config.json only what keeps placeholders out of answers is kept:
# its temperature and the like would decide the answers without being recorded.
_KEPT = ("bad_words_ids", "suppress_tokens")


@dataclass(frozen=True)
class SpecialTokens:
    """Which tokens end an answer and which fills rows that have ended.

    Attributes:
        ends: any of them ends an answer.
        padding: never looked at.
        forbidden: settings of the checkpoint that keep tokens out of answers.
    """

    ends: Tuple[int, ...]
    padding: int
    forbidden: Mapping[str, Json]


def take_special_tokens(model: Any, tokenizer: Any) -> SpecialTokens:
    """Read the special tokens of a model, and replace its generation settings by transformers' own.

    transformers 5 fills every setting that a call leaves open from the model's. They are therefore
    cleared on the model itself, which the runner owns.

    Raises:
        ValueError: no end token is known.
    """
    from transformers import GenerationConfig

    own = model.generation_config
    text_config = getattr(model.config, "text_config", None) or model.config
    candidates = (
        getattr(own, "eos_token_id", None),
        getattr(text_config, "eos_token_id", None),
        tokenizer.eos_token_id,
    )
    end = next((each for each in candidates if each is not None), None)
    if end is None:
        raise ValueError(
            "Checkpoint: expected an end token in generation_config.json, config.json or the"
            " tokenizer, found none. Name it as eos_token_id in generation_config.json."
        )
    ends = tuple(int(each) for each in end) if isinstance(end, (list, tuple)) else (int(end),)
    padding = ends[0] if tokenizer.pad_token_id is None else int(tokenizer.pad_token_id)
    forbidden = {name: getattr(own, name, None) for name in _KEPT}
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=list(ends),
        pad_token_id=padding,
    )
    return SpecialTokens(
        ends=ends,
        padding=padding,
        forbidden={name: value for name, value in forbidden.items() if value is not None},
    )


def generate_tokens(
    generate: "Callable[..., Tensor]",
    inputs: "Mapping[str, Any]",
    requests: Sequence[Request],
    decoding: Decoding,
    special: SpecialTokens,
) -> List[Tuple[Tuple[int, ...], str]]:
    """Run `generate` on a batch that is padded on the left.

    Args:
        generate: transformers' own, bound to the model.
        inputs: for it; `input_ids` [B, T], or `inputs` [B, 0] beside `inputs_embeds` [B, T, H].
        requests: one a row.
        decoding: of all rows.
        special: see `take_special_tokens`.

    Returns:
        By row, the new tokens without the end token, and "stop" or "length".
    """
    import torch
    from transformers import GenerationConfig

    ids = inputs["input_ids"] if "input_ids" in inputs else inputs["inputs"]
    prompt_length = ids.shape[1]
    config = GenerationConfig(
        max_new_tokens=decoding.max_new_tokens,
        do_sample=False,
        num_beams=1,
        use_cache=True,
        eos_token_id=list(special.ends),
        pad_token_id=special.padding,
        **special.forbidden,
    )
    with torch.inference_mode(), without_int8_casts_logged():
        sequences = generate(
            **inputs,
            generation_config=config,
            logits_processor=_processors(requests, decoding, prompt_length),
        )
    rows = sequences[:, prompt_length:].tolist()
    return [_cut(row, special.ends) for row in rows]


def answer_text(tokenizer: Any, tokens: Sequence[int], request: Request) -> str:
    """The text of an answer's tokens, as `Answer.text` wants it."""
    start = request.answer_start
    if not start:
        said: str = tokenizer.decode(list(tokens), skip_special_tokens=True)
        return said.strip()
    # Alone, the tokens of a continuation would lose the white space before them.
    before = list(tokenizer(start, add_special_tokens=False)["input_ids"])
    head: str = tokenizer.decode(before, skip_special_tokens=True)
    whole: str = tokenizer.decode([*before, *tokens], skip_special_tokens=True)
    return whole[len(head) :].rstrip()


@contextlib.contextmanager
def without_int8_casts_logged() -> Iterator[None]:
    """Keep bitsandbytes from saying at every product of int8 that it is made in float16."""

    def is_other(record: logging.LogRecord) -> bool:
        return "inputs will be cast from" not in record.getMessage()

    logger = logging.getLogger("bitsandbytes.autograd._functions")
    logger.addFilter(is_other)
    try:
        yield
    finally:
        logger.removeFilter(is_other)


def seed_of(decoding_seed: int, request_id: str) -> int:
    """The seed of one request: 63 bits of sha256 over `SEED/ID`."""
    digest = hashlib.sha256(f"{decoding_seed}/{request_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


class GumbelNoise:
    """Adds standard Gumbel noise, so that the largest score is a sample of their softmax.

    `argmax(s + G)` with `G = -log(-log U)`, U uniform, draws from `softmax(s)` (Gumbel 1954;
    Maddison et al. 2014). Each row has a generator of its own on the CPU, and takes as many
    numbers a step as there are tokens: what else is in the batch, and on which device, changes
    nothing.

    Args:
        seeds: one a row.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        import torch

        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: "Tensor", scores: "Tensor") -> "Tensor":
        """Return `scores` [B, V] in float64 plus noise."""
        import torch

        width = scores.shape[-1]
        rows = [torch.rand(width, generator=each, dtype=torch.float64) for each in self._generators]
        # 0 would become an infinite score.
        uniform = torch.stack(rows).to(scores.device).clamp_(min=torch.finfo(torch.float64).tiny)
        return scores.double() - torch.log(-torch.log(uniform))


class AnswerRepetitionPenalty:
    """transformers' repetition penalty over the tokens of the answer alone.

    The prompt is left out: of a padded row transformers would take the padding for said.

    Args:
        penalty: see `Decoding`.
        prompt_length: columns that are not of the answer.
    """

    def __init__(self, penalty: float, prompt_length: int) -> None:
        from transformers import RepetitionPenaltyLogitsProcessor

        self._apply = RepetitionPenaltyLogitsProcessor(penalty)
        self._prompt_length = prompt_length

    def __call__(self, input_ids: "Tensor", scores: "Tensor") -> "Tensor":
        """Return the penalised `scores` [B, V]."""
        penalised: Tensor = self._apply(input_ids[:, self._prompt_length :], scores)
        return penalised


def describe_environment(model: Any, device: str) -> Dict[str, Json]:
    """Versions and device: JSON values without host name or path."""
    import torch

    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else device
    return {
        "python": platform.python_version(),
        "versions": {each: _version(each) for each in _DISTRIBUTIONS},
        "device": name,
        "cuda": torch.version.cuda,
        "attention": getattr(model.config, "_attn_implementation", None),
    }


def resolve_dtype(name: str) -> "torch.dtype":
    """The dtype of a name in `ModelOptions.dtype`.

    Raises:
        ValueError: another name.
    """
    import torch

    if name not in ("float32", "float16", "bfloat16"):
        raise ValueError(
            f"--dtype: expected float32, float16 or bfloat16, found {name!r}. Choose one of them."
        )
    dtype: torch.dtype = getattr(torch, name)
    return dtype


def check_device(device: str) -> None:
    """Refuse a GPU that is not there, before a model is loaded.

    Raises:
        ValueError: torch cannot use it.
    """
    import torch

    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(
            f"--device {device}: expected a GPU that torch {torch.__version__} can use, found none."
            " Pass --device cpu, or look at `nvidia-smi`."
        )


def check_batch(requests: Sequence[Request]) -> int:
    """Number of pictures that each request of a batch has.

    Raises:
        ValueError: requests with different numbers of pictures.
    """
    counts = sorted({len(request.images) for request in requests})
    if len(counts) > 1:
        raise ValueError(
            f"Batch: expected requests with one number of pictures, found {counts}. Sort them into"
            " batches of their own."
        )
    return counts[0] if counts else 0


def check_lengths(
    requests: Sequence[Request],
    lengths: Sequence[int],
    decoding: Decoding,
    *,
    prompt_limit: Optional[int],
    context: Optional[int],
) -> None:
    """Refuse what does not fit, where a model would cut or count its positions wrongly.

    Args:
        requests: the batch.
        lengths: of their prompts in positions, pictures included.
        decoding: says how many more there may be.
        prompt_limit: most positions of a prompt; None for no limit.
        context: most positions of prompt and answer together; None where unknown.

    Raises:
        ValueError: the first that does not fit.
    """
    for request, length in zip(requests, lengths):
        if prompt_limit is not None and length > prompt_limit:
            raise ValueError(
                f"Request {request.id!r}: expected a prompt of at most {prompt_limit} positions,"
                f" pictures included, found {length}. Shorten it or leave it out."
            )
        total = length + decoding.max_new_tokens
        if context is not None and total > context:
            raise ValueError(
                f"Request {request.id!r}: expected prompt and answer within the model's context of"
                f" {context} positions, found {length} + {decoding.max_new_tokens}. Pass"
                f" --max-new-tokens {max(context - length, 0)} or less, or a shorter prompt."
            )


def _processors(requests: Sequence[Request], decoding: Decoding, prompt_length: int) -> Any:
    from transformers import (
        LogitsProcessorList,
        TemperatureLogitsWarper,
        TopKLogitsWarper,
        TopPLogitsWarper,
    )

    processors: List[Any] = []
    if decoding.repetition_penalty != 1.0:
        processors.append(AnswerRepetitionPenalty(decoding.repetition_penalty, prompt_length))
    if not decoding.greedy:
        processors.append(TemperatureLogitsWarper(float(decoding.temperature)))
        if decoding.top_k:
            processors.append(TopKLogitsWarper(decoding.top_k))
        if decoding.top_p < 1.0:
            processors.append(TopPLogitsWarper(decoding.top_p))
        processors.append(GumbelNoise([seed_of(decoding.seed, each.id) for each in requests]))
    return LogitsProcessorList(processors)


def _cut(row: List[int], ends: Sequence[int]) -> Tuple[Tuple[int, ...], str]:
    first = next((index for index, token in enumerate(row) if token in ends), None)
    return (tuple(row), CUT) if first is None else (tuple(row[:first]), STOPPED)


def _version(distribution: str) -> Optional[str]:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
