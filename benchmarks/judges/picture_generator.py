"""A generative judge that sees the picture too: Llama Guard 3 Vision and 4, by their processors."""

from typing import TYPE_CHECKING, Any, Dict, List, Sequence, Tuple

from regap_benchmarks.judges.judge_options import JudgeOptions
from regap_benchmarks.judges.text_generator import (
    WITH_PICTURES,
    Generated,
    Pictures,
    TextGenerator,
    TransformersGenerator,
    model_type,
)
from regap_benchmarks.runners.transformers_generation import resolve_dtype, take_special_tokens

if TYPE_CHECKING:
    from PIL.Image import Image


class PictureGenerator(TransformersGenerator):
    """An image-text-to-text model of transformers, asked with pictures or without.

    Args:
        options: checked by `judge_model.check_model`.

    Raises:
        ValueError: a checkpoint that does not load, or one without a processor.
    """

    sees_pictures = True

    def __init__(self, options: JudgeOptions) -> None:
        super().__init__(options)
        self._processor = _processor(str(options.model))
        self._tokenizer = self._processor.tokenizer
        self._tokenizer.padding_side = "left"
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        self._special = take_special_tokens(self._model.model, self._tokenizer)

    def render(self, turns: Sequence[Tuple[str, str]], pictures: int = 0) -> str:
        """See `TextGenerator`. The assistant's turn is begun, as the cards of both do."""
        messages: List[Dict[str, Any]] = [
            {"role": role, "content": [{"type": "text", "text": text}]} for role, text in turns
        ]
        messages[0]["content"] = [{"type": "image"}] * pictures + messages[0]["content"]
        try:
            found: str = self._processor.apply_chat_template(
                messages, add_generation_prompt=True, tokenize=False
            )
        except Exception as error:  # what jinja raises is the template's own
            raise ValueError(
                f"--judge-model {self._model.path}: expected a chat template that takes two turns"
                f" and {pictures} pictures, found {type(error).__name__}: {error}"
            ) from error
        missing = [role for role, text in turns if text.strip() not in found]
        shown = found.count(self._placeholder())
        if missing or shown != pictures:
            raise ValueError(
                f"--judge-model {self._model.path}: expected a chat template that shows every turn"
                f" and {pictures} pictures, found {shown} pictures and no turn of {missing}. Pass"
                " the judge's own checkpoint."
            )
        return found

    def generate(
        self,
        prompts: Sequence[str],
        *,
        most_tokens: int,
        words: Sequence[str] = (),
        pictures: Pictures = (),
    ) -> List[Generated]:
        """See `TextGenerator`. Prompts of as many pictures go together, long ones too."""
        shown = [list(each) for each in pictures] or [[] for _ in prompts]
        order = sorted(
            range(len(prompts)), key=lambda index: (len(shown[index]), len(prompts[index]))
        )
        found: Dict[int, Generated] = {}
        while order:
            count = len(shown[order[0]])
            size = self._model.batch_size
            batch = [index for index in order[:size] if len(shown[index]) == count]
            order = order[len(batch) :]
            inputs = self._inputs([prompts[i] for i in batch], [shown[i] for i in batch])
            found.update(zip(batch, self._continue(inputs, most_tokens, words)))
        return [found[index] for index in range(len(prompts))]

    def excess(self, prompt: str, most_tokens: int, pictures: "Sequence[Image]" = ()) -> int:
        """See `TextGenerator`. A picture's tokens are counted as the processor makes them."""
        context = self._context()
        if context is None:
            return 0
        length = self._inputs([prompt], [list(pictures)])["input_ids"].shape[1]
        return max(int(length) + most_tokens - context, 0)

    def _inputs(self, prompts: Sequence[str], pictures: "Sequence[List[Image]]") -> Any:
        inputs = self._processor(
            text=list(prompts),
            # Left out without pictures: not every processor takes empty lists.
            **({"images": [list(each) for each in pictures]} if pictures[0] else {}),
            padding=True,
            return_tensors="pt",
            add_special_tokens=self._adds_special_tokens(prompts[0]),
        )
        return inputs.to(self._model.device, resolve_dtype(self._model.dtype))

    def _placeholder(self) -> str:
        return str(getattr(self._processor, "image_token", "<|image|>"))


def generator_of(options: JudgeOptions) -> TextGenerator:
    """The generator for a checkpoint: with pictures where its model takes some.

    Raises:
        ValueError: a checkpoint that does not load.
    """
    if model_type(str(options.model)) in WITH_PICTURES:
        return PictureGenerator(options)
    return TransformersGenerator(options)


def _processor(path: str) -> Any:
    from transformers import AutoProcessor

    try:
        found = AutoProcessor.from_pretrained(path)
    except (OSError, ValueError, ImportError) as error:
        raise ValueError(
            f"--judge-model {path}: expected a processor that transformers loads, found: {error}"
            " Pass the folder of a whole checkpoint."
        ) from error
    if not hasattr(found, "image_processor") or not hasattr(found, "tokenizer"):
        raise ValueError(
            f"--judge-model {path}: expected a processor of pictures and text, found"
            f" {type(found).__name__}. Pass the folder of a whole checkpoint."
        )
    return found
