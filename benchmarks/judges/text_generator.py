"""What a generative judge asks of a model: continue prompts greedily, with first probabilities."""

import abc
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Sequence, Tuple

from regap_benchmarks.decoding import Decoding
from regap_benchmarks.judges.judge_model import JudgeModel
from regap_benchmarks.judges.judge_options import JudgeOptions
from regap_benchmarks.records import Json
from regap_benchmarks.runners.runner import Request
from regap_benchmarks.runners.transformers_generation import generate_tokens, take_special_tokens

if TYPE_CHECKING:
    from PIL.Image import Image

Pictures = Sequence[Sequence["Image"]]

# Models that read pictures too, of which the text is asked here.
WITH_PICTURES = ("mllama", "llama4")
BATCH = 8
# What is never quantized, as parts of paths.
_HEAD = ("lm_head",)
# transformers 5 wants paths from the root, where before they were parts.
_VISION = (
    *("vision_model", "multi_modal_projector"),
    *("model.vision_model", "model.multi_modal_projector"),
)


@dataclass(frozen=True)
class Generated:
    """What a judge wrote.

    Attributes:
        text: without special tokens.
        probabilities: of the words that were asked for, that the first token that is no white
            space begins them; a word that no first token tells is absent.
        prompt_tokens: length of the prompt.
    """

    text: str
    probabilities: Mapping[str, float] = field(default_factory=dict)
    prompt_tokens: int = 0


class TextGenerator(abc.ABC):
    """A language model behind a judge: of transformers, or scripted in a test.

    Attributes:
        sees_pictures: whether prompts may have pictures.
    """

    sees_pictures = False

    @abc.abstractmethod
    def describe(self) -> Mapping[str, Json]:
        """Which model, and how it is held."""

    @abc.abstractmethod
    def render(self, turns: Sequence[Tuple[str, str]], pictures: int = 0) -> str:
        """(role, text) turns in the checkpoint's own chat template.

        Args:
            turns: in order.
            pictures: that stand before the first turn's text.

        Raises:
            ValueError: no template, one that drops a turn, or pictures to a model of text.
        """

    @abc.abstractmethod
    def generate(
        self,
        prompts: Sequence[str],
        *,
        most_tokens: int,
        words: Sequence[str] = (),
        pictures: Pictures = (),
    ) -> List[Generated]:
        """Continue each prompt greedily.

        Args:
            prompts: as they go into the tokenizer, special tokens spelt out; none that does not
                fit.
            most_tokens: of a continuation.
            words: whose probability at the first token is wanted.
            pictures: of each prompt; empty where none has any.
        """

    @abc.abstractmethod
    def cut(self, text: str, tokens: int) -> str:
        """The text of the first so many tokens; the text itself where it has no more."""

    @abc.abstractmethod
    def excess(self, prompt: str, most_tokens: int, pictures: "Sequence[Image]" = ()) -> int:
        """Tokens by which prompt and continuation exceed the model's context; 0: they fit."""

    @abc.abstractmethod
    def special_texts(self) -> Sequence[str]:
        """Spellings that the tokenizer makes special tokens of."""

    def close(self) -> None:  # noqa: B027  (some hold nothing)
        """Give back what the model holds."""


class TransformersGenerator(TextGenerator):
    """A causal language model of transformers.

    Args:
        options: checked by `judge_model.check_model`.

    Raises:
        ValueError: a checkpoint that does not load.
    """

    def __init__(self, options: JudgeOptions) -> None:
        with_pictures = model_type(str(options.model)) in WITH_PICTURES
        self._model = JudgeModel(
            options,
            auto="AutoModelForImageTextToText" if with_pictures else "AutoModelForCausalLM",
            head=(*_HEAD, *(_VISION if with_pictures else ())),
            default_batch=BATCH,
        )
        self._tokenizer: Any = self._model.tokenizer
        self._special = take_special_tokens(self._model.model, self._tokenizer)

    def describe(self) -> Mapping[str, Json]:
        """See `TextGenerator`."""
        return self._model.describe()

    def render(self, turns: Sequence[Tuple[str, str]], pictures: int = 0) -> str:
        """See `TextGenerator`. Templates take a turn's content as text or as a list of parts."""
        if not self._tokenizer.chat_template:
            raise ValueError(
                f"--judge-model {self._model.path}: expected a chat template, found none. Pass the"
                " checkpoint with its whole tokenizer."
            )
        errors = []
        for as_parts in (False, True):
            messages: List[Dict[str, Any]] = [
                {"role": role, "content": [{"type": "text", "text": text}] if as_parts else text}
                for role, text in turns
            ]
            try:
                found: str = self._tokenizer.apply_chat_template(messages, tokenize=False)
            except Exception as error:  # what jinja raises is the template's own
                errors.append(str(error))
                continue
            if all(text.strip() in found for _, text in turns) and "{'type'" not in found:
                return found
            errors.append("a text without one of the turns")
        raise ValueError(
            f"--judge-model {self._model.path}: expected a chat template that shows every turn,"
            f" found {'; '.join(errors)}. Pass the judge's own checkpoint."
        )

    def generate(
        self,
        prompts: Sequence[str],
        *,
        most_tokens: int,
        words: Sequence[str] = (),
        pictures: Pictures = (),
    ) -> List[Generated]:
        """See `TextGenerator`. Long prompts go together."""
        if any(pictures):
            raise ValueError("A judge of text: expected prompts without pictures, found some.")
        rows = [self._tokens(prompt) for prompt in prompts]
        order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
        found: Dict[int, Generated] = {}
        for start in range(0, len(order), self._model.batch_size):
            batch = order[start : start + self._model.batch_size]
            inputs = self._padded([rows[index] for index in batch])
            answers = self._continue(inputs, most_tokens, words)
            found.update(zip(batch, answers))
        return [found[index] for index in range(len(rows))]

    def cut(self, text: str, tokens: int) -> str:
        """See `TextGenerator`."""
        ids = self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        if len(ids) <= tokens:
            return text
        shown: str = self._tokenizer.decode(ids[:tokens], skip_special_tokens=True)
        return shown

    def excess(self, prompt: str, most_tokens: int, pictures: "Sequence[Image]" = ()) -> int:
        """See `TextGenerator`."""
        context = self._context()
        if context is None:
            return 0
        return max(len(self._tokens(prompt)) + most_tokens - context, 0)

    def special_texts(self) -> Sequence[str]:
        """See `TextGenerator`."""
        added = [str(each) for each in self._tokenizer.get_added_vocab()]
        return sorted({*added, *map(str, self._tokenizer.all_special_tokens)})

    def close(self) -> None:
        """See `TextGenerator`."""
        self._model.close()

    def _context(self) -> Optional[int]:
        config = self._model.model.config
        text_config = getattr(config, "text_config", None) or config
        found = getattr(text_config, "max_position_embeddings", None)
        return None if found is None else int(found)

    def _adds_special_tokens(self, prompt: str) -> bool:
        begin = self._tokenizer.bos_token
        return begin is None or not prompt.startswith(begin)

    def _tokens(self, prompt: str) -> List[int]:
        special = self._adds_special_tokens(prompt)
        found = self._tokenizer(prompt, add_special_tokens=special, verbose=False)["input_ids"]
        return list(found)

    def _padded(self, rows: Sequence[Sequence[int]]) -> Dict[str, Any]:
        import torch

        longest = max(map(len, rows))
        fill = self._special.padding
        device = self._model.device
        return {
            "input_ids": torch.tensor(
                [[fill] * (longest - len(row)) + list(row) for row in rows], device=device
            ),
            "attention_mask": torch.tensor(
                [[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=device
            ),
        }

    def _continue(
        self, inputs: Mapping[str, Any], most_tokens: int, words: Sequence[str]
    ) -> List[Generated]:
        """Continue a batch that is padded on the left; `input_ids` and its mask are [B, T]."""
        count, longest = inputs["input_ids"].shape
        lengths = inputs["attention_mask"].sum(dim=1).tolist()
        requests = [Request(str(number), "") for number in range(count)]
        decoding = Decoding(max_new_tokens=most_tokens)
        first = _FirstWords(self._tokenizer, words, count, self._special.ends, longest)
        model = self._model.model

        def generate(**settings: Any) -> Any:
            settings["logits_processor"].append(first)
            return model.generate(**settings)

        written = generate_tokens(generate, inputs, requests, decoding, self._special)
        return [
            Generated(
                self._tokenizer.decode(list(tokens), skip_special_tokens=True),
                dict(first.found[number] or {}),
                int(lengths[number]),
            )
            for number, (tokens, _) in enumerate(written)
        ]


class _FirstWords:
    """Looks at scores while transformers generates: of each row, where its first word begins."""

    def __init__(
        self,
        tokenizer: Any,
        words: Sequence[str],
        rows: int,
        ends: Sequence[int],
        prompt_length: int,
    ) -> None:
        self._tokenizer = tokenizer
        self._ends = set(ends)
        self._prompt_length = prompt_length
        self._begins = {word: begins for word in words if (begins := _begins(tokenizer, word))}
        self.found: List[Optional[Dict[str, float]]] = [None] * rows

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        if not self._begins or all(each is not None for each in self.found):
            return scores
        probabilities = scores.float().softmax(dim=-1)
        chosen = scores.argmax(dim=-1).tolist()
        written = input_ids[:, self._prompt_length :].tolist()
        for row, token in enumerate(chosen):
            if self.found[row] is not None:
                continue
            if self._ends.intersection([*written[row], token]):
                self.found[row] = {}  # it ended without a word
            elif self._tokenizer.decode([token]).strip():
                self.found[row] = {
                    word: float(probabilities[row, list(begins)].sum())
                    for word, begins in self._begins.items()
                }
        return scores


def _begins(tokenizer: Any, word: str) -> List[int]:
    """Ids of the tokens that begin a word, with and without a space before it."""
    ids = set()
    for text in (word, f" {word}", f"\n{word}"):
        tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
        visible = [each for each in tokens if tokenizer.decode([each]).strip()]
        if visible and word.startswith(tokenizer.decode([visible[0]]).strip()):
            ids.add(visible[0])
    return sorted(ids)


def model_type(path: str) -> str:
    """What config.json says a checkpoint is.

    Raises:
        ValueError: it says nothing that transformers knows.
    """
    from transformers import AutoConfig

    try:
        return str(AutoConfig.from_pretrained(path).model_type)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"--judge-model {path}: expected a checkpoint with config.json, found: {error}"
        ) from error
