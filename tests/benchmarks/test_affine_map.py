"""Moments are matched, folding is applying, and the map is the optimal transport."""

import math

import pytest

torch = pytest.importorskip("torch", reason="pip install torch")

from regap_benchmarks.alignment.affine_map import (
    MEAN,
    MEAN_AND_COVARIANCE,
    AffineMap,
    Moments,
    fit_map,
    oas_shrinkage,
    shrunk,
    transport_matrix,
)
from regap_plugin.metrics import frechet_distance


def _tokens(rows, dim, seed, scale=1.0, shift=0.0):
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(rows, dim, generator=generator, dtype=torch.float64)
    stretch = torch.randn(dim, dim, generator=generator, dtype=torch.float64)
    return scale * drawn @ stretch + shift * torch.randn(
        dim, generator=generator, dtype=torch.float64
    )


def _moments(tokens):
    return Moments(tokens.mean(0), torch.cov(tokens.T), len(tokens))


IMAGE, TEXT = _tokens(400, 12, 1, scale=5, shift=30), _tokens(90, 12, 2, scale=0.2)
BOTH = _moments(IMAGE), _moments(TEXT)


def _relative(found, expected):
    return float((found - expected).norm() / expected.norm())


def test_both_moments_of_the_mapped_tokens_are_those_of_the_text():
    fitted = fit_map(*BOTH, match=MEAN_AND_COVARIANCE, shrinkage=0.0)
    moved = _moments(fitted.map.apply(IMAGE))
    assert _relative(moved.mean, BOTH[1].mean) < 1e-6
    assert _relative(moved.covariance, BOTH[1].covariance) < 1e-6
    predicted = fitted.map.moments(BOTH[0])
    assert _relative(predicted.mean, moved.mean) < 1e-6
    assert _relative(predicted.covariance, moved.covariance) < 1e-9
    assert (fitted.image_shrinkage, fitted.text_shrinkage) == (0.0, 0.0)


def test_the_mean_alone_is_a_shift():
    fitted = fit_map(*BOTH, match=MEAN)
    moved = fitted.map.apply(IMAGE)
    assert _relative(moved.mean(0), BOTH[1].mean) < 1e-9
    assert torch.equal(fitted.map.matrix, torch.eye(12, dtype=torch.float64))
    assert _relative(torch.cov(moved.T), BOTH[0].covariance) < 1e-12
    assert fitted.image_shrinkage is None


def test_folding_is_applying_the_map_to_the_outputs():
    fitted = fit_map(*BOTH, match=MEAN_AND_COVARIANCE, strength=0.7).map
    layer = torch.nn.Linear(7, 12, dtype=torch.float64)
    inputs = _tokens(30, 7, 3)
    weight, bias = fitted.fold(layer.weight.detach(), layer.bias.detach())
    folded = torch.nn.functional.linear(inputs, weight, bias)
    torch.testing.assert_close(folded, fitted.apply(layer(inputs).detach()), rtol=1e-10, atol=1e-10)


def test_the_map_is_the_optimal_transport_between_the_gaussians():
    """Symmetric, positive, and its cost is the Frechet distance; a rotation of it costs more."""
    fitted = fit_map(*BOTH, match=MEAN_AND_COVARIANCE, shrinkage=0.0).map
    assert torch.equal(fitted.matrix, fitted.matrix.T)
    assert torch.linalg.eigvalsh(fitted.matrix).min() > 0

    def cost(mapping):
        moved = mapping.apply(IMAGE) - IMAGE
        n = len(IMAGE)
        spread = (moved - moved.mean(0)).square().sum() / (n - 1)
        return float(moved.mean(0).square().sum() + spread)

    assert cost(fitted) == pytest.approx(frechet_distance(IMAGE, TEXT), rel=1e-9)
    # By Cholesky factors: the same moments, another map.
    lower = [torch.linalg.cholesky(each.covariance) for each in BOTH]
    other = lower[1] @ torch.linalg.inv(lower[0])
    by_factors = AffineMap(other, BOTH[1].mean - other @ BOTH[0].mean)
    assert _relative(by_factors.moments(BOTH[0]).covariance, BOTH[1].covariance) < 1e-9
    assert cost(by_factors) > 1.0001 * cost(fitted)


@pytest.mark.parametrize("match", [MEAN, MEAN_AND_COVARIANCE])
@pytest.mark.parametrize("strength", [0.0, 0.25, 0.5, 1.0])
def test_strength_is_the_share_of_the_way(match, strength):
    fitted = fit_map(*BOTH, match=match, strength=strength, shrinkage=0.0).map
    moved = fitted.apply(IMAGE)
    before = frechet_distance(IMAGE, TEXT)
    if match == MEAN:
        means = float((BOTH[0].mean - BOTH[1].mean).square().sum())
        expected = before - means * (1 - (1 - strength) ** 2)
    else:
        expected = (1 - strength) ** 2 * before
    assert frechet_distance(moved, TEXT) == pytest.approx(expected, rel=1e-6, abs=1e-6 * before)
    if strength == 0:
        assert torch.equal(moved, IMAGE)


def test_fewer_text_tokens_than_dimensions_are_shrunk_and_no_direction_is_lost():
    few = _tokens(5, 12, 4)
    fitted = fit_map(BOTH[0], _moments(few), match=MEAN_AND_COVARIANCE)
    assert 0 < fitted.text_shrinkage <= 1
    moved = fitted.map.moments(BOTH[0])
    assert torch.linalg.matrix_rank(torch.cov(few.T)) == 4
    # Of the text, the shrunk covariance; of the images, the shrunk one is what is mapped to it.
    target = shrunk(torch.cov(few.T), fitted.text_shrinkage)
    image = shrunk(BOTH[0].covariance, fitted.image_shrinkage)
    assert _relative(fitted.map.matrix @ image @ fitted.map.matrix, target) < 1e-8
    assert torch.linalg.eigvalsh(moved.covariance).min() > 0
    # Without it every direction but four would be lost.
    flat = fit_map(BOTH[0], _moments(few), match=MEAN_AND_COVARIANCE, shrinkage=0.0).map
    eigenvalues = torch.linalg.eigvalsh(flat.moments(BOTH[0]).covariance)
    assert (eigenvalues > 1e-6 * eigenvalues[-1]).sum() == 4


def test_fewer_image_tokens_than_dimensions_need_shrinkage():
    few = _moments(_tokens(5, 12, 4))
    with pytest.raises(ValueError, match=r"expected full rank, found eigenvalues from .*Pass more"):
        fit_map(few, BOTH[1], match=MEAN_AND_COVARIANCE, shrinkage=0.0)
    fitted = fit_map(few, BOTH[1], match=MEAN_AND_COVARIANCE)
    assert torch.isfinite(fitted.map.matrix).all()
    fit_map(few, BOTH[1], match=MEAN)


def test_shrinkage_comes_nearer_to_the_true_covariance_and_falls_with_the_tokens():
    stretch = torch.diag(torch.linspace(0.2, 2, 20, dtype=torch.float64))
    true = stretch @ stretch
    shares, gains = [], []
    for count in (10, 40, 400, 40_000):
        generator = torch.Generator().manual_seed(count)
        drawn = torch.randn(count, 20, generator=generator, dtype=torch.float64) @ stretch
        moments = _moments(drawn)
        shares.append(oas_shrinkage(moments))
        error = (shrunk(moments.covariance, shares[-1]) - true).norm()
        gains.append(float(error / (moments.covariance - true).norm()))
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] < 0.01
    assert gains[0] < 0.7
    assert max(gains) < 1.1, "of a single draw"


def test_shrinkage_by_the_published_formula():
    moments = BOTH[1]
    n, d = 90, 12
    s = moments.covariance * (n - 1) / n
    trace, square = float(s.trace()), float((s @ s).trace())
    wanted = ((1 - 2 / d) * square + trace**2) / ((n + 1 - 2 / d) * (square - trace**2 / d))
    assert oas_shrinkage(moments) == pytest.approx(min(1, wanted), rel=1e-12)
    sphere = Moments(moments.mean, torch.eye(12, dtype=torch.float64) * 90 / 89, 90)
    assert oas_shrinkage(sphere) == 1.0


def test_the_matrix_of_commuting_covariances_is_the_quotient_of_the_roots():
    source, target = torch.tensor([1.0, 4.0, 9.0]).double(), torch.tensor([4.0, 0.0, 1.0]).double()
    found = transport_matrix(torch.diag(source), torch.diag(target))
    torch.testing.assert_close(found, torch.diag((target / source).sqrt()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"match": "median"}, "--match: expected one of mean, mean\\+covariance, found 'median'"),
        ({"strength": 1.5}, "--strength: expected a number from 0 to 1, found 1.5"),
        ({"shrinkage": -0.1}, "--shrinkage: expected a number from 0 to 1, found -0.1"),
        ({"strength": math.nan}, "--strength: expected a number from 0 to 1, found nan"),
    ],
)
def test_what_is_out_of_range_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        fit_map(*BOTH, **{"match": MEAN, **changes})


def test_moments_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="expected one dimension, found 12 of image tokens and 3"):
        fit_map(BOTH[0], _moments(_tokens(9, 3, 1)), match=MEAN)
    broken = Moments(BOTH[0].mean * math.nan, BOTH[0].covariance, 9)
    with pytest.raises(ValueError, match="Moments of image tokens: expected finite ones"):
        fit_map(broken, BOTH[1], match=MEAN)
