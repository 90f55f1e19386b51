"""From pixels to the loss of a target, through a model of LLaVA's own classes.

Upstream's vision tower runs without gradients, as it is never trained; the attack calls the same
forward without that wrapper.
"""

import contextlib
import copy
import dataclasses
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Iterator, List, Protocol, Sequence

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
    """What of the runner is used; see `LlavaRunner`."""

    model: Any
    image_processor: Any

    def render(self, request: Request, images: int) -> str:
        """The text that goes into the tokenizer."""

    def tokenize(self, text: str) -> List[int]:
        """Its tokens, pictures as upstream's placeholder."""

    def preprocess(self, pictures: "Sequence[Image]") -> Any:
        """Pictures as the model takes them."""


def target_loss(
    runner: Asked, preprocessing: SimpleNamespace, request: Request, target: str
) -> TargetLoss:
    """See `Runner.target_loss`."""
    import torch

    (picture,) = request.images
    prompt = runner.tokenize(runner.render(request, 1))
    forced = runner.tokenize(runner.render(dataclasses.replace(request, answer_start=target), 1))
    ids = target_ids(forced, prompt, target)
    start = start_of(
        picture,
        lambda image: _without_normalising(runner.image_processor, preprocessing, image),
        lambda image: _one_tensor(runner.preprocess([image])),
        runner.image_processor,
    )
    model = runner.model.requires_grad_(False)
    sequence = torch.tensor([forced], device=model.device)

    def loss(pixels: "Tensor") -> "Tensor":
        seen = normalised(pixels, runner.image_processor, model.dtype, model.device)
        with _gradient_through_the_tower(model):
            _, _, mask, _, embeddings, _ = model.prepare_inputs_labels_for_multimodal(
                sequence, None, torch.ones_like(sequence), None, None, seen
            )
        logits = model(inputs_embeds=embeddings, attention_mask=mask, use_cache=False).logits
        return mean_loss(logits[0], ids)

    return TargetLoss(start, loss, len(ids))


@contextlib.contextmanager
def _gradient_through_the_tower(model: Any) -> Iterator[None]:
    """Within it, upstream's `encode_images` keeps the gradient."""
    tower = model.get_vision_tower()
    forward = getattr(type(tower).forward, "__wrapped__", type(tower).forward)

    def encode(images: "Tensor") -> Any:
        return model.get_model().mm_projector(forward(tower, images))

    model.encode_images = encode
    try:
        yield
    finally:
        del model.encode_images


def _without_normalising(
    image_processor: Any, preprocessing: SimpleNamespace, image: "Image"
) -> "Tensor":
    from llava.mm_utils import process_images

    plain = copy.copy(image_processor)
    plain.do_rescale = plain.do_normalize = False
    return _one_tensor(process_images([image], plain, preprocessing))[0]


def _one_tensor(made: Any) -> "Tensor":
    if isinstance(made, list):
        made = made[0].unsqueeze(0)
    tensor: Tensor = made
    return tensor
