"""Hidden states of MiniGPT-4 and MiniGPT-v2: upstream's forward merges, the patch locates.

What is upstream's own and what is our reading, as MIR's authors published nothing of MiniGPT-4:

- The sequence is the one that upstream's forward makes for its LLM: BOS, prompt and picture, answer
  and `end_sym`.
- "official", reading: the prompt is that of upstream's demos (`CONV_VISION_Vicuna0`, for Llama 2
  `CONV_VISION_LLama2`, for v2 `CONV_VISION_minigptv2`) with a picture and no question, and the
  unrelated text is the answer. Every token after the picture is text. `max_txt_len`, at which
  upstream cuts answers, is lifted: LLaVA's do not end there either.
- "pairs", upstream's own for MiniGPT-4: its stage 1, picture and caption without a prompt, the
  caption read by the YAML's text processor (`blip_caption`: lower case, without punctuation) and
  cut at `max_txt_len`; the caption and `end_sym` are text. For v2, whose stage 1 upstream does not
  publish, this form is our reading.
"""

from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence

from regap_benchmarks.gap.states import (
    OFFICIAL,
    PairStates,
    ShownPair,
    SourceKind,
    StatesSource,
    after_image,
    refuse_placeholder,
    split_tokens,
)
from regap_benchmarks.records import Json
from regap_benchmarks.runners.fingerprint import fingerprint_of_file
from regap_benchmarks.runners.minigpt4_checkpoint import (
    CONVERSATIONS,
    check_minigpt4,
    load_minigpt4,
)
from regap_benchmarks.runners.runner import ModelOptions
from regap_benchmarks.runners.transformers_generation import describe_environment

_PLACEHOLDER, _IGNORED = "<ImageHere>", -100
_PICTURE = f"<Img>{_PLACEHOLDER}</Img>"
# What of the YAML's section `model` decides the states.
_DESCRIBED = ("arch", "model_type", "image_size", "has_qformer", "num_query_token", "max_txt_len")
_DESCRIBED_TOO = ("end_sym", "lora_r", "lora_alpha", "low_resource", "vit_precision")


class MiniGPT4States(StatesSource):
    """The model of a YAML, as upstream's demo.py loads it; with Q-Former or without, or v2.

    Args:
        options: `path` is the YAML, with the checkpoint at `model.ckpt`.

    Raises:
        ValueError: a YAML or checkpoint that upstream cannot load.
        MissingRequirementError: upstream's modules do not import here.
    """

    def __init__(self, options: ModelOptions) -> None:
        from regap_plugin.plugins import load_plugins

        self._options = options
        self._loaded = load_minigpt4(options)
        self._model = self._loaded.model
        self._upstream = load_plugins().upstream("minigpt4")
        self._conversation = _conversation(self._loaded.settings)
        config = self._model.llama_model.config
        self.layers = int(config.num_hidden_layers)
        self.dimension = int(config.hidden_size)
        self._limit: Optional[int] = getattr(config, "max_position_embeddings", None)
        self._sha256: Dict[str, Json] = {
            "fingerprint": fingerprint_of_file(Path(self._loaded.settings["ckpt"])),
        }

    def describe(self) -> Mapping[str, Json]:
        """See `StatesSource`."""
        settings = self._loaded.settings
        return {
            "runner": MINIGPT4_STATES.name,
            "config": Path(self._options.path).name,
            "checkpoint": Path(settings["ckpt"]).name,
            **self._sha256,
            "llm": Path(settings["llama_model"]).name,
            "architecture": type(self._model).__name__,
            "dtype": self._options.dtype,
            "conversation": self._conversation,
            **{name: settings.get(name) for name in (*_DESCRIBED, *_DESCRIBED_TOO)},
        }

    def environment(self) -> Mapping[str, Json]:
        """See `StatesSource`."""
        return describe_environment(self._model.llama_model, self._options.device)

    def check_text(self, name: str, text: str, protocol: str) -> None:
        """See `StatesSource`."""
        refuse_placeholder(name, text, _PLACEHOLDER)
        if protocol == OFFICIAL:
            ids = self._model.llama_tokenizer(text, add_special_tokens=False).input_ids
            self._check_length(name, len(ids))
        elif not self._loaded.caption(text):
            raise ValueError(
                f"Pair {name!r}: expected words for upstream's text processor, found none in"
                f" {text[:40]!r}. Give it another text."
            )

    def states(
        self, pairs: Sequence[ShownPair], protocol: str, layers: Sequence[int]
    ) -> List[PairStates]:
        """See `StatesSource` and the module's own words about the protocols."""
        import torch

        with torch.inference_mode(), self._as_asked(protocol):
            located = self._upstream.locate_tokens(self._model, self._samples(pairs, protocol))
            mask = located.attention_mask
            for pair, length in zip(pairs, mask.sum(dim=1).tolist()):
                self._check_length(pair.id, length)
            with self._model.maybe_autocast():
                outputs = self._model.llama_model(
                    inputs_embeds=located.embeddings,
                    attention_mask=mask,
                    output_hidden_states=True,
                    use_cache=False,
                    return_dict=True,
                )
        if protocol == OFFICIAL:
            text_mask = after_image(located.image_mask, mask)
        else:
            assert located.labels is not None
            text_mask = located.text_mask & (located.labels != _IGNORED)
        return split_tokens(outputs.hidden_states, located.image_mask, text_mask, pairs, layers)

    def _samples(self, pairs: Sequence[ShownPair], protocol: str) -> Dict[str, Any]:
        import torch

        pictures = torch.stack([self._loaded.preprocess(pair.image) for pair in pairs])
        samples: Dict[str, Any] = {"image": pictures.to(self._options.device)}
        if protocol == OFFICIAL:
            samples["instruction_input"] = [self._prompt()] * len(pairs)
            samples["answer"] = [pair.text for pair in pairs]
        else:
            samples["answer"] = [self._loaded.caption(pair.text) for pair in pairs]
        return samples

    def _prompt(self) -> str:
        """What stands before the answer, as upstream's `Chat` renders a picture alone."""
        from minigpt4.conversation import conversation

        chat = getattr(conversation, self._conversation).copy()
        chat.append_message(chat.roles[0], _PICTURE)
        chat.append_message(chat.roles[1], None)
        rendered: str = chat.get_prompt()
        return rendered

    @contextmanager
    def _as_asked(self, protocol: str) -> Iterator[None]:
        """Without the prompts of stage 2, which upstream draws, and v2's template around ours."""
        changed: Dict[str, Any] = {"prompt_list": [], "chat_template": False}
        if protocol == OFFICIAL:
            changed["max_txt_len"] = self._limit or self._model.max_context_len
        before = {name: vars(self._model)[name] for name in changed if name in vars(self._model)}
        vars(self._model).update(changed)
        try:
            yield
        finally:
            for name in changed:
                del vars(self._model)[name]
            vars(self._model).update(before)

    def _check_length(self, name: str, length: int) -> None:
        if self._limit is not None and length > self._limit:
            raise ValueError(
                f"Pair {name!r}: expected at most {self._limit} positions, those of the picture"
                f" included, found {length}. Shorten its text."
            )


def _conversation(settings: Mapping[str, Any]) -> str:
    name = str(settings.get("model_type"))
    if name not in CONVERSATIONS:
        raise ValueError(
            f"model.model_type: expected one of {', '.join(CONVERSATIONS)}, found {name!r}."
            " Change it in the YAML."
        )
    return CONVERSATIONS[name]


MINIGPT4_STATES = SourceKind("minigpt4", check_minigpt4, MiniGPT4States)
