"""Runs MiniGPT-4 and MiniGPT-v2 from upstream's YAML, with upstream's own prompts, in batches.

The prompt is that of upstream's demos, `Chat` with the conversation of the model: a picture and the
question in one turn; the embeddings are upstream's `get_context_emb`, and the answer is cut as
upstream cuts it (MiniGPT-4 d94738a, minigpt4/conversation/conversation.py and
models/minigpt_base.py). Greedy answers equal those of upstream's `generate`, which forbids an empty
answer. Its demos sample: --temperature 1 --top-p 0.9 --repetition-penalty 1.05.

Questions without a picture, and with several, are our reading: upstream's demos have one.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, List, Mapping, Optional, Sequence, Tuple

from regap_benchmarks.decoding import Decoding
from regap_benchmarks.records import STOPPED, Json
from regap_benchmarks.runners.fingerprint import fingerprint_of_file
from regap_benchmarks.runners.left_padding import padded_left
from regap_benchmarks.runners.minigpt4_checkpoint import (
    CONVERSATIONS,
    NEEDS,
    check_minigpt4,
    load_minigpt4,
)
from regap_benchmarks.runners.runner import Answer, ModelOptions, Request, Runner, RunnerKind
from regap_benchmarks.runners.transformers_generation import (
    check_batch,
    check_lengths,
    describe_environment,
    generate_tokens,
    take_special_tokens,
)

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

_PLACEHOLDER = "<ImageHere>"
_PICTURE = f"<Img>{_PLACEHOLDER}</Img>"
# What begins the next turn ends the answer, and what stands before is not part of it.
_STOP, _ROLE = "###", "Assistant:"
_V2, _V2_ROLE = "CONV_VISION_minigptv2", "[/INST]"
# What of the YAML's section `model` decides the answers.
_DESCRIBED = ("arch", "model_type", "image_size", "has_qformer", "num_query_token", "end_sym")
_DESCRIBED_TOO = ("lora_r", "lora_alpha", "low_resource", "vit_precision")


class MiniGPT4Runner(Runner):
    """The model of a YAML, as upstream's demo.py loads it; with Q-Former or without, or v2.

    Args:
        options: `path` is the YAML, with the checkpoint at `model.ckpt`.

    Attributes:
        model: upstream's.

    Raises:
        ValueError: a YAML or checkpoint that upstream cannot load.
        MissingRequirementError: upstream's modules do not import here.
    """

    def __init__(self, options: ModelOptions) -> None:
        self._options = options
        self._loaded = load_minigpt4(options)
        self.model = self._loaded.model
        settings = self._loaded.settings
        name = str(settings.get("model_type"))
        if name not in CONVERSATIONS:
            raise ValueError(
                f"{options.path}: expected a model.model_type of {', '.join(CONVERSATIONS)}, found"
                f" {name!r}. Change it in the YAML."
            )
        self._conversation = CONVERSATIONS[name]
        self._tokenizer: Any = self.model.llama_tokenizer
        self._special = take_special_tokens(self.model.llama_model, self._tokenizer)
        config = self.model.llama_model.config
        self._context: Optional[int] = getattr(config, "max_position_embeddings", None)
        self._fingerprint = fingerprint_of_file(Path(settings["ckpt"]))

    def describe(self) -> Mapping[str, Json]:
        """See `Runner`."""
        settings = self._loaded.settings
        return {
            "runner": MINIGPT4.name,
            "config": Path(self._options.path).name,
            "checkpoint": Path(settings["ckpt"]).name,
            "fingerprint": self._fingerprint,
            "llm": Path(settings["llama_model"]).name,
            "architecture": type(self.model).__name__,
            "dtype": self._options.dtype,
            "conversation": self._conversation,
            "forbidden_tokens": dict(self._special.forbidden),
            **{name: settings.get(name) for name in (*_DESCRIBED, *_DESCRIBED_TOO)},
        }

    def environment(self) -> Mapping[str, Json]:
        """See `Runner`."""
        return describe_environment(self.model.llama_model, self._options.device)

    def length(self, prompt: str, images: int, system: Optional[str]) -> int:
        """See `Runner`."""
        return self._count(self._render(prompt, images, system)) + images

    def generate(self, requests: Sequence[Request], decoding: Decoding) -> List[Answer]:
        """See `Runner`."""
        import torch

        images = check_batch(requests)
        if not requests:
            return []
        texts = [self._render(each.prompt, images, each.system) for each in requests]
        with torch.inference_mode(), self.model.maybe_autocast():
            merged = [self._merge(text, each.images) for text, each in zip(texts, requests)]
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
            self._generate,
            {"inputs": ids, "inputs_embeds": embeddings, "attention_mask": mask},
            requests,
            decoding,
            self._special,
        )
        return [
            self._answer(text, images, tokens, finish)
            for text, (tokens, finish) in zip(texts, rows)
        ]

    def _generate(self, **settings: Any) -> Any:
        """Upstream's language model, with upstream's least length of one."""
        from transformers import MinLengthLogitsProcessor

        settings["logits_processor"].insert(
            0, MinLengthLogitsProcessor(1, list(self._special.ends))
        )
        with self.model.maybe_autocast():
            return self.model.llama_model.generate(**settings)

    def _answer(self, prompt: str, images: int, tokens: Tuple[int, ...], finish: str) -> Answer:
        text = str(self._tokenizer.decode(list(tokens), skip_special_tokens=True))
        if self._conversation == _V2:  # `MiniGPTBase.generate`, by which eval_vqa.py asks
            said = text.split("</s>")[0].replace("<s>", "").split(_V2_ROLE)[-1]
        else:  # `Chat.answer`
            said, found, _ = text.partition(_STOP)
            finish = STOPPED if found else finish
            said = said.split(_ROLE)[-1]
        return Answer(
            text=said.strip(),
            finish=finish,
            rendered_prompt=prompt,
            prompt_tokens=self._count(prompt) + images,
            token_ids=tokens,
        )

    def _render(self, prompt: str, images: int, system: Optional[str]) -> str:
        from minigpt4.conversation import conversation

        if _PLACEHOLDER in prompt:
            raise ValueError(
                f"Prompt {prompt[:60]!r}: expected text, found the placeholder {_PLACEHOLDER!r},"
                " which upstream would take for a picture. Reword it."
            )
        chat = getattr(conversation, self._conversation).copy()
        if system is not None:
            chat.system = system
        turn = " ".join([*[_PICTURE] * images, prompt])
        chat.append_message(chat.roles[0], turn)
        chat.append_message(chat.roles[1], None)
        rendered: str = chat.get_prompt()
        return rendered

    def _count(self, text: str) -> int:
        parts = text.split(_PLACEHOLDER)
        return sum(
            len(self._tokenizer(part, add_special_tokens=number == 0).input_ids)
            for number, part in enumerate(parts)
        )

    def _merge(self, text: str, pictures: "Sequence[Image]") -> "Tensor":
        """Embeddings of one prompt with its pictures, [T, H]."""
        import torch

        if not pictures:
            # `get_context_emb` asks a picture for its device.
            ids = self._tokenizer(text, return_tensors="pt").input_ids.to(self._options.device)
            alone: Tensor = self.model.embed_tokens(ids)[0]
            return alone
        made = torch.stack([self._loaded.preprocess(each) for each in pictures])
        states, _ = self.model.encode_img(made.to(self._options.device))
        merged: Tensor = self.model.get_context_emb(text, [each[None] for each in states])[0]
        return merged


MINIGPT4 = RunnerKind(
    name="minigpt4",
    summary="MiniGPT-4 and MiniGPT-v2 by upstream's YAML: minigpt4:eval_configs/X.yaml",
    needs=NEEDS,
    check=check_minigpt4,
    load=MiniGPT4Runner,
)
