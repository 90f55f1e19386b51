"""Runs ShareGPT4V checkpoints with upstream's own prompts, preprocessing and merging, in batches.

Upstream's evaluation (share4v/eval/model_vqa_loader.py, run_share4v.py at b6f70e9) asks one request
at a time, and its forward takes no embeddings. Here each prompt is merged by upstream's own
function, alone, as that one gets masks with padding on the left wrong; the rows are then padded on
the left, and the language model above, which upstream's inherits, generates. Greedy answers equal
upstream's.
"""

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Sequence, Tuple

from regap_benchmarks.decoding import Decoding
from regap_benchmarks.records import STOPPED, Json
from regap_benchmarks.runners.fingerprint import fingerprint
from regap_benchmarks.runners.left_padding import padded_left
from regap_benchmarks.runners.llava_checkpoint import checkpoint_name
from regap_benchmarks.runners.runner import Answer, ModelOptions, Request, Runner, RunnerKind
from regap_benchmarks.runners.share4v_checkpoint import (
    NEEDS,
    check_share4v,
    find_share4v_files,
    load_share4v,
)
from regap_benchmarks.runners.transformers_generation import (
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

# run_share4v.py: the first word found in the checkpoint's name decides. It has "mpt" too, for which
# upstream has no template.
_CONVERSATIONS = (("llama-2", "share4v_llama_2"), ("v1", "share4v_v1"))
_OTHERWISE = "share4v_v0"
_ASPECTS = {"pad": "pad", "crop": "square"}
_PLACEHOLDER = "<image>"


class ShareGPT4VRunner(Runner):
    """A model of upstream's classes.

    Args:
        options: see `ModelOptions`.

    Attributes:
        model, tokenizer, image_processor: upstream's.

    Raises:
        ValueError: a checkpoint that upstream cannot load, or an unknown conversation or aspect.
        MissingRequirementError: upstream's modules do not import here.
    """

    def __init__(self, options: ModelOptions) -> None:
        check_device(options.device)
        if options.image_aspect is not None and options.image_aspect not in _ASPECTS:
            raise ValueError(
                f"--image-aspect: expected pad or crop, found {options.image_aspect!r}. Choose one."
            )
        self._options = options
        self._dtype = resolve_dtype(options.dtype)
        self._files = find_share4v_files(options)
        loaded = load_share4v(self._files, options, self._dtype)
        self._conversation = _choose_conversation(options)
        self.model, self.tokenizer = loaded.model, loaded.tokenizer
        self.image_processor = loaded.image_processor
        self._tower = loaded.tower
        self._special = take_special_tokens(self.model, self.tokenizer)
        self._language_model = _language_model(self.model)
        config = self.model.config
        own = getattr(config, "image_aspect_ratio", None) or "square"
        self._aspect = _ASPECTS[options.image_aspect] if options.image_aspect else str(own)
        self._context: Optional[int] = getattr(config, "max_position_embeddings", None)
        self._fingerprints: Dict[str, Json] = {
            "fingerprint": fingerprint(options.path),
            "base_fingerprint": fingerprint(options.base) if options.base else None,
            "vision_tower_fingerprint": fingerprint(self._tower),
        }

    def describe(self) -> Mapping[str, Json]:
        """See `Runner`."""
        base = self._options.base
        return {
            "runner": SHAREGPT4V.name,
            "checkpoint": checkpoint_name(self._options.path),
            "kind": self._files.kind,
            "base": checkpoint_name(base) if base else None,
            "vision_tower": checkpoint_name(self._tower),
            **self._fingerprints,
            "architecture": type(self.model).__name__,
            "dtype": self._options.dtype,
            "conversation": self._conversation,
            "image_aspect_ratio": self._aspect,
            "forbidden_tokens": dict(self._special.forbidden),
        }

    def environment(self) -> Mapping[str, Json]:
        """See `Runner`."""
        return describe_environment(self.model, self._options.device)

    def length(self, prompt: str, images: int, system: Optional[str]) -> int:
        """See `Runner`."""
        return len(self.tokenize(self._render(prompt, images, system)[0]))

    def generate(self, requests: Sequence[Request], decoding: Decoding) -> List[Answer]:
        """See `Runner`."""
        import torch

        images = check_batch(requests)
        if not requests:
            return []
        rendered = [self._render(each.prompt, images, each.system) for each in requests]
        prompts = [self.tokenize(text) for text, _ in rendered]
        with torch.inference_mode():
            merged = [self._merge(ids, each.images) for ids, each in zip(prompts, requests)]
            embeddings, mask = padded_left(merged)
        check_lengths(
            requests,
            [len(each) for each in merged],
            decoding,
            prompt_limit=None,
            context=self._context,
        )
        ids = torch.empty(len(requests), 0, dtype=torch.long, device=embeddings.device)
        rows = generate_tokens(
            self._language_model.generate,
            {"inputs": ids, "inputs_embeds": embeddings, "attention_mask": mask},
            requests,
            decoding,
            self._special,
        )
        return [
            self._answer(text, stop, len(prompt), tokens, finish)
            for (text, stop), prompt, (tokens, finish) in zip(rendered, prompts, rows)
        ]

    def tokenize(self, text: str) -> List[int]:
        """Token ids of a text with `<image>` placeholders, as upstream makes them."""
        from share4v.mm_utils import tokenizer_image_token

        ids: List[int] = tokenizer_image_token(text, self.tokenizer)
        return ids

    def preprocess(self, pictures: "Sequence[Image]") -> Any:
        """Pictures as the model takes them, on its device."""
        from share4v.mm_utils import process_images

        aspect = SimpleNamespace(image_aspect_ratio=self._aspect)
        made = process_images(list(pictures), self.image_processor, aspect)
        return made.to(device=self.model.device, dtype=self._dtype)

    def _answer(
        self, prompt: str, stop: str, length: int, tokens: Tuple[int, ...], finish: str
    ) -> Answer:
        text = self.tokenizer.decode(list(tokens), skip_special_tokens=True).strip()
        # Upstream stops at the template's separator, where that is no end token.
        said, found, _ = text.partition(stop)
        return Answer(
            text=said.strip(),
            finish=STOPPED if found else finish,
            rendered_prompt=prompt,
            prompt_tokens=length,
            token_ids=tokens,
        )

    def _render(self, prompt: str, images: int, system: Optional[str]) -> Tuple[str, str]:
        """The prompt, and the text that ends an answer."""
        from share4v.constants import DEFAULT_IM_END_TOKEN, DEFAULT_IM_START_TOKEN
        from share4v.conversation import SeparatorStyle, conv_templates

        if _PLACEHOLDER in prompt or _PLACEHOLDER in (system or ""):
            raise ValueError(
                f"Prompt {prompt[:60]!r}: expected text, found the placeholder {_PLACEHOLDER!r},"
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
            conversation.system = system
        conversation.append_message(conversation.roles[0], f"{placeholder}\n" * images + prompt)
        conversation.append_message(conversation.roles[1], None)
        two = conversation.sep_style is SeparatorStyle.TWO
        rendered: str = conversation.get_prompt()
        return rendered, str(conversation.sep2 if two else conversation.sep)

    def _merge(self, ids: Sequence[int], pictures: "Sequence[Image]") -> "Tensor":
        """Embeddings of one prompt with its pictures, [T, H]."""
        import torch

        tokens = torch.tensor([list(ids)], device=self.model.device)
        if not pictures:
            alone: Tensor = self.model.get_input_embeddings()(tokens)[0]
            return alone
        embeddings: Tensor = self.model.prepare_inputs_labels_for_multimodal(
            tokens, torch.ones_like(tokens), None, None, self.preprocess(pictures)
        )[-2]
        return embeddings[0]


def _language_model(model: Any) -> Any:
    """The class above upstream's, whose forward takes embeddings, around upstream's weights."""
    import torch
    from transformers import LlamaForCausalLM

    with torch.device("meta"):
        found = LlamaForCausalLM(model.config)
    found.model, found.lm_head = model.model, model.lm_head
    found.generation_config = model.generation_config
    return found.eval()


def _choose_conversation(options: ModelOptions) -> str:
    from share4v.conversation import conv_templates

    name = checkpoint_name(options.path).lower()
    chosen = next((found for word, found in _CONVERSATIONS if word in name), _OTHERWISE)
    chosen = options.conversation or chosen
    if chosen not in conv_templates:
        raise ValueError(
            f"--conversation: expected one of {', '.join(sorted(conv_templates))}, found"
            f" {chosen!r}. Choose the one that the checkpoint was trained with."
        )
    return chosen


SHAREGPT4V = RunnerKind(
    name="sharegpt4v",
    summary="checkpoints of ShareGPT4V's own trainer: whole model, or projector alone",
    needs=NEEDS,
    check=check_share4v,
    load=ShareGPT4VRunner,
)
