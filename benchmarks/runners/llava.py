"""Runs checkpoints of LLaVA's own trainer with LLaVA's own code, in batches.

Prompt, preprocessing and merging of pictures are upstream's; padding is on the left, and positions
are counted from the mask. Upstream's evaluation asks one request at a time: its answers are equal.
"""

import functools
import importlib.util
from importlib.metadata import PackageNotFoundError, version
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Sequence, Tuple

from regap_benchmarks.decoding import Decoding
from regap_benchmarks.records import Json
from regap_benchmarks.runners.bitsandbytes_loading import check_quantization, inspect_weights
from regap_benchmarks.runners.fingerprint import fingerprint
from regap_benchmarks.runners.llava_checkpoint import (
    LoadedLlava,
    checkpoint_name,
    find_files,
    load_llava,
)
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
    from PIL.Image import Image
    from torch import Tensor

    from regap_benchmarks.attacks.target_loss import TargetLoss

TRANSFORMERS = "4.37"
_NEEDS = "the package llava (llava-torch 1.2.2.post1 with transformers 4.37.2)"
_INSTALL = (
    "`pip install transformers==4.37.2 tokenizers==0.15.1 accelerate==0.21.0 peft==0.4.0 'numpy<2'"
    " einops sentencepiece protobuf pillow requests` and `pip install --no-deps"
    " llava-torch==1.2.2.post1`"
)
# llava/eval/run_llava.py: the first word found in the checkpoint's name decides.
_CONVERSATIONS = (
    ("llama-2", "llava_llama_2"),
    ("mistral", "mistral_instruct"),
    ("v1.6-34b", "chatml_direct"),
    ("v1", "llava_v1"),
    ("mpt", "mpt"),
)
_OTHERWISE = "llava_v0"
_ASPECTS = {"pad": "pad", "crop": "square"}
_PLACEHOLDER = "<image>"


class LlavaRunner(Runner):
    """A model of upstream's classes.

    Args:
        options: see `ModelOptions`.
        loaded: a model that is there already and belongs to the runner from now on; None to load
            the checkpoint by upstream's builder.

    Attributes:
        model, tokenizer, image_processor: upstream's.
        prompt_limit: tokens of a prompt, pictures included, that upstream would cut at.

    Raises:
        ValueError: a checkpoint that upstream cannot load, or an unknown conversation or aspect.
        MissingRequirementError: upstream's modules do not import here.
    """

    takes_history = True
    takes_answer_start = True

    def __init__(self, options: ModelOptions, loaded: Optional[LoadedLlava] = None) -> None:
        check_device(options.device)
        dtype = resolve_dtype(options.dtype)
        self._options = options
        self._conversation = _choose_conversation(options)
        if loaded is None:
            loaded = load_llava(find_files(options), options, dtype)
        self._kind = loaded.kind
        self.model, self.tokenizer = loaded.model, loaded.tokenizer
        self.image_processor = loaded.image_processor
        self._weights = inspect_weights(self.model, options.quantization, loaded.left_out)
        self._special = take_special_tokens(self.model, self.tokenizer)
        config = self.model.config
        self._preprocessing = _choose_preprocessing(options, config)
        self._context: Optional[int] = getattr(config, "max_position_embeddings", None)
        self.prompt_limit: Optional[int] = getattr(config, "tokenizer_model_max_length", None)
        # Upstream cuts longer prompts without a word; here they are refused.
        config.tokenizer_model_max_length = None
        config.tokenizer_padding_side = "left"
        self._fingerprints: Dict[str, Json] = {
            "fingerprint": fingerprint(options.path),
            "base_fingerprint": fingerprint(options.base) if options.base else None,
            "vision_tower_fingerprint": fingerprint(str(config.mm_vision_tower)),
        }

    def describe(self) -> Mapping[str, Json]:
        """See `Runner`."""
        base = self._options.base
        return {
            "runner": LLAVA.name,
            "checkpoint": checkpoint_name(self._options.path),
            "kind": self._kind,
            "base": checkpoint_name(base) if base else None,
            "vision_tower": checkpoint_name(str(self.model.config.mm_vision_tower)),
            **self._fingerprints,
            "architecture": type(self.model).__name__,
            "dtype": self._options.dtype,
            "quantization": dict(self._options.quantization.describe()),
            "conversation": self._conversation,
            "image_aspect_ratio": self._preprocessing.image_aspect_ratio,
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
        return len(self.tokenize(self.render(Request("", prompt, system=system), images)))

    def generate(self, requests: Sequence[Request], decoding: Decoding) -> List[Answer]:
        """See `Runner`."""
        import torch

        images = check_batch(requests)
        if not requests:
            return []
        from transformers import GenerationMixin

        texts = [self.render(each, images) for each in requests]
        prompts = [self.tokenize(text) for text in texts]
        with torch.inference_mode():
            embeddings, mask = self._embed(prompts, requests)
        check_lengths(
            requests,
            mask.sum(dim=1).tolist(),
            decoding,
            prompt_limit=self.prompt_limit,
            context=self._context,
        )
        ids = torch.empty(len(requests), 0, dtype=torch.long, device=embeddings.device)
        rows = generate_tokens(
            # Upstream's own generate takes no embeddings; the class above it does.
            functools.partial(GenerationMixin.generate, self.model),
            # Without ids transformers 4.37 would begin each answer with a begin token.
            {"inputs": ids, "inputs_embeds": embeddings, "attention_mask": mask},
            requests,
            decoding,
            self._special,
        )
        return [
            Answer(
                text=answer_text(self.tokenizer, tokens, request),
                finish=finish,
                rendered_prompt=text,
                prompt_tokens=len(prompt),
                token_ids=tokens,
            )
            for request, text, prompt, (tokens, finish) in zip(requests, texts, prompts, rows)
        ]

    def render(self, request: Request, images: int) -> str:
        """What goes into the tokenizer: the conversation in the template, and the answer's start.

        Args:
            request: its pictures are not looked at.
            images: how many stand in the first turn.

        Raises:
            ValueError: a text with a placeholder, or a system text that the template has no place
                for.
        """
        from llava.constants import DEFAULT_IM_END_TOKEN, DEFAULT_IM_START_TOKEN
        from llava.conversation import SeparatorStyle, conv_templates

        system = request.system
        said = [text for turn in request.history for text in (turn.prompt, turn.answer)]
        for text in (*said, request.prompt, request.answer_start, system or ""):
            if _PLACEHOLDER in text:
                raise ValueError(
                    f"Prompt {text[:60]!r}: expected text, found the placeholder {_PLACEHOLDER!r},"
                    " which upstream would take for a picture. Reword it."
                )
        placeholder = _PLACEHOLDER
        if getattr(self.model.config, "mm_use_im_start_end", False):
            placeholder = f"{DEFAULT_IM_START_TOKEN}{_PLACEHOLDER}{DEFAULT_IM_END_TOKEN}"
        conversation = conv_templates[self._conversation].copy()
        if system is not None:
            if conversation.sep_style is SeparatorStyle.PLAIN:
                raise ValueError(
                    f"--conversation {self._conversation}: expected a template with a system text,"
                    " found none in it. Choose another template."
                )
            is_chatml = conversation.system.startswith("<|im_start|>system\n")
            conversation.system = f"<|im_start|>system\n{system}" if is_chatml else system
        pictures = f"{placeholder}\n" * images
        for turn in request.history:
            conversation.append_message(conversation.roles[0], pictures + turn.prompt)
            # Upstream leaves the separator out after an empty answer.
            conversation.append_message(conversation.roles[1], turn.answer or " ")
            pictures = ""
        conversation.append_message(conversation.roles[0], pictures + request.prompt)
        conversation.append_message(conversation.roles[1], None)
        rendered: str = conversation.get_prompt()
        return f"{rendered} {request.answer_start}" if request.answer_start else rendered

    def tokenize(self, text: str) -> List[int]:
        """Token ids of a text with `<image>` placeholders, as upstream makes them."""
        from llava.mm_utils import tokenizer_image_token

        ids: List[int] = tokenizer_image_token(text, self.tokenizer)
        return ids

    def _embed(
        self, prompts: Sequence[Sequence[int]], requests: Sequence[Request]
    ) -> "Tuple[Tensor, Tensor]":
        """Embeddings [B, T, H], padded on the left with what the mask [B, T] leaves out."""
        import torch

        longest = max(len(each) for each in prompts)
        ids = torch.full((len(prompts), longest), self._special.padding)
        mask = torch.zeros(len(prompts), longest, dtype=torch.long)
        for row, prompt in enumerate(prompts):
            ids[row, longest - len(prompt) :] = torch.tensor(prompt)
            mask[row, longest - len(prompt) :] = 1
        device = self.model.device
        ids, mask = ids.to(device), mask.to(device)
        pictures = [picture for each in requests for picture in each.images]
        if not pictures:
            embeddings: Tensor = self.model.get_input_embeddings()(ids)
            return embeddings, mask
        _, _, mask, _, embeddings, _ = self.model.prepare_inputs_labels_for_multimodal(
            ids,
            None,
            mask,
            None,
            None,
            self.preprocess(pictures),
            image_sizes=[each.size for each in pictures],
        )
        return embeddings, mask

    def preprocess(self, pictures: "Sequence[Image]") -> Any:
        """Pictures as the model takes them, on its device."""
        from llava.mm_utils import process_images

        made = process_images(list(pictures), self.image_processor, self._preprocessing)
        place = {"device": self.model.device, "dtype": resolve_dtype(self._options.dtype)}
        return [each.to(**place) for each in made] if isinstance(made, list) else made.to(**place)

    def target_loss(self, request: Request, target: str) -> "TargetLoss":
        """See `Runner`."""
        from regap_benchmarks.attacks.llava_pixels import target_loss

        return target_loss(self, self._preprocessing, request, target)


def _choose_conversation(options: ModelOptions) -> str:
    from llava.conversation import conv_templates

    name = checkpoint_name(options.path).lower()
    chosen = next((found for word, found in _CONVERSATIONS if word in name), _OTHERWISE)
    chosen = options.conversation or chosen
    if chosen not in conv_templates:
        raise ValueError(
            f"--conversation: expected one of {', '.join(sorted(conv_templates))}, found"
            f" {chosen!r}. Choose the one that the checkpoint was trained with."
        )
    return chosen


def _choose_preprocessing(options: ModelOptions, config: Any) -> SimpleNamespace:
    own = getattr(config, "image_aspect_ratio", None) or "square"
    if options.image_aspect is not None and options.image_aspect not in _ASPECTS:
        raise ValueError(
            f"--image-aspect: expected pad or crop, found {options.image_aspect!r}. Choose one."
        )
    return SimpleNamespace(
        image_aspect_ratio=_ASPECTS[options.image_aspect] if options.image_aspect else own,
        image_grid_pinpoints=getattr(config, "image_grid_pinpoints", None),
    )


def _check(options: ModelOptions) -> None:
    try:
        transformers = version("transformers")
    except PackageNotFoundError:
        transformers = "none"
    has_llava = importlib.util.find_spec("llava") is not None
    if not has_llava or not f"{transformers}.".startswith(f"{TRANSFORMERS}."):
        raise MissingRequirementError(
            f"llava runner: expected {_NEEDS}, found transformers {transformers} and"
            f" {'a' if has_llava else 'no'} llava. Install them: {_INSTALL}, or run this stage in"
            " an environment that has them."
        )
    check_quantization(options.quantization, options.device)


LLAVA = RunnerKind(
    name="llava",
    summary="checkpoints of LLaVA's own trainer: projector alone, full, LoRA",
    needs=_NEEDS,
    check=_check,
    load=LlavaRunner,
)
