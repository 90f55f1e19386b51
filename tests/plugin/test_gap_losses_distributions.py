"""The formulas between sets of tokens: against loops, by their properties, and what they cost."""

import itertools
import math
import random
from fractions import Fraction
from typing import Any, Callable, Dict, List, Tuple

import pytest

pytest.importorskip("torch", reason="the formulas are functions of tensors: install torch")

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from regap_plugin.embeddings import TokenEmbeddings
from regap_plugin.gap_losses import BUILT_IN_LOSSES, GapLoss, mmd, sliced_wasserstein
from regap_plugin.metrics import frechet_distance

Rows = List[List[float]]
Pair = Tuple[Rows, Rows]
NAMES = ("energy_distance", "frechet", "info_nce", "mmd", "sliced_wasserstein")
every_loss = pytest.mark.parametrize("name", NAMES)
of_one_sample = pytest.mark.parametrize("name", [name for name in NAMES if name != "info_nce"])


# ---- references: plain loops over Python floats


def _mean_of(function: Callable[[List[float], List[float]], float], x: Rows, y: Rows) -> float:
    return math.fsum(function(a, b) for a in x for b in y) / (len(x) * len(y))


def _loop_energy(image: Rows, text: Rows) -> float:
    return (
        2 * _mean_of(math.dist, image, text)
        - _mean_of(math.dist, image, image)
        - _mean_of(math.dist, text, text)
    )


def _loop_mmd(image: Rows, text: Rows) -> float:
    unit = math.fsum(a * a for row in text for a in row) / len(text)

    def kernel(x: List[float], y: List[float]) -> float:
        square = math.dist(x, y) ** 2
        widths = (0.0625, 0.25, 1, 4, 16, 64, 256, 1024)
        return math.fsum(math.exp(-square / (2 * width * unit)) for width in widths) / 8

    return (
        _mean_of(kernel, image, image)
        + _mean_of(kernel, text, text)
        - 2 * _mean_of(kernel, image, text)
    )


def _wasserstein_on_a_line(x: List[float], y: List[float]) -> float:
    """By copies: each value of x as often as y has values, and the other way round."""
    many_x = sorted(value for value in x for _ in y)
    many_y = sorted(value for value in y for _ in x)
    return math.fsum((a - b) ** 2 for a, b in zip(many_x, many_y)) / len(many_x)


def _loop_sliced(image: Rows, text: Rows, step: int = 0) -> float:
    lines = sliced_wasserstein.directions(len(image[0]), step).tolist()
    distances = [
        _wasserstein_on_a_line(
            *([math.fsum(map(float.__mul__, line, row)) for row in rows] for rows in (image, text))
        )
        for line in lines
    ]
    return len(image[0]) * math.fsum(distances) / len(distances)


def _loop_info_nce(pairs: List[Pair]) -> float:
    means = [
        [[math.fsum(column) / len(rows) for column in zip(*rows)] for rows in side]
        for side in zip(*pairs)
    ]

    def cosine(x: List[float], y: List[float]) -> float:
        return math.fsum(map(float.__mul__, x, y)) / math.hypot(*x) / math.hypot(*y)

    logits = [[cosine(v, t) / 0.07 for t in means[1]] for v in means[0]]

    def entropy(rows: Rows) -> float:
        terms = [math.log(math.fsum(map(math.exp, row))) - row[i] for i, row in enumerate(rows)]
        return math.fsum(terms) / len(terms)

    return (entropy(logits) + entropy([list(row) for row in zip(*logits)])) / 2


def _by_covariances(pairs: List[Pair]) -> float:
    """Symmetric square roots of [d, d] matrices in float64, over all tokens."""
    image, text = (
        torch.tensor([row for rows in side for row in rows], dtype=torch.float64)
        for side in zip(*pairs)
    )
    s_v, s_t = (torch.cov(rows.T, correction=0) for rows in (image, text))
    values, vectors = torch.linalg.eigh(s_v)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    common = torch.linalg.eigvalsh(root @ s_t @ root).clamp(min=0).sqrt().sum()
    means = (image.mean(0) - text.mean(0)).square().sum()
    return float(means + s_v.trace() + s_t.trace() - 2 * common)


def _expected(name: str, pairs: List[Pair]) -> float:
    if name == "info_nce":
        return _loop_info_nce(pairs)
    if name == "frechet":
        return _by_covariances(pairs)
    loop = {
        "energy_distance": _loop_energy,
        "mmd": _loop_mmd,
        "sliced_wasserstein": _loop_sliced,
    }[name]
    return math.fsum(loop(image, text) for image, text in pairs) / len(pairs)


# ---- samples


def _random(rows: int, dim: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, dim, generator=generator, dtype=torch.float64).to(dtype)


def _batch(pairs: List[Tuple[Tensor, Tensor]], step: int = 0) -> TokenEmbeddings:
    """Samples of unequal length in one batch; what no mask names is NaN."""
    sides = []
    for tokens in zip(*pairs):
        longest = max(map(len, tokens)) + 1
        fill = [torch.full((longest - len(rows), rows.shape[1]), math.nan) for rows in tokens]
        padded = [torch.cat([rows, rest.to(rows.dtype)]) for rows, rest in zip(tokens, fill)]
        mask = torch.tensor([[i < len(rows) for i in range(longest)] for rows in tokens])
        sides += [torch.stack(padded), mask]
    return TokenEmbeddings(*sides, step=step)


def _pairs(dtype: torch.dtype = torch.float64, dim: int = 6) -> List[Tuple[Tensor, Tensor]]:
    sizes = ((5, 3), (2, 4), (7, 1))
    return [
        (_random(r, dim, 2 * i, dtype) * 3 + 1, _random(s, dim, 2 * i + 1, dtype))
        for i, (r, s) in enumerate(sizes)
    ]


def _lists(pairs: List[Tuple[Tensor, Tensor]]) -> List[Pair]:
    return [(image.tolist(), text.tolist()) for image, text in pairs]


def _gradients(
    loss: GapLoss, pairs: List[Tuple[Tensor, Tensor]]
) -> Tuple[Tensor, Tuple[Tensor, ...]]:
    leaves = [[each.detach().clone().requires_grad_() for each in pair] for pair in pairs]
    value = loss(_batch([(image, text) for image, text in leaves]))
    grads = torch.autograd.grad(value, [leaf for pair in leaves for leaf in pair])
    return value.detach(), grads


def _rotation(dim: int) -> Tensor:
    return torch.linalg.qr(_random(dim, dim, 99, torch.float64)).Q


# ---- values


@every_loss
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
def test_the_value_is_that_of_the_reference(
    name: str, dtype: torch.dtype, tolerance: float
) -> None:
    pairs = _pairs(dtype)
    value = BUILT_IN_LOSSES[name](_batch(pairs))
    assert value.shape == ()
    assert value.dtype is dtype
    assert value.item() == pytest.approx(_expected(name, _lists(pairs)), rel=tolerance)


@every_loss
def test_the_docstring_has_the_formula_and_the_module_its_source(name: str) -> None:
    loss = BUILT_IN_LOSSES[name]
    assert "\n        L = " in (loss.__doc__ or "")
    module = __import__(loss.__module__, fromlist=["_"])
    assert "Source: " in module.__doc__
    assert module.__name__ == f"regap_plugin.gap_losses.{name}"


def test_the_frechet_form_is_the_metric_up_to_its_count() -> None:
    image, text = _random(30, 6, 1, torch.float64) * 2 + 1, _random(20, 6, 2, torch.float64)
    means = (image.mean(0) - text.mean(0)).square().sum()
    # Tokens repeated 1000 times: over n or n - 1 is then the same to 5e-5.
    expected = frechet_distance(image.repeat(1000, 1), text.repeat(1000, 1))
    value = BUILT_IN_LOSSES["frechet"](_batch([(image, text)])).item()
    assert value == pytest.approx(expected, rel=1e-3)
    assert value > means


@pytest.mark.parametrize(("r", "s"), list(itertools.product((1, 2, 3, 4, 6), repeat=2)))
def test_the_cells_of_two_quantile_functions(r: int, s: int) -> None:
    of_r, of_s, lengths = sliced_wasserstein._quantile_cells(r, s)
    assert lengths.sum().item() == pytest.approx(1, abs=1e-12)
    start = Fraction(0)
    for i, j, length in zip(of_r.tolist(), of_s.tolist(), lengths.tolist()):
        middle = start + Fraction(length).limit_denominator(r * s) / 2
        assert (i, j) == (int(middle * r), int(middle * s))
        start += 2 * (middle - start)


# ---- properties


@of_one_sample
def test_equal_sets_are_at_zero_and_have_no_gradient(name: str) -> None:
    tokens = _random(6, 5, 1, torch.float64)
    value, gradients = _gradients(BUILT_IN_LOSSES[name], [(tokens, tokens[[3, 1, 0, 2, 5, 4]])])
    assert value.item() == pytest.approx(0, abs=1e-12)
    # The same distribution with other counts.
    twice = tokens.repeat(2, 1)
    assert BUILT_IN_LOSSES[name](_batch([(twice, tokens)])).item() == pytest.approx(0, abs=1e-12)
    if name != "energy_distance":  # a cone: its slope at coinciding sets is that of the rest
        for gradient in gradients:
            assert gradient.abs().max() < 1e-7


@of_one_sample
def test_other_sets_are_above_zero(name: str) -> None:
    for seed in range(20):
        image, text = _random(4, 5, seed, torch.float64), _random(3, 5, 50 + seed, torch.float64)
        assert BUILT_IN_LOSSES[name](_batch([(image, text)])) > 1e-3


def test_info_nce_is_log_n_where_all_means_coincide_and_small_where_pairs_stand_out() -> None:
    loss, text = BUILT_IN_LOSSES["info_nce"], torch.eye(8)[:5]
    same = [(torch.ones(2, 8), torch.ones(3, 8))] * 5
    assert loss(_batch(same)).item() == pytest.approx(math.log(5), rel=1e-6)
    assert loss(_batch([(9 * row[None], row[None]) for row in text])).item() < 1e-4
    wrong = [(text[(i + 1) % 5][None], text[i][None]) for i in range(5)]
    assert loss(_batch(wrong)).item() == pytest.approx(1 / 0.07, rel=1e-3)


def test_info_nce_of_a_single_sample_is_zero_without_a_gradient() -> None:
    image, text = _pairs()[0]
    value = BUILT_IN_LOSSES["info_nce"](_batch([(image.requires_grad_(), text)]))
    assert value.item() == 0
    assert not value.requires_grad


@pytest.mark.parametrize("name", [name for name in NAMES if name != "mmd"])
def test_image_and_text_may_change_places(name: str) -> None:
    pairs = _pairs()
    value = BUILT_IN_LOSSES[name](_batch(pairs))
    turned = BUILT_IN_LOSSES[name](_batch([(text, image) for image, text in pairs]))
    torch.testing.assert_close(turned, value)


def test_mmd_measures_in_units_of_the_text() -> None:
    image, text = _pairs()[0]
    here, there = mmd.mmd(_batch([(image, text * 50)])), mmd.mmd(_batch([(text * 50, image)]))
    assert abs(here - there) > 0.1 * here, "the sides are not alike: the text gives the unit"


@every_loss
def test_a_rotation_changes_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs, rotation = _pairs(), _rotation(6)
    value = BUILT_IN_LOSSES[name](_batch(pairs))
    turned = _batch([(image @ rotation, text @ rotation) for image, text in pairs])
    if name == "sliced_wasserstein":  # the lines turn with the tokens
        lines = sliced_wasserstein.directions(6, 0) @ rotation
        monkeypatch.setattr(sliced_wasserstein, "directions", lambda dim, step: lines)
    torch.testing.assert_close(BUILT_IN_LOSSES[name](turned), value)


@pytest.mark.parametrize("name", ["energy_distance", "frechet", "sliced_wasserstein"])
def test_a_shift_of_both_changes_nothing(name: str) -> None:
    pairs = _pairs()
    moved = [(image + 100.0, text + 100.0) for image, text in pairs]
    torch.testing.assert_close(
        BUILT_IN_LOSSES[name](_batch(moved)),
        BUILT_IN_LOSSES[name](_batch(pairs)),
        rtol=1e-7,
        atol=0,
    )


@pytest.mark.parametrize(
    ("name", "degree"),
    [
        ("energy_distance", 1),
        ("frechet", 2),
        ("info_nce", 0),
        ("mmd", 0),
        ("sliced_wasserstein", 2),
    ],
)
@pytest.mark.parametrize("factor", [0.03, 7.0])
def test_the_value_scales_with_the_embeddings(name: str, degree: int, factor: float) -> None:
    pairs = _pairs()
    scaled = [(image * factor, text * factor) for image, text in pairs]
    value = BUILT_IN_LOSSES[name](_batch(scaled)).item()
    expected = factor**degree * BUILT_IN_LOSSES[name](_batch(pairs)).item()
    assert value == pytest.approx(expected, rel=1e-9)


def test_mmd_has_a_slope_where_image_tokens_are_far_longer_than_text() -> None:
    image, text = _random(8, 64, 1) * 50, _random(5, 64, 2)
    (to_image, _) = _gradients(mmd.mmd, [(image, text)])[1]
    pulled = -(to_image * image).sum(1) / image.norm(dim=1) / to_image.norm(dim=1)
    assert (pulled < -0.5).all(), "a step against the gradient shortens every token"
    assert (to_image.norm(dim=1) * image.norm(dim=1)).min() > 1e-3


@pytest.mark.parametrize("name", ["energy_distance", "frechet", "mmd", "sliced_wasserstein"])
def test_descent_brings_the_distributions_together(name: str) -> None:
    text = _random(12, 4, 1, torch.float64)
    image = (_random(20, 4, 2, torch.float64) * 3 + 2).requires_grad_()
    optimizer = torch.optim.Adam([image], lr=0.05)
    before = frechet_distance(image.detach(), text)
    for step in range(300):
        optimizer.zero_grad()
        BUILT_IN_LOSSES[name](_batch([(image, text)], step)).backward()
        optimizer.step()
    assert frechet_distance(image.detach(), text) < 0.05 * before
    spread = image.detach().var(0).sum() / text.var(0).sum()
    assert 0.6 < spread < 1.4, f"expected no collapse, found {spread:.3f} of the text's spread"


# ---- gradients


@every_loss
def test_gradcheck(name: str) -> None:
    leaves = [leaf.requires_grad_() for pair in _pairs(dim=4)[:2] for leaf in pair]
    if name == "mmd":  # its unit is a constant, which a step of the text would move
        leaves = [leaves[0], leaves[1].detach(), leaves[2], leaves[3].detach()]

    def value(*tokens: Tensor) -> Tensor:
        return BUILT_IN_LOSSES[name](_batch([(tokens[0], tokens[1]), (tokens[2], tokens[3])]))

    assert torch.autograd.gradcheck(value, leaves)


def test_gradcheck_of_the_kernel_on_both_sides() -> None:
    x, y = (_random(rows, 3, rows, torch.float64).requires_grad_() for rows in (4, 5))
    unit = torch.tensor(0.7, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda a, b: mmd._mean_kernel(a, b, unit), (x, y))
    assert torch.autograd.gradcheck(lambda a: mmd._mean_kernel(a, a, unit), (x,))


@pytest.mark.parametrize("name", ["frechet", "sliced_wasserstein", "mmd", "energy_distance"])
def test_image_tokens_at_one_point_give_a_finite_gradient(name: str) -> None:
    image, text = torch.ones(4, 6), _random(5, 6, 2)
    value, gradients = _gradients(BUILT_IN_LOSSES[name], [(image, text)])
    assert torch.isfinite(value)
    for gradient in gradients:
        assert torch.isfinite(gradient).all()
        assert gradient.norm() < 100


@every_loss
def test_a_text_without_gradient_gets_none(name: str) -> None:
    embeddings = _batch([(i.requires_grad_(), t) for i, t in _pairs(torch.float32)])
    value = BUILT_IN_LOSSES[name](embeddings.detach_text())
    assert value.requires_grad
    assert not BUILT_IN_LOSSES[name](embeddings.detach()).requires_grad
    value.backward()


@every_loss
def test_without_a_pair_it_is_refused(name: str) -> None:
    image, text = _pairs()[0]
    none = torch.zeros(1, len(text), dtype=torch.bool)
    embeddings = TokenEmbeddings(
        image[None], torch.ones(1, len(image), dtype=torch.bool), text[None], none
    )
    with pytest.raises(ValueError, match="expected a sample with an image token and a text token"):
        BUILT_IN_LOSSES[name](embeddings)


@every_loss
def test_a_sample_of_one_kind_only_has_no_effect(name: str) -> None:
    pairs, alone = _pairs(), (_random(2, 6, 40, torch.float64), _random(2, 6, 41, torch.float64))
    expected = BUILT_IN_LOSSES[name](_batch(pairs))
    embeddings = _batch([*pairs[:1], alone, *pairs[1:]])
    embeddings.text_mask[1] = False
    torch.testing.assert_close(BUILT_IN_LOSSES[name](embeddings), expected)


# ---- precision


@every_loss
def test_autocast_changes_no_bit(name: str) -> None:
    loss, pairs = BUILT_IN_LOSSES[name], _pairs(torch.float32, dim=32)
    expected, gradients = _gradients(loss, pairs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value, inside = _gradients(loss, pairs)
    assert value.dtype is torch.float32
    assert torch.equal(value, expected)
    for found, wanted in zip(inside, gradients):
        assert torch.equal(found, wanted)


@every_loss
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_read_exactly(name: str, dtype: torch.dtype) -> None:
    loss, pairs = BUILT_IN_LOSSES[name], _pairs(dtype, dim=32)
    value, found = _gradients(loss, pairs)
    assert value.dtype is torch.float32
    expected, wanted = _gradients(loss, [(image.float(), text.float()) for image, text in pairs])
    assert torch.equal(value, expected)
    for gradient, exact in zip(found, wanted):
        assert gradient.dtype is dtype
        torch.testing.assert_close(gradient, exact.to(dtype))


@every_loss
def test_a_value_that_is_not_finite_is_passed_on(name: str) -> None:
    pairs = _pairs(torch.float32)
    pairs[0][0][1, 2] = math.nan
    value, _ = _gradients(BUILT_IN_LOSSES[name], pairs)
    assert math.isnan(value.item())


# ---- chance


def test_the_lines_are_those_of_the_step_and_leave_the_global_generators_alone() -> None:
    loss, pairs = BUILT_IN_LOSSES["sliced_wasserstein"], _pairs()
    torch.manual_seed(5)
    random.seed(5)
    states = torch.get_rng_state(), random.getstate()
    first = [loss(_batch(pairs, step)).item() for step in range(4)]
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    torch.manual_seed(6)
    assert [loss(_batch(pairs, step)).item() for step in range(4)] == first
    assert len(set(first)) == 4
    for step, value in enumerate(first):
        expected = [_loop_sliced(image, text, step) for image, text in _lists(pairs)]
        assert value == pytest.approx(math.fsum(expected) / 3, rel=1e-9)


def test_the_lines_are_uniform_on_the_sphere() -> None:
    lines = torch.cat([sliced_wasserstein.directions(8, step) for step in range(200)])
    torch.testing.assert_close(lines.norm(dim=1), torch.ones(len(lines), dtype=torch.float64))
    second = lines.T @ lines / len(lines)
    torch.testing.assert_close(second, torch.eye(8, dtype=torch.float64) / 8, rtol=0, atol=5e-3)
    shift = _random(1, 8, 3, torch.float64)
    values = [
        BUILT_IN_LOSSES["sliced_wasserstein"](
            _batch([(_random(4, 8, 1, torch.float64) + shift, _random(4, 8, 1, torch.float64))], s)
        ).item()
        for s in range(50)
    ]
    assert math.fsum(values) / 50 == pytest.approx(shift.square().sum().item(), rel=0.05)


# ---- memory


class _Largest(TorchDispatchMode):
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


@every_loss
def test_no_tensor_of_r_times_s_times_d_elements_exists(name: str) -> None:
    r, s, d = 300, 200, 256
    largest: Dict[str, int] = {}
    with _Largest() as mode:
        samples = [(_random(r, d, seed), _random(s, d, seed + 9)) for seed in (1, 2)]
        _gradients(BUILT_IN_LOSSES[name], samples)
        largest[name] = mode.elements
    allowed = {
        "energy_distance": r * r,
        "mmd": r * r,
        "frechet": 2 * r * 2 * s,
        "info_nce": 0,
        "sliced_wasserstein": (r + s) * sliced_wasserstein.LINES,
    }
    assert largest[name] <= max(allowed[name], 2 * (r + s + 2) * d)
