"""The statistics that show a collapse coming, against plain loops."""

import math
from typing import List

import pytest

pytest.importorskip("torch", reason="the statistics are of tensors: install torch")

import torch

from regap_plugin.collapse import collapse_statistics
from regap_plugin.embeddings import TokenEmbeddings

Rows = List[List[float]]


def _mean_row(rows: Rows) -> List[float]:
    return [math.fsum(column) / len(rows) for column in zip(*rows)]


def _reference(image: Rows, text: Rows) -> List[float]:
    origin = [0.0] * len(image[0])
    squares = [math.dist(v, _mean_row(image)) ** 2 for v in image]
    return [
        math.fsum(math.dist(v, origin) for v in image) / len(image),
        math.fsum(math.dist(t, origin) for t in text) / len(text),
        math.sqrt(math.fsum(squares) / len(image)),
        math.dist(_mean_row(image), _mean_row(text)),
    ]


def _batch(dtype: torch.dtype = torch.float32) -> TokenEmbeddings:
    torch.manual_seed(0)
    image_mask = torch.tensor([[1, 1, 0], [0, 0, 0], [1, 1, 1], [0, 1, 0]]).bool()
    text_mask = torch.tensor([[1, 0], [1, 1], [1, 1], [0, 0]]).bool()
    image, text = torch.randn(4, 3, 5, requires_grad=True), torch.randn(4, 2, 5)
    return TokenEmbeddings(image.to(dtype), image_mask, text.to(dtype), text_mask)


def test_each_statistic_is_that_of_plain_loops() -> None:
    batch = _batch()
    found = collapse_statistics(batch)
    assert list(found) == ["image_norm", "text_norm", "image_spread", "centroid"]
    per_sample = [
        _reference(batch.image[0, :2].tolist(), batch.text[0, :1].tolist()),
        _reference(batch.image[2].tolist(), batch.text[2].tolist()),
    ]
    expected = [sum(column) / 2 for column in zip(*per_sample)]
    assert [value.item() for value in found.values()] == pytest.approx(expected, rel=1e-5)


def test_they_are_float32_scalars_without_gradient_whatever_the_autocast() -> None:
    expected = collapse_statistics(_batch())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = collapse_statistics(_batch())
    for name, value in found.items():
        assert value.dtype is torch.float32
        assert value.shape == ()
        assert not value.requires_grad
        assert torch.equal(value, expected[name])
    half = _batch(torch.bfloat16)
    assert all(value.dtype is torch.float32 for value in collapse_statistics(half).values())


def test_tokens_that_gather_at_one_point_show_it() -> None:
    point = torch.ones(1, 4, 3)
    mask = torch.ones(1, 4, dtype=torch.bool)
    found = collapse_statistics(TokenEmbeddings(point, mask, point.clone(), mask))
    assert found["image_spread"].item() == 0.0
    assert found["centroid"].item() == 0.0
    assert found["image_norm"].item() == pytest.approx(math.sqrt(3))
