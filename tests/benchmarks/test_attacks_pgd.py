"""PGD on losses whose best picture is known; the ball and the range as properties."""

import pytest

torch = pytest.importorskip("torch", reason="pip install torch")
hypothesis = pytest.importorskip("hypothesis", reason="pip install hypothesis")
from hypothesis import given, settings
from hypothesis import strategies as st

from regap_benchmarks.attacks.pgd import PgdSettings, attack_picture, projected, rounded
from regap_benchmarks.attacks.target_loss import TargetLoss

SIDE = 4
LEVELS = st.integers(0, 255)
EPSILONS = st.floats(0.25, 64, allow_nan=False)


def _levels(values):
    return torch.tensor(values, dtype=torch.float32).view(3, SIDE, SIDE) / 255


def _picture(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (3, SIDE, SIDE), generator=generator).float() / 255


PICTURES = st.lists(LEVELS, min_size=3 * SIDE**2, max_size=3 * SIDE**2).map(_levels)


def _slope(seed=1):
    return torch.randn(3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def _linear(start, slope):
    return TargetLoss(start, lambda pixels: (pixels * slope).sum(), 1)


def test_a_linear_loss_is_brought_to_the_corner_of_the_ball():
    """Exactly: the best picture within the ball is start - epsilon * sign(slope), within 0 to 1."""
    start, slope = _picture(), _slope()
    found = attack_picture(_linear(start, slope), PgdSettings(8, 1, 8), 0)
    expected = ((start * 255).round() - 8 * slope.sign()).clamp(0, 255)
    assert torch.equal((found.pixels * 255).round(), expected)
    assert found.step == 8
    assert found.loss_saved == pytest.approx(float((expected / 255 * slope).sum()), abs=1e-5)
    assert found.loss_before == pytest.approx(float((start * slope).sum()), abs=1e-5)


def test_the_best_of_all_steps_is_taken_and_not_the_last():
    """Steps that are larger than the way to the optimum go past it and back."""
    start = torch.full((3, SIDE, SIDE), 100 / 255)
    goal = 103 / 255
    loss = TargetLoss(start, lambda pixels: ((pixels - goal) ** 2).sum(), 1)
    found = attack_picture(loss, PgdSettings(16, 2, 10), 0)
    assert found.step == 1 or found.step == 2
    assert found.loss_found <= 3 * SIDE**2 * (1.01 / 255) ** 2


@settings(max_examples=60, deadline=None)
@given(start=PICTURES, epsilon=EPSILONS, seed=st.integers(0, 99), restarts=st.integers(1, 2))
def test_the_picture_stays_within_the_ball_and_the_range(start, epsilon, seed, restarts):
    seen = []

    def loss(pixels):
        seen.append(pixels.detach().clone())
        return (pixels * _slope(seed)).sum() + (pixels**2).sum()

    chosen = PgdSettings(epsilon, max(epsilon / 2, 0.5), 3, restarts)
    found = attack_picture(TargetLoss(start, loss, 1), chosen, seed)
    for pixels in (*seen, found.pixels):
        assert float((pixels - start).abs().max()) <= epsilon / 255 + 1e-6
        assert float(pixels.min()) >= 0
        assert float(pixels.max()) <= 1
    levels = found.pixels * 255
    assert torch.allclose(levels, levels.round(), atol=1e-3)


@settings(max_examples=60, deadline=None)
@given(start=PICTURES, epsilon=EPSILONS, seed=st.integers(0, 99))
def test_the_projection_is_the_nearest_point(start, epsilon, seed):
    """By value: cut at the ball, then at the range; a point within stays, and twice is once."""
    point = start + _slope(seed)
    found = projected(point, start, epsilon / 255)
    low = (start - epsilon / 255).clamp(min=0)
    high = (start + epsilon / 255).clamp(max=1)
    assert torch.equal(found, torch.max(torch.min(point, high), low))
    assert torch.equal(projected(found, start, epsilon / 255), found)


@pytest.mark.parametrize("change", [-16, -3, -1, 0, 1, 7, 16])
def test_whole_levels_are_not_rounded(change):
    start = torch.full((3, SIDE, SIDE), 77 / 255)
    assert torch.equal(
        (rounded(start + change / 255, start) * 255).round() - 77 + 0.0,
        torch.full((3, SIDE, SIDE), float(change)),
    )


def test_restarts_are_drawn_by_the_seed_alone_and_the_best_is_taken():
    """A loss with a ridge at the start: only a restart gets to its far side."""
    start = torch.full((3, SIDE, SIDE), 0.5)
    start = (start * 255).round() / 255

    def loss(pixels):
        change = (pixels - start).mean()
        return torch.where(change > 0, change, 2 * change.abs()).abs() * -1

    made = [attack_picture(TargetLoss(start, loss, 1), PgdSettings(8, 1, 4, 3), 5) for _ in "ab"]
    assert made[0].restart == made[1].restart > 0
    assert torch.equal(made[0].pixels, made[1].pixels)
    other = attack_picture(TargetLoss(start, loss, 1), PgdSettings(8, 1, 4, 3), 6)
    assert not torch.equal(made[0].pixels, other.pixels)
    alone = attack_picture(TargetLoss(start, loss, 1), PgdSettings(8, 1, 4, 1), 5)
    assert alone.loss_found > made[0].loss_found


def test_a_loss_that_is_not_finite_is_refused():
    broken = TargetLoss(_picture(), lambda pixels: (pixels * float("nan")).sum(), 1)
    with pytest.raises(ValueError, match="expected a finite loss and gradient"):
        attack_picture(broken, PgdSettings(steps=1), 0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epsilon": 0}, "--epsilon: expected above 0"),
        ({"epsilon": 256}, "--epsilon: expected above 0, at most 255, found 256"),
        ({"epsilon": float("nan")}, "--epsilon: expected above 0"),
        ({"step_size": -1}, "--step-size: expected above 0"),
        ({"steps": 0}, "--steps: expected 1 or more"),
        ({"restarts": 0}, "--restarts: expected 1 or more"),
    ],
)
def test_settings_out_of_range_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        PgdSettings(**values)
