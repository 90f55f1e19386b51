"""`TokenEmbeddings`: the image and text token embeddings of a batch, as a gap loss needs them."""

import dataclasses
from dataclasses import dataclass
from typing import Callable, List, NamedTuple

import torch
from torch import Tensor


class SamplePair(NamedTuple):
    """The tokens of one sample that has both kinds.

    Attributes:
        image: image token embeddings, [r, d], r >= 1.
        text: text token embeddings, [s, d], s >= 1.
    """

    image: Tensor
    text: Tensor


@dataclass(frozen=True)
class TokenEmbeddings:
    """Image and text token embeddings of a batch of B samples, at one layer of the LLM.

    `image` and `text` may be the same tensor (a merged sequence) under different masks. Several
    images of a sample count as one set of image tokens.

    Attributes:
        image: embeddings that hold the image tokens, [B, T, d], floating point.
        image_mask: True where `image` holds an image token, [B, T], bool.
        text: embeddings that hold the text tokens, [B, S, d].
        text_mask: True where `text` holds a text token that counts, [B, S], bool.
        layer: 0 for the LLM's input embeddings, k for the hidden states behind layer k.
        step: optimizer steps completed, 0 outside of a training. The same on every rank: a formula
            that draws takes its seed from it.

    Raises:
        ValueError: shapes, dtypes or devices that do not belong together.
    """

    image: Tensor
    image_mask: Tensor
    text: Tensor
    text_mask: Tensor
    layer: int = 0
    step: int = 0

    def __post_init__(self) -> None:
        for name in ("image", "text"):
            states, mask = getattr(self, name), getattr(self, f"{name}_mask")
            if states.ndim != 3 or not states.is_floating_point():
                raise ValueError(
                    f"TokenEmbeddings.{name}: expected a floating-point tensor [batch, tokens, "
                    f"dim], found {states.dtype} {list(states.shape)}. Pass unpooled embeddings."
                )
            if mask.dtype != torch.bool or mask.shape != states.shape[:2]:
                raise ValueError(
                    f"TokenEmbeddings.{name}_mask: expected bool {list(states.shape[:2])}, found "
                    f"{mask.dtype} {list(mask.shape)}. Pass one truth value per token."
                )
        if self.image.shape[0] != self.text.shape[0] or self.image.shape[2] != self.text.shape[2]:
            raise ValueError(
                "TokenEmbeddings: expected image and text of equal batch size and dimension, found "
                f"{list(self.image.shape)} and {list(self.text.shape)}. Take both from one layer."
            )

        devices = {tensor.device for tensor in vars(self).values() if torch.is_tensor(tensor)}
        if len(devices) > 1:
            raise ValueError(
                "TokenEmbeddings: expected embeddings and masks on one device, found "
                f"{', '.join(sorted(map(str, devices)))}. Move them to one device."
            )

    @classmethod
    def from_sequence(
        cls, states: Tensor, image_mask: Tensor, text_mask: Tensor, *, layer: int = 0
    ) -> "TokenEmbeddings":
        """Both kinds of token in one merged sequence.

        Args:
            states: [B, T, d].
            image_mask: [B, T], bool.
            text_mask: [B, T], bool.
            layer: see the class.
        """
        return cls(states, image_mask, states, text_mask, layer)

    def detach(self) -> "TokenEmbeddings":
        """The same values without a gradient to either side."""
        return dataclasses.replace(self, image=self.image.detach(), text=self.text.detach())

    def detach_text(self) -> "TokenEmbeddings":
        """The same values with a gradient to the image side only."""
        return dataclasses.replace(self, text=self.text.detach())

    def pairs(self) -> List[SamplePair]:
        """The samples that have at least one image token and one text token.

        Returns:
            One `SamplePair` per such sample, in batch order; dtype as given, gradients kept.
        """
        counts = torch.stack([self.image_mask.sum(1), self.text_mask.sum(1)]).tolist()
        images = torch.split(self.image[self.image_mask], counts[0])
        texts = torch.split(self.text[self.text_mask], counts[1])
        return [
            SamplePair(image, text)
            for image, text in zip(images, texts)
            if image.shape[0] and text.shape[0]
        ]

    def checked_pairs(self) -> List[SamplePair]:
        """`pairs`, of which there is at least one.

        Raises:
            ValueError: no sample has both kinds.
        """
        pairs = self.pairs()
        if not pairs:
            raise ValueError(
                "TokenEmbeddings: expected a sample with an image token and a text token, found "
                f"none among {self.image.shape[0]}. Ask has_pairs() first."
            )
        return pairs

    def has_pairs(self) -> bool:
        """Whether any sample has both an image token and a text token."""
        return bool((self.image_mask.any(1) & self.text_mask.any(1)).any())

    def mean_over_samples(self, formula: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Average a formula over the samples that have both kinds of token.

        Args:
            formula: from image tokens [r, d] and text tokens [s, d] of one sample to a scalar.

        Returns:
            The mean, a scalar tensor.

        Raises:
            ValueError: no sample has both kinds.
        """
        values = [formula(image, text) for image, text in self.checked_pairs()]
        return torch.stack(values).mean()
