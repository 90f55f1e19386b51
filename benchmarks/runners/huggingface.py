"""Runs any image-text-to-text model that transformers 5 loads, with its own chat template."""

import hashlib
import importlib.util
import os
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Sequence

from regap_benchmarks.decoding import Decoding
from regap_benchmarks.quantization import Quantization
from regap_benchmarks.records import Json
from regap_benchmarks.runners.bitsandbytes_loading import (
    bitsandbytes_config,
    check_quantization,
    inspect_weights,
)
from regap_benchmarks.runners.fingerprint import fingerprint
from regap_benchmarks.runners.runner import (
    Answer,
    MissingRequirementError,
    ModelOptions,
    Request,
    Runner,
    RunnerKind,
)
from regap_benchmarks.runners.transformers_generation import (
    answer_text,
    check_batch,
    check_device,
    check_lengths,
    describe_environment,
    generate_tokens,
    resolve_dtype,
    take_special_tokens,
)

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from regap_benchmarks.attacks.target_loss import TargetLoss

FIRST_TRANSFORMERS = 5
_NEEDS = f"transformers {FIRST_TRANSFORMERS} or later, torch, pillow; accelerate for a GPU"


class HuggingFaceRunner(Runner):
    """A model and processor of transformers.

    Args:
        options: see `ModelOptions`; `base`, `conversation` and `image_aspect` are not for it.

    Attributes:
        model: of transformers.

    Raises:
        ValueError: a checkpoint without a chat template, or options that it does not have.
    """

    takes_history = True
    takes_answer_start = True

    def __init__(self, options: ModelOptions) -> None:
        _check_options(options)
        check_device(options.device)
        self._options = options
        self._processor = _load_processor(options.path)
        self._tokenizer = self._processor.tokenizer
        self._template = _chat_template(self._processor, options.path)
        self._tokenizer.padding_side = "left"
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        self._dtype = resolve_dtype(options.dtype)
        left_out = _left_out(options)
        self.model = _load_model(options, self._dtype, left_out)
        self._weights = inspect_weights(self.model, options.quantization, left_out)
        self._special = take_special_tokens(self.model, self._tokenizer)
        text_config = self.model.config.get_text_config()
        self._context: Optional[int] = getattr(text_config, "max_position_embeddings", None)
        self._fingerprint = fingerprint(options.path)

    def describe(self) -> Mapping[str, Json]:
        """See `Runner`."""
        config = self.model.config
        own = getattr(config, "quantization_config", None)
        if own is not None and type(self._options.quantization) is Quantization:
            own = own if isinstance(own, dict) else own.to_dict()
            own = {name: str(value) for name, value in own.items()}
        else:
            own = None
        return {
            "runner": HUGGINGFACE.name,
            "checkpoint": os.path.basename(os.path.normpath(self._options.path)),
            "fingerprint": self._fingerprint,
            "commit": getattr(config, "_commit_hash", None),
            "architecture": type(self.model).__name__,
            "dtype": self._options.dtype,
            "quantization": dict(self._options.quantization.describe()),
            "quantization_of_the_checkpoint": own,
            "chat_template_sha256": hashlib.sha256(self._template.encode()).hexdigest(),
            "image_processor": type(self._processor.image_processor).__name__,
            "forbidden_tokens": dict(self._special.forbidden),
        }

    def environment(self) -> Mapping[str, Json]:
        """See `Runner`."""
        return {
            **describe_environment(self.model, self._options.device),
            **self._weights.describe(),
        }

    def length(self, prompt: str, images: int, system: Optional[str]) -> int:
        """See `Runner`."""
        return self._count_tokens(self.render(Request("", prompt, system=system), images))

    def generate(self, requests: Sequence[Request], decoding: Decoding) -> List[Answer]:
        """See `Runner`."""
        images = check_batch(requests)
        if not requests:
            return []
        texts = [self.render(each, images) for each in requests]
        inputs = self.prepare(texts, [each.images for each in requests])
        lengths = inputs["attention_mask"].sum(dim=1).tolist()
        check_lengths(requests, lengths, decoding, prompt_limit=None, context=self._context)
        rows = generate_tokens(self.model.generate, inputs, requests, decoding, self._special)
        return [
            Answer(
                text=answer_text(self._tokenizer, tokens, request),
                finish=finish,
                rendered_prompt=text,
                prompt_tokens=self._count_tokens(text),
                token_ids=tokens,
            )
            for request, text, (tokens, finish) in zip(requests, texts, rows)
        ]

    def render(self, request: Request, images: int) -> str:
        """What goes into the tokenizer: the conversation in the template, and the answer's start.

        Args:
            request: its pictures are not looked at.
            images: how many stand in the first turn.

        Raises:
            ValueError: a text with a placeholder, or one that the template leaves out.
        """
        said = [text for turn in request.history for text in (turn.prompt, turn.answer)]
        placeholder = getattr(self._processor, "image_token", None)
        for text in (*said, request.prompt, request.answer_start):
            if placeholder and placeholder in text:
                raise ValueError(
                    f"Prompt {text[:60]!r}: expected text, found the placeholder {placeholder!r},"
                    " which the processor would take for a picture. Reword it."
                )
        messages: List[Dict[str, Any]] = []
        if request.system is not None:
            messages.append(_message("system", request.system))
        for turn in request.history:
            messages += [_message("user", turn.prompt), _message("assistant", turn.answer)]
        messages.append(_message("user", request.prompt))
        first = next(each for each in messages if each["role"] == "user")
        pictures: List[Dict[str, str]] = [{"type": "image"}] * images
        first["content"] = [*pictures, *first["content"]]
        text = self._processor.apply_chat_template(
            messages, chat_template=self._template, add_generation_prompt=True, tokenize=False
        )
        names = (("prompt", request.prompt), ("system text", request.system or ""))
        for name, each in (*names, *(("earlier turn", text) for text in said)):
            if each.strip() not in text:
                raise ValueError(
                    f"Chat template of {self._options.path}: expected the {name} in what it"
                    f" renders, found {text[:80]!r}. Give the checkpoint a template that takes it."
                )
        between = " " if request.answer_start and text.endswith(":") else ""
        return f"{text}{between}{request.answer_start}"

    def prepare(self, texts: Sequence[str], images: "Sequence[Sequence[Image]]") -> Any:
        """A batch as the model takes it, on its device: one list of pictures for each text."""
        pictures = [list(each) for each in images]
        inputs = self._processor(
            text=list(texts),
            # Left out without pictures: not every processor takes empty lists.
            **({"images": pictures} if pictures[0] else {}),
            padding=True,
            return_tensors="pt",
            add_special_tokens=self._adds_special_tokens(texts[0]),
        )
        return inputs.to(self._options.device, self._dtype)

    def render_pair(self, text: str) -> str:
        """A conversation in which a picture is answered by `text`, in the chat template."""
        messages = [
            {"role": "user", "content": [{"type": "image"}]},
            {"role": "assistant", "content": [{"type": "text", "text": text}]},
        ]
        rendered: str = self._processor.apply_chat_template(
            messages, chat_template=self._template, tokenize=False
        )
        if text not in rendered:
            raise ValueError(
                f"Chat template of {self._options.path}: expected the answer in what it renders,"
                f" found {rendered[:80]!r}. Pass --protocol pairs, which needs no template."
            )
        return rendered

    @property
    def image_placeholder(self) -> str:
        """What stands for a picture in a text.

        Raises:
            ValueError: the processor names none.
        """
        placeholder = getattr(self._processor, "image_token", None)
        if not isinstance(placeholder, str):
            raise ValueError(
                f"{self._options.path}: expected a processor that names its image_token, found"
                f" {type(self._processor).__name__}. Pass --protocol official."
            )
        return placeholder

    def target_loss(self, request: Request, target: str) -> "TargetLoss":
        """See `Runner`."""
        from regap_benchmarks.attacks.huggingface_pixels import target_loss

        return target_loss(self, self._processor.image_processor, request, target)

    def _count_tokens(self, text: str) -> int:
        special = self._adds_special_tokens(text)
        return len(self._tokenizer(text, add_special_tokens=special)["input_ids"])

    def _adds_special_tokens(self, text: str) -> bool:
        # As transformers itself decides, so that a template with a begin token gives one only.
        begin = self._tokenizer.bos_token
        return begin is None or not text.startswith(begin)


def _message(role: str, text: str) -> Dict[str, Any]:
    return {"role": role, "content": [{"type": "text", "text": text}]}


def _check_options(options: ModelOptions) -> None:
    for name, value in (
        ("model-base", options.base),
        ("conversation", options.conversation),
        ("image-aspect", options.image_aspect),
    ):
        if value is not None:
            raise ValueError(
                f"--{name}: expected with the runner llava, found {value!r} with huggingface,"
                " where the checkpoint's own processor decides. Leave it out."
            )


def _load_processor(path: str) -> Any:
    from transformers import AutoProcessor

    try:
        processor = AutoProcessor.from_pretrained(path)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{path}: expected a processor that transformers loads, found: {error} Pass the folder"
            " of a checkpoint with config.json, processor and tokenizer."
        ) from error
    if not hasattr(processor, "tokenizer") or not hasattr(processor, "image_processor"):
        raise ValueError(
            f"{path}: expected a processor of pictures and text, found"
            f" {type(processor).__name__}. Pass an image-text-to-text model."
        )
    return processor


def _chat_template(processor: Any, path: str) -> str:
    template = getattr(processor, "chat_template", None) or processor.tokenizer.chat_template
    if isinstance(template, dict):
        template = template.get("default")
    if not template:
        raise ValueError(
            f"{path}: expected a chat template, found none in the processor or the tokenizer. Put"
            " the one that the model was trained with into chat_template.jinja there."
        )
    return str(template)


def _left_out(options: ModelOptions) -> List[str]:
    """Paths of the linear modules that stay as they are: output, vision, and what was named."""
    quantization = options.quantization
    if type(quantization) is Quantization:
        return []
    import torch
    from torch import nn
    from transformers import AutoConfig, AutoModelForImageTextToText

    config = AutoConfig.from_pretrained(options.path)
    if getattr(config, "quantization_config", None) is not None:
        raise ValueError(
            f"{options.path}: expected weights that are not quantized, found a checkpoint that is."
            " Pass --quantization none, or the checkpoint that it was made from."
        )
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config)
    names = {id(module): name for name, module in model.named_modules()}
    text = names.get(id(model.get_decoder()), "")
    head = names.get(id(model.get_output_embeddings()), "")
    if not text or not head:
        raise ValueError(
            f"{options.path}: expected a text model and an output layer within"
            f" {type(model).__name__}, found {text!r} and {head!r}. Pass --quantization none."
        )
    asked = tuple(getattr(quantization, "skip_modules", ()))
    linear = [name for name, each in model.named_modules() if isinstance(each, nn.Linear)]
    unknown = [each for each in asked if not any(f".{each}." in f".{name}." for name in linear)]
    if unknown:
        raise ValueError(
            f"--skip-modules: expected parts of the names of linear modules, such as"
            f" {linear[-1]!r}, found {unknown}. Choose names of the model."
        )
    keeps_vision = not getattr(quantization, "quantize_vision", False)
    return [
        name
        for name in linear
        if name == head
        or (keeps_vision and not f"{name}.".startswith(f"{text}."))
        or any(f".{each}." in f".{name}." for each in asked)
    ]


def _load_model(options: ModelOptions, dtype: "torch.dtype", left_out: Sequence[str]) -> Any:
    import torch
    from transformers import AutoModelForImageTextToText

    settings: Dict[str, Any] = {"dtype": dtype}
    config = bitsandbytes_config(options.quantization, left_out)
    if config is not None:
        settings["quantization_config"] = config
    if config is not None or options.device != "cpu":
        settings["device_map"] = {"": options.device}
    try:
        model, loading = AutoModelForImageTextToText.from_pretrained(
            options.path, output_loading_info=True, **settings
        )
    except torch.cuda.OutOfMemoryError:
        raise
    except Exception as error:  # a damaged file raises what its library likes
        raise ValueError(
            f"{options.path}: expected an image-text-to-text model that transformers loads, found"
            f" {type(error).__name__}: {error}"
        ) from error
    missing = sorted(loading["missing_keys"])
    if missing:
        raise ValueError(
            f"{options.path}: expected all weights of {type(model).__name__}, found none for"
            f" {missing[:3]} and {max(len(missing) - 3, 0)} more, which would be random. Pass a"
            " whole checkpoint."
        )
    return model.eval()


def _check(options: ModelOptions) -> None:
    for package in ("torch", "PIL"):
        if importlib.util.find_spec(package) is None:
            raise MissingRequirementError(
                f"huggingface runner: expected {_NEEDS}, found no {package}. Install them: `pip"
                " install torch 'transformers>=5' pillow accelerate`."
            )
    try:
        found = version("transformers")
    except PackageNotFoundError:
        found = "none"
    if found == "none" or int(found.split(".")[0]) < FIRST_TRANSFORMERS:
        raise MissingRequirementError(
            f"huggingface runner: expected transformers {FIRST_TRANSFORMERS} or later, found"
            f" {found}. Install it: `pip install 'transformers>={FIRST_TRANSFORMERS}'`, or run this"
            " stage in an environment that has it."
        )
    if options.device != "cpu" and importlib.util.find_spec("accelerate") is None:
        raise MissingRequirementError(
            "huggingface runner: expected the package accelerate, which loads weights onto a GPU,"
            " found none. Install it: `pip install accelerate`."
        )
    check_quantization(options.quantization, options.device)


HUGGINGFACE = RunnerKind(
    name="huggingface",
    summary="any image-text-to-text model that transformers loads, with its chat template",
    needs=_NEEDS,
    check=_check,
    load=HuggingFaceRunner,
)
