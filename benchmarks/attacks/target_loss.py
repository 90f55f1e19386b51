"""How far a model is from beginning its answer with a target, as a function of a picture's pixels.

What every runner's differentiable way shares. Only preprocessing that is a resize or crop, a
division by 255 and a normalisation is taken, and that is checked: the pixels that are attacked are
then those that the model sees, and a saved picture gives them back.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, List, Sequence

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

# Of normalised values; those of float32 arithmetic lie at 1e-6.
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class TargetLoss:
    """A loss to be made small.

    Attributes:
        start: the picture at the model's own size, [3, H, W] in float32, whole multiples of 1/255
            from 0 to 1.
        loss: from pixels like `start`, of any dtype and on any device, to the mean negative log
            likelihood of the target's tokens in nats, a scalar with a gradient.
        target_tokens: how many they are.
    """

    start: "Tensor"
    loss: "Callable[[Tensor], Tensor]"
    target_tokens: int


def target_ids(whole: Sequence[int], prompt: Sequence[int], target: str) -> List[int]:
    """The tokens of a target behind a prompt.

    Args:
        whole: of prompt and target in one text.
        prompt: of the prompt alone, as the model is asked.
        target: for the message.

    Raises:
        ValueError: none, or the target changes the prompt's own tokens, so that no answer could
            begin with it.
    """
    before = list(prompt)
    if not target.strip() or len(whole) <= len(before) or list(whole[: len(before)]) != before:
        raise ValueError(
            f"--target {target!r}: expected a text that begins with a token of its own behind the"
            f" prompt, found {len(before)} tokens before and {len(whole)} with it, of other words."
            " Choose another beginning."
        )
    return list(whole[len(before) :])


def mean_loss(logits: "Tensor", ids: Sequence[int]) -> "Tensor":
    """The mean negative log likelihood of the last tokens.

    Args:
        logits: [T, V] of the whole sequence.
        ids: of its last tokens.
    """
    import torch
    from torch.nn import functional

    at = logits[-len(ids) - 1 : -1]
    # Half precision would round the differences of a step away.
    at = at if at.dtype == torch.float64 else at.float()
    return functional.cross_entropy(at, torch.tensor(list(ids), device=logits.device))


def normalised(pixels: "Tensor", processor: Any, dtype: Any, device: Any) -> "Tensor":
    """Pixels [3, H, W] from 0 to 1 as the vision tower takes them, [1, 3, H, W]."""
    mean = pixels.new_tensor(list(processor.image_mean)).view(3, 1, 1)
    spread = pixels.new_tensor(list(processor.image_std)).view(3, 1, 1)
    return ((pixels - mean) / spread).to(device=device, dtype=dtype).unsqueeze(0)


def start_of(
    picture: "Image",
    without_normalising: "Callable[[Image], Tensor]",
    preprocess: "Callable[[Image], Tensor]",
    processor: Any,
) -> "Tensor":
    """The picture at the model's size; see `TargetLoss.start`.

    Args:
        picture: RGB.
        without_normalising: preprocessing that leaves values from 0 to 255 as they are.
        preprocess: the model's own, to [1, 3, H, W].
        processor: has `image_mean` and `image_std`.

    Raises:
        ValueError: another preprocessing than a resize or crop, a division by 255 and a
            normalisation, such as tiles; or one that changes a picture of the model's own size.
    """
    import torch

    seen = preprocess(picture)
    plain = without_normalising(picture)
    if seen.dim() != 4 or seen.shape[0] != 1 or plain.shape != seen.shape[1:]:
        raise ValueError(
            f"Picture: expected one tensor of [1, 3, height, width], found {list(seen.shape)}. The"
            " attack knows no tiles: choose a checkpoint with one view of a picture."
        )
    start = (plain.float().round() / 255).clamp(0, 1).cpu()
    own = normalised(start, processor, torch.float32, "cpu")
    again = preprocess(as_picture(start)).float().cpu()
    for found in (seen.float().cpu(), again):
        if found.shape != own.shape or float((found - own).abs().max()) > _tolerance(seen):
            raise ValueError(
                "Picture: expected preprocessing that is a resize or crop, a division by 255 and a"
                " normalisation, and that leaves a picture of the model's size as it is, found"
                f" {type(processor).__name__} that does something else. The pixels that would be"
                " attacked are not those that the model sees: choose another checkpoint."
            )
    return start


def as_picture(pixels: "Tensor") -> "Image":
    """A picture of pixels [3, H, W] from 0 to 1, to the nearest of 256 levels."""
    import torch
    from PIL import Image

    levels = (pixels.detach().cpu().clamp(0, 1) * 255).round().to(torch.uint8)
    height, width = levels.shape[1:]
    data = bytes(levels.permute(1, 2, 0).reshape(-1).tolist())
    return Image.frombytes("RGB", (int(width), int(height)), data)


def _tolerance(seen: "Tensor") -> float:
    import torch

    # A tensor of half precision has rounded values of up to about 2.6.
    return _TOLERANCE if seen.dtype in (torch.float32, torch.float64) else 0.02
