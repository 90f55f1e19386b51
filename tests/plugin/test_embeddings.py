"""`TokenEmbeddings` hands each sample's image and text tokens out, and refuses what cannot be."""

from typing import Any, Dict, List

import pytest

pytest.importorskip("torch", reason="the embeddings are tensors: install torch")

import torch
from torch import Tensor

from regap_plugin.embeddings import TokenEmbeddings

IMAGE_MASK = [[1, 1, 0], [0, 0, 0], [0, 1, 1], [1, 0, 0]]
TEXT_MASK = [[0, 1, 1, 0], [1, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 1]]


def _parts(**changes: Any) -> Dict[str, Any]:
    torch.manual_seed(0)
    parts: Dict[str, Any] = {
        "image": torch.randn(4, 3, 5),
        "image_mask": torch.tensor(IMAGE_MASK).bool(),
        "text": torch.randn(4, 4, 5),
        "text_mask": torch.tensor(TEXT_MASK).bool(),
    }
    return {**parts, **changes}


def _rows(states: Tensor, mask: List[int]) -> List[List[float]]:
    return [row for row, kept in zip(states.tolist(), mask) if kept]


def test_pairs_are_the_samples_with_both_kinds_of_token() -> None:
    parts = _parts()
    pairs = TokenEmbeddings(**parts).pairs()
    assert len(pairs) == 2
    for pair, sample in zip(pairs, (0, 3)):
        assert pair.image.tolist() == _rows(parts["image"][sample], IMAGE_MASK[sample])
        assert pair.text.tolist() == _rows(parts["text"][sample], TEXT_MASK[sample])


def test_several_images_of_a_sample_are_one_set() -> None:
    states = torch.arange(12.0).view(1, 6, 2)
    image_mask = torch.tensor([[True, True, False, True, False, False]])
    text_mask = torch.tensor([[False, False, True, False, True, False]])
    (pair,) = TokenEmbeddings.from_sequence(states, image_mask, text_mask).pairs()
    assert pair.image.tolist() == [[0.0, 1.0], [2.0, 3.0], [6.0, 7.0]]
    assert pair.text.tolist() == [[4.0, 5.0], [8.0, 9.0]]


@pytest.mark.parametrize(
    ("image_mask", "text_mask", "expected"),
    [
        ([[1, 0], [0, 0]], [[0, 1], [1, 1]], True),
        ([[1, 1], [0, 0]], [[0, 0], [1, 1]], False),  # both kinds, but in different samples
        ([[0, 0], [0, 0]], [[1, 1], [1, 1]], False),
        ([[1, 1], [1, 1]], [[0, 0], [0, 0]], False),
        ([[0, 0], [0, 1]], [[0, 0], [1, 0]], True),
    ],
)
def test_has_pairs_asks_for_both_in_one_sample(
    image_mask: List[List[int]], text_mask: List[List[int]], expected: bool
) -> None:
    embeddings = TokenEmbeddings.from_sequence(
        torch.zeros(2, 2, 3), torch.tensor(image_mask).bool(), torch.tensor(text_mask).bool()
    )
    assert embeddings.has_pairs() is expected
    assert bool(embeddings.pairs()) is expected


def test_an_empty_batch_has_no_pairs() -> None:
    mask = torch.zeros(0, 3, dtype=torch.bool)
    embeddings = TokenEmbeddings.from_sequence(torch.zeros(0, 3, 2), mask, mask)
    assert embeddings.pairs() == []
    assert embeddings.has_pairs() is False


def test_the_mean_is_over_samples_and_not_over_tokens() -> None:
    embeddings = TokenEmbeddings(**_parts())
    counts = embeddings.mean_over_samples(lambda image, text: image.new_tensor(len(image)))
    assert counts.item() == (2 + 1) / 2


def test_the_mean_of_nothing_is_an_error() -> None:
    parts = _parts(text_mask=torch.zeros(4, 4, dtype=torch.bool))
    with pytest.raises(
        ValueError, match=r"expected a sample with an image token and a text token, found none amo"
    ):
        TokenEmbeddings(**parts).mean_over_samples(lambda image, text: image.sum())


def test_the_gradient_reaches_the_tokens_and_nothing_else() -> None:
    states = torch.randn(4, 3, 5, requires_grad=True)
    embeddings = TokenEmbeddings(**_parts(image=states))
    embeddings.mean_over_samples(lambda image, text: image.sum()).backward()
    assert states.grad is not None
    reached = states.grad.abs().sum(2) > 0
    assert reached.tolist() == [[True, True, False], [False] * 3, [False] * 3, [True, False, False]]


def test_detaching_the_text_of_a_merged_sequence_keeps_the_image_side() -> None:
    states = torch.randn(1, 4, 3, requires_grad=True)
    image_mask = torch.tensor([[True, True, False, False]])
    embeddings = TokenEmbeddings.from_sequence(states, image_mask, ~image_mask, layer=2)
    detached = embeddings.detach_text()
    assert (detached.image.requires_grad, detached.text.requires_grad) == (True, False)
    assert detached.layer == 2
    neither = embeddings.detach()
    assert (neither.image.requires_grad, neither.text.requires_grad) == (False, False)
    assert neither.image.data_ptr() == states.data_ptr(), "detaching copies nothing"
    assert embeddings.text.requires_grad, "the original is as it was"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"image": torch.zeros(4, 5)},
            r"TokenEmbeddings\.image: expected a floating-point tensor \[batch, tokens, dim\], "
            r"found torch\.float32 \[4, 5\]\. Pass unpooled",
        ),
        (
            {"text": torch.zeros(4, 4, 5, dtype=torch.long)},
            r"TokenEmbeddings\.text: expected a floating-point.* found torch\.int64 \[4, 4, 5\]",
        ),
        (
            {"image_mask": torch.ones(4, 3)},
            r"TokenEmbeddings\.image_mask: expected bool \[4, 3\], found torch\.float32 \[4, 3\]",
        ),
        (
            {"text_mask": torch.ones(4, 3, dtype=torch.bool)},
            r"TokenEmbeddings\.text_mask: expected bool \[4, 4\], found torch\.bool \[4, 3\]",
        ),
        (
            {"text": torch.zeros(4, 4, 6)},
            r"equal batch size and dimension, found \[4, 3, 5\] and \[4, 4, 6\]",
        ),
        (
            {"text": torch.zeros(3, 4, 5), "text_mask": torch.zeros(3, 4, dtype=torch.bool)},
            r"equal batch size and dimension, found \[4, 3, 5\] and \[3, 4, 5\]",
        ),
        (
            {
                "text": torch.zeros(4, 4, 5, device="meta"),
                "text_mask": torch.zeros(4, 4, dtype=torch.bool, device="meta"),
            },
            r"expected embeddings and masks on one device, found cpu, meta",
        ),
    ],
)
def test_what_does_not_belong_together_is_refused(changes: Dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TokenEmbeddings(**_parts(**changes))
