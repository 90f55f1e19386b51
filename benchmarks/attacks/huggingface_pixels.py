"""From pixels to the loss of a target, through a model of transformers and its processor."""

import dataclasses
from typing import TYPE_CHECKING, Any, Protocol, Sequence

from regap_benchmarks.attacks.target_loss import (
    TargetLoss,
    mean_loss,
    normalised,
    start_of,
    target_ids,
)
from regap_benchmarks.runners.runner import Request

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor


class Asked(Protocol):
    """What of the runner is used; see `HuggingFaceRunner`."""

    model: Any

    def render(self, request: Request, images: int) -> str:
        """The text that goes into the tokenizer."""

    def prepare(self, texts: Sequence[str], images: "Sequence[Sequence[Image]]") -> Any:
        """A batch as the model takes it."""


def target_loss(runner: Asked, image_processor: Any, request: Request, target: str) -> TargetLoss:
    """See `Runner.target_loss`."""
    (picture,) = request.images
    text = runner.render(request, 1)
    forced = runner.render(dataclasses.replace(request, answer_start=target), 1)
    prompt = runner.prepare([text], [[picture]])["input_ids"][0].tolist()
    inputs = dict(runner.prepare([forced], [[picture]]))
    ids = target_ids(inputs["input_ids"][0].tolist(), prompt, target)

    def without_normalising(image: "Image") -> "Tensor":
        made = image_processor(
            images=[image], do_rescale=False, do_normalize=False, return_tensors="pt"
        )
        pixels: Tensor = made["pixel_values"][0]
        return pixels

    def preprocess(image: "Image") -> "Tensor":
        pixels: Tensor = runner.prepare([text], [[image]])["pixel_values"]
        return pixels

    start = start_of(picture, without_normalising, preprocess, image_processor)
    inputs.pop("pixel_values")
    model = runner.model.requires_grad_(False)

    def loss(pixels: "Tensor") -> "Tensor":
        seen = normalised(pixels, image_processor, model.dtype, model.device)
        return mean_loss(model(**inputs, pixel_values=seen, use_cache=False).logits[0], ids)

    return TargetLoss(start, loss, len(ids))
