"""The formulas over pairs against plain loops, their gradients against autograd, their cost."""

import math
import sys
from typing import Any, Callable, Dict, List, Tuple

import pytest

pytest.importorskip("torch", reason="the formulas are functions of tensors: install torch")

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from regap_plugin.embeddings import TokenEmbeddings
from regap_plugin.gap_losses import (
    BUILT_IN_LOSSES,
    GapLoss,
    centroid_l2,
    pairwise_l2,
    pairwise_squared_l2,
)

Rows = List[List[float]]

# ---- references: plain loops over Python floats, and autograd through the [r, s, d] tensor


def _mean_row(rows: Rows) -> List[float]:
    return [math.fsum(column) / len(rows) for column in zip(*rows)]


def _loop_pairwise_l2(image: Rows, text: Rows) -> float:
    return math.fsum(math.dist(v, t) for v in image for t in text) / (len(image) * len(text))


def _loop_pairwise_squared_l2(image: Rows, text: Rows) -> float:
    squares = [(a - b) ** 2 for v in image for t in text for a, b in zip(v, t)]
    return math.fsum(squares) / (len(image) * len(text))


def _loop_centroid_l2(image: Rows, text: Rows) -> float:
    return math.dist(_mean_row(image), _mean_row(text))


LOOPS: Dict[str, Callable[[Rows, Rows], float]] = {
    "pairwise_l2": _loop_pairwise_l2,
    "pairwise_squared_l2": _loop_pairwise_squared_l2,
    "centroid_l2": _loop_centroid_l2,
}


every_loss = pytest.mark.parametrize("name", sorted(LOOPS))


def _naive(name: str, image: Tensor, text: Tensor) -> Tensor:
    if name == "centroid_l2":
        return (image.mean(0) - text.mean(0)).norm()
    distances = (image[:, None] - text[None]).norm(dim=-1)
    return (distances if name == "pairwise_l2" else distances**2).mean()


def _naive_gradients(name: str, image: Tensor, text: Tensor) -> Tuple[Tensor, Tensor]:
    image = image.detach().double().requires_grad_()
    text = text.detach().double().requires_grad_()
    image_grad, text_grad = torch.autograd.grad(_naive(name, image, text), (image, text))
    return image_grad, text_grad


# ---- samples


def _sample(image: Tensor, text: Tensor) -> TokenEmbeddings:
    """One sample, all tokens of which count."""
    image_mask = torch.ones(1, image.shape[0], dtype=torch.bool)
    text_mask = torch.ones(1, text.shape[0], dtype=torch.bool)
    return TokenEmbeddings(image[None], image_mask, text[None], text_mask)


def _random(rows: int, dim: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, dim, generator=generator, dtype=torch.float64).to(dtype)


def _gradients(loss: GapLoss, image: Tensor, text: Tensor) -> Tuple[Tensor, Tensor]:
    image, text = image.detach().requires_grad_(), text.detach().requires_grad_()
    image_grad, text_grad = torch.autograd.grad(loss(_sample(image, text)), (image, text))
    return image_grad, text_grad


# Multiples of 1/8: coinciding tokens are frequent, and float32 holds the values exactly.
_VALUES = st.integers(-128, 128).map(lambda value: value / 8)


@st.composite
def _batches(draw: Any) -> Dict[str, Any]:
    batch, dim = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    drawn: Dict[str, Any] = {}
    for kind in ("image", "text"):
        tokens = draw(st.integers(1, 4))
        row = st.lists(_VALUES, min_size=dim, max_size=dim)
        sample = st.lists(row, min_size=tokens, max_size=tokens)
        mask = st.lists(st.booleans(), min_size=tokens, max_size=tokens)
        drawn[kind] = draw(st.lists(sample, min_size=batch, max_size=batch))
        drawn[f"{kind}_mask"] = draw(st.lists(mask, min_size=batch, max_size=batch))
    return drawn


def _tensors(drawn: Dict[str, Any], dtype: torch.dtype) -> Dict[str, Tensor]:
    return {
        name: torch.tensor(value, dtype=torch.bool if name.endswith("mask") else dtype)
        for name, value in drawn.items()
    }


def _loop_over_batch(name: str, drawn: Dict[str, Any]) -> List[float]:
    values = []
    for sample in range(len(drawn["image"])):
        kinds = [
            [row for row, kept in zip(drawn[kind][sample], drawn[f"{kind}_mask"][sample]) if kept]
            for kind in ("image", "text")
        ]
        if all(kinds):
            values.append(LOOPS[name](*kinds))
    return values


# ---- values


@every_loss
@given(drawn=_batches())
def test_the_value_is_that_of_plain_loops(name: str, drawn: Dict[str, Any]) -> None:
    expected = _loop_over_batch(name, drawn)
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-13)):
        embeddings = TokenEmbeddings(**_tensors(drawn, dtype))
        if not expected:
            with pytest.raises(ValueError, match="expected a sample with an image token and a tex"):
                BUILT_IN_LOSSES[name](embeddings)
            continue
        value = BUILT_IN_LOSSES[name](embeddings)
        assert value.shape == ()
        assert value.dtype is dtype
        assert value.item() == pytest.approx(
            math.fsum(expected) / len(expected), rel=tolerance, abs=tolerance
        )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # image (0, 0), (6, 8); text (3, 4): distances 5 and 5; the means coincide.
        ("pairwise_l2", 5.0),
        ("pairwise_squared_l2", 25.0),
        ("centroid_l2", 0.0),
    ],
)
def test_a_value_worked_out_by_hand(name: str, expected: float) -> None:
    embeddings = _sample(torch.tensor([[0.0, 0.0], [6.0, 8.0]]), torch.tensor([[3.0, 4.0]]))
    assert BUILT_IN_LOSSES[name](embeddings).item() == expected


def test_the_squared_form_is_the_distance_of_the_means_and_both_spreads() -> None:
    image, text = _random(7, 5, 1, torch.float64), _random(4, 5, 2, torch.float64)
    spreads = [torch.cov(rows.T, correction=0).trace() for rows in (image, text)]
    expected = (image.mean(0) - text.mean(0)).square().sum() + sum(spreads)
    torch.testing.assert_close(pairwise_squared_l2(_sample(image, text)), expected)


def test_the_default_formula_is_the_pairwise_norm() -> None:
    from regap_plugin.config import DEFAULT_LOSS

    assert BUILT_IN_LOSSES[DEFAULT_LOSS] is pairwise_l2


@every_loss
def test_the_docstring_has_the_formula(name: str) -> None:
    text = BUILT_IN_LOSSES[name].__doc__ or ""
    assert "\n        L = " in text
    assert ("||_2^2" in text) is (name == "pairwise_squared_l2")
    assert ("sum_i sum_j" in text) is name.startswith("pairwise")


# ---- invariances


@every_loss
@given(drawn=_batches(), shift=st.integers(-64, 64), data=st.data())
def test_value_does_not_depend_on_origin_or_order(
    name: str, drawn: Dict[str, Any], shift: int, data: st.DataObject
) -> None:
    if not _loop_over_batch(name, drawn):
        return
    parts = _tensors(drawn, torch.float64)
    value = BUILT_IN_LOSSES[name](TokenEmbeddings(**parts))
    moved = {**parts, "image": parts["image"] + shift, "text": parts["text"] + shift}
    torch.testing.assert_close(
        BUILT_IN_LOSSES[name](TokenEmbeddings(**moved)), value, rtol=1e-9, atol=1e-9
    )
    shuffled = dict(parts)
    for kind in ("image", "text"):
        order = data.draw(st.permutations(range(parts[kind].shape[1])))
        shuffled[kind] = parts[kind][:, order]
        shuffled[f"{kind}_mask"] = parts[f"{kind}_mask"][:, order]
    samples = data.draw(st.permutations(range(parts["image"].shape[0])))
    shuffled = {key: tensor[samples] for key, tensor in shuffled.items()}
    torch.testing.assert_close(BUILT_IN_LOSSES[name](TokenEmbeddings(**shuffled)), value)


@pytest.mark.parametrize(
    ("name", "degree"), [("pairwise_l2", 1), ("pairwise_squared_l2", 2), ("centroid_l2", 1)]
)
@pytest.mark.parametrize("factor", [0.0, 0.03, 7.0, 1e4])
def test_the_value_scales_with_the_embeddings(name: str, degree: int, factor: float) -> None:
    loss, image, text = BUILT_IN_LOSSES[name], _random(5, 8, 3), _random(6, 8, 4)
    scaled = loss(_sample(image * factor, text * factor))
    assert scaled.item() == pytest.approx(
        factor**degree * loss(_sample(image, text)).item(), rel=1e-5
    )


@every_loss
def test_image_and_text_may_change_places(name: str) -> None:
    loss, image, text = BUILT_IN_LOSSES[name], _random(5, 8, 5), _random(3, 8, 6)
    torch.testing.assert_close(loss(_sample(image, text)), loss(_sample(text, image)))


# ---- masks


@every_loss
def test_what_the_masks_leave_out_has_no_effect_and_no_gradient(name: str) -> None:
    loss, image, text = BUILT_IN_LOSSES[name], _random(3, 4, 7), _random(2, 4, 8)
    expected, (image_grad, text_grad) = (
        loss(_sample(image, text)),
        _gradients(loss, image, text),
    )
    padding = torch.tensor([[math.nan] * 4, [math.inf] * 4])
    none = torch.zeros(1, 5, dtype=torch.bool)
    padded_image = torch.stack([torch.cat([image, padding]), torch.full((5, 4), math.nan)])
    padded_text = torch.stack([torch.cat([padding, text]), torch.zeros(4, 4)])
    padded_image.requires_grad_()
    padded_text.requires_grad_()
    embeddings = TokenEmbeddings(
        padded_image,
        torch.cat([torch.tensor([[True, True, True, False, False]]), none]),
        padded_text,
        torch.tensor([[False, False, True, True], [True, True, True, True]]),
    )
    value = loss(embeddings)
    value.backward()
    torch.testing.assert_close(value, expected)
    assert padded_image.grad is not None
    assert padded_text.grad is not None
    torch.testing.assert_close(padded_image.grad[0, :3], image_grad)
    torch.testing.assert_close(padded_text.grad[0, 2:], text_grad)
    assert not padded_image.grad[0, 3:].any()
    assert not padded_image.grad[1].any()
    assert not padded_text.grad[0, :2].any()
    assert not padded_text.grad[1].any()


@every_loss
def test_the_gradient_of_a_batch_is_averaged_over_its_samples(name: str) -> None:
    loss = BUILT_IN_LOSSES[name]
    image = torch.stack([_random(3, 4, seed) for seed in (1, 2)]).requires_grad_()
    text = torch.stack([_random(2, 4, seed) for seed in (3, 4)])
    ones = [torch.ones(2, tokens, dtype=torch.bool) for tokens in (3, 2)]
    loss(TokenEmbeddings(image, ones[0], text, ones[1])).backward()
    expected = [_naive_gradients(name, v, t)[0] / 2 for v, t in zip(image, text)]
    assert image.grad is not None
    torch.testing.assert_close(image.grad.double(), torch.stack(expected), rtol=1e-5, atol=1e-6)


# ---- gradients


@every_loss
@given(drawn=_batches())
def test_the_gradient_is_that_of_the_naive_form(name: str, drawn: Dict[str, Any]) -> None:
    image, text = (torch.tensor(drawn[kind][0]) for kind in ("image", "text"))
    if name == "centroid_l2" and torch.equal(image.mean(0), text.mean(0)):
        return  # its kink: see the test of coinciding means
    expected = _naive_gradients(name, image, text)
    for found, wanted in zip(_gradients(BUILT_IN_LOSSES[name], image, text), expected):
        assert found.dtype is torch.float32
        torch.testing.assert_close(found.double(), wanted, rtol=1e-4, atol=1e-5)


@every_loss
@pytest.mark.parametrize(("image_rows", "text_rows"), [(1, 1), (1, 4), (5, 1), (4, 3)])
def test_gradcheck(name: str, image_rows: int, text_rows: int) -> None:
    image = _random(image_rows, 3, 11, torch.float64).requires_grad_()
    text = _random(text_rows, 3, 12, torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda v, t: BUILT_IN_LOSSES[name](_sample(v, t)), (image, text)
    )


def test_the_gradient_is_scaled_by_what_comes_from_above() -> None:
    image, text = _random(3, 4, 1).requires_grad_(), _random(2, 4, 2)
    (pairwise_l2(_sample(image, text)) * 65536.0).backward()
    expected = _naive_gradients("pairwise_l2", image, text)[0] * 65536.0
    assert image.grad is not None
    torch.testing.assert_close(image.grad.double(), expected, rtol=1e-5, atol=1e-2)


@every_loss
def test_only_what_requires_a_gradient_gets_one(name: str) -> None:
    image, text = _random(3, 4, 1).requires_grad_(), _random(2, 4, 2)
    BUILT_IN_LOSSES[name](_sample(image, text)).backward()
    assert image.grad is not None
    assert text.grad is None
    assert not BUILT_IN_LOSSES[name](_sample(image.detach(), text)).requires_grad


@every_loss
def test_coinciding_tokens_give_a_finite_gradient(name: str) -> None:
    image = _random(3, 4, 1)
    text = torch.cat([image[:1], image[:1], _random(1, 4, 2)])
    expected = _naive_gradients(name, image, text)  # autograd's subgradient of a zero norm is zero
    for found, wanted in zip(_gradients(BUILT_IN_LOSSES[name], image, text), expected):
        torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-6)


@every_loss
def test_a_gap_of_zero_has_a_zero_gradient(name: str) -> None:
    tokens = torch.tensor([[1.0, -2.0, 3.0]])
    assert BUILT_IN_LOSSES[name](_sample(tokens, tokens.clone())).item() == 0.0
    for gradient in _gradients(BUILT_IN_LOSSES[name], tokens, tokens):
        assert not gradient.any()


@pytest.mark.parametrize("exponent", range(1, 20, 2))
def test_nearly_coinciding_tokens_give_the_exact_gradient(exponent: int) -> None:
    near = 10.0**-exponent
    image, text = _random(4, 16, 1), _random(5, 16, 2)
    image[1] = near * _random(1, 16, 3)
    text[2:4] = 0.0
    text[4] = near * _random(1, 16, 4)
    expected = _naive_gradients("pairwise_l2", image, text)
    for found, wanted in zip(_gradients(pairwise_l2, image, text), expected):
        torch.testing.assert_close(found.double(), wanted, rtol=1e-4, atol=1e-5)


def test_a_second_derivative_of_the_default_is_refused() -> None:
    image = _random(2, 3, 1).requires_grad_()
    value = pairwise_l2(_sample(image, _random(2, 3, 2)))
    (first,) = torch.autograd.grad(value**2, image, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


# ---- precision


@every_loss
def test_autocast_changes_no_bit(name: str) -> None:
    loss, image, text = BUILT_IN_LOSSES[name], _random(6, 32, 1), _random(5, 32, 2)
    expected, gradients = loss(_sample(image, text)), _gradients(loss, image, text)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (image @ text.T).dtype is torch.bfloat16, "autocast is on"
        value, inside = loss(_sample(image, text)), _gradients(loss, image, text)
        assert (image @ text.T).dtype is torch.bfloat16, "and still is"
    assert value.dtype is torch.float32
    assert torch.equal(value, expected)
    for found, wanted in zip(inside, gradients):
        assert torch.equal(found, wanted)


@every_loss
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_read_exactly(name: str, dtype: torch.dtype) -> None:
    loss, image, text = BUILT_IN_LOSSES[name], _random(6, 32, 1, dtype), _random(5, 32, 2, dtype)
    value = loss(_sample(image, text))
    assert value.dtype is torch.float32
    assert torch.equal(value, loss(_sample(image.float(), text.float())))
    wanted = _gradients(loss, image.float(), text.float())
    for found, gradient in zip(_gradients(loss, image, text), wanted):
        assert found.dtype is dtype
        torch.testing.assert_close(found, gradient.to(dtype))


@every_loss
def test_half_precision_does_not_overflow(name: str) -> None:
    image = torch.full((2, 4096), 60.0, dtype=torch.float16)
    text = torch.full((3, 4096), -60.0, dtype=torch.float16)
    expected = 120.0 * 64.0
    squared = name == "pairwise_squared_l2"
    value = BUILT_IN_LOSSES[name](_sample(image, text)).item()
    assert value == pytest.approx(expected**2 if squared else expected, rel=1e-6)
    for gradient in _gradients(BUILT_IN_LOSSES[name], image, text):
        assert torch.isfinite(gradient).all()


@every_loss
def test_a_large_common_offset_costs_no_digits(name: str) -> None:
    # By ||v||^2 + ||t||^2 - 2<v, t> in float32 the relative error here is above 1.
    image, text = _random(6, 16, 1) + 4096.0, _random(5, 16, 2) + 4096.0
    expected = LOOPS[name](image.tolist(), text.tolist())
    assert BUILT_IN_LOSSES[name](_sample(image, text)).item() == pytest.approx(expected, rel=1e-3)
    wanted = _naive_gradients(name, image, text)
    for found, gradient in zip(_gradients(BUILT_IN_LOSSES[name], image, text), wanted):
        torch.testing.assert_close(found.double(), gradient, rtol=1e-3, atol=1e-3)


@every_loss
def test_a_value_that_is_not_finite_is_passed_on(name: str) -> None:
    image = _random(3, 4, 1)
    image[1, 2] = math.nan
    assert math.isnan(BUILT_IN_LOSSES[name](_sample(image, _random(2, 4, 2))).item())


# ---- memory


class _LargestTensor(TorchDispatchMode):
    """Notes the elements of the largest tensor that any operation makes, forward and backward."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(tensor, Tensor):
                size = tensor.untyped_storage().nbytes() // tensor.element_size()
                self.elements = max(self.elements, size)
        return result


def _largest(formula: Callable[[Tensor, Tensor], Tensor], r: int, s: int, d: int) -> int:
    image, text = _random(r, d, 1).requires_grad_(), _random(s, d, 2).requires_grad_()
    with _LargestTensor() as mode:
        formula(image, text).backward()
    assert image.grad is not None
    assert text.grad is not None
    return mode.elements


def test_the_measuring_of_tensors_sees_the_naive_form() -> None:
    r, s, d = 12, 10, 8
    assert _largest(lambda v, t: _naive("pairwise_l2", v, t), r, s, d) == r * s * d


@every_loss
def test_no_tensor_of_r_times_s_times_d_elements_exists(name: str) -> None:
    r, s, d = 576, 1000, 256
    largest = _largest(lambda v, t: BUILT_IN_LOSSES[name](_sample(v, t)), r, s, d)
    pairs = r * s if name == "pairwise_l2" else 0
    assert s * d <= largest <= max(pairs, (r + s) * d)


def test_the_default_keeps_its_inputs_and_the_distances_for_the_backward() -> None:
    r, s, d = 576, 1000, 256
    saved: Dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        saved[tensor.data_ptr()] = tensor.numel()
        return tensor

    image, text = _random(r, d, 1, torch.bfloat16).requires_grad_(), _random(s, d, 2)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        pairwise_l2(_sample(image, text)).backward()
    # The rest are the masks' indices.
    assert r * s + (r + s) * d <= sum(saved.values()) <= r * s + (r + s) * d + 8 * (r + s)


_PEAK = """
import torch
from regap_plugin.embeddings import TokenEmbeddings
from regap_plugin.gap_losses import pairwise_l2

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))

def step(r, s, d):
    image = torch.randn(1, r, d, requires_grad=True)
    text = torch.randn(1, s, d, requires_grad=True)
    masks = [torch.ones(1, tokens, dtype=torch.bool) for tokens in (r, s)]
    loss = pairwise_l2(TokenEmbeddings(image, masks[0], text, masks[1]))
    loss.backward()
    assert torch.isfinite(image.grad).all() and torch.isfinite(text.grad).all()

step(4, 4, 4096)
before = peak()
step(576, 1000, 4096)
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory from /proc")
def test_a_sample_of_llavas_size_stays_within_memory(run_python: Callable[..., Any]) -> None:
    done = run_python("-c", _PEAK)
    assert done.returncode == 0, done.stderr
    mebibytes = int(done.stdout) / 1024
    # The inputs and their gradients are 50 MiB; [s, r, d] alone would be 9,000.
    assert 25 < mebibytes < 300


def test_the_centroid_form_keeps_its_gradient_at_rows_of_equal_share() -> None:
    image, text = _random(4, 3, 1), _random(5, 3, 2)
    image_grad, text_grad = _gradients(centroid_l2, image, text)
    difference = image.mean(0) - text.mean(0)
    direction = difference / difference.norm()
    torch.testing.assert_close(image_grad, (direction / 4).expand(4, 3))
    torch.testing.assert_close(text_grad, (-direction / 5).expand(5, 3))
