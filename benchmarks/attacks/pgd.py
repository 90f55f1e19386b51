"""Projected gradient descent on a picture, within a ball around it.

Madry et al., Towards Deep Learning Models Resistant to Adversarial Attacks, ICLR 2018 (arXiv
1706.06083): steps of a fixed size along the sign of the gradient, projected after each onto the
ball of the largest change and onto pictures. Here a loss is made small: the target's.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Dict

from regap_benchmarks.attacks.target_loss import TargetLoss
from regap_benchmarks.records import Json

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class PgdSettings:
    """All that decides an attack but model, picture and target.

    Attributes:
        epsilon: the largest change of a pixel, in levels of 255 before normalisation.
        step_size: of one step, in levels of 255.
        steps: of one restart.
        restarts: the first begins at the picture, each further one at a point drawn uniformly from
            the ball; the best of all is taken.
        seed: of the draws; with the sample it decides them.

    Raises:
        ValueError: a value out of its range.
    """

    epsilon: float = 16.0
    step_size: float = 1.0
    steps: int = 500
    restarts: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value, fits, expected in (
            ("epsilon", self.epsilon, 0 < self.epsilon <= 255, "above 0, at most 255"),
            ("step-size", self.step_size, 0 < self.step_size <= 255, "above 0, at most 255"),
            ("steps", self.steps, self.steps >= 1, "1 or more"),
            ("restarts", self.restarts, self.restarts >= 1, "1 or more"),
        ):
            if not fits:
                raise ValueError(f"--{name}: expected {expected}, found {value}.")

    def describe(self) -> Dict[str, Json]:
        """For the header of an attack."""
        return {
            "method": "pgd",
            "norm": "linf",
            "epsilon_255": self.epsilon,
            "step_size_255": self.step_size,
            "steps": self.steps,
            "restarts": self.restarts,
            "seed": self.seed,
        }


@dataclass(frozen=True)
class PgdResult:
    """What an attack found.

    Attributes:
        pixels: [3, H, W], whole multiples of 1/255 from 0 to 1 within the ball, on the CPU.
        loss_before: of the picture itself.
        loss_found: the smallest of all steps.
        loss_saved: of `pixels`, which are rounded.
        restart: where the smallest was found, from 0.
        step: the number of steps before it; 0 is the restart's own beginning.
    """

    pixels: "Tensor"
    loss_before: float
    loss_found: float
    loss_saved: float
    restart: int
    step: int


def attack_picture(target: TargetLoss, settings: PgdSettings, seed: int) -> PgdResult:
    """Search the ball for the picture with the smallest loss.

    The gradient at every point is that of the model as it is asked; nothing is estimated.

    Args:
        target: loss and picture.
        settings: of the attack.
        seed: of this picture's restarts.

    Raises:
        ValueError: a loss or gradient that is not finite.
    """
    import torch

    start = target.start
    epsilon, step_size = settings.epsilon / 255, settings.step_size / 255
    generator = torch.Generator().manual_seed(seed)
    best, before = (float("inf"), start, 0, 0), float("nan")
    for restart in range(settings.restarts):
        pixels = start.clone()
        if restart:
            noise = torch.rand(start.shape, generator=generator, dtype=torch.float32)
            pixels = projected(start + (2 * noise - 1) * epsilon, start, epsilon)
        for step in range(settings.steps + 1):
            loss, gradient = _loss_and_gradient(target, pixels)
            if restart == 0 and step == 0:
                before = loss
            if loss < best[0]:
                best = (loss, pixels, restart, step)
            if step < settings.steps:
                pixels = projected(pixels - step_size * gradient.sign(), start, epsilon)
    found, pixels, restart, step = best
    saved = rounded(pixels, start)
    with torch.no_grad():
        loss_saved = float(target.loss(saved))
    return PgdResult(saved, before, found, loss_saved, restart, step)


def projected(pixels: "Tensor", start: "Tensor", epsilon: float) -> "Tensor":
    """The nearest picture within the ball.

    Args:
        pixels: anything like `start`.
        start: centre of the ball, from 0 to 1.
        epsilon: its radius, in the largest change of a value.
    """
    import torch

    return torch.max(torch.min(pixels, start + epsilon), start - epsilon).clamp(0, 1)


def rounded(pixels: "Tensor", start: "Tensor") -> "Tensor":
    """Pixels as a file of 256 levels holds them: towards `start`, so that no ball is left."""
    import torch

    # A float32 that stands for a whole level may lie a little below it.
    levels = torch.trunc((pixels - start) * 255 + torch.sign(pixels - start) * 1e-3)
    return ((start * 255).round() + levels).clamp(0, 255) / 255


def _loss_and_gradient(target: TargetLoss, pixels: "Tensor") -> "tuple[float, Tensor]":
    import torch

    leaf = pixels.clone().requires_grad_(True)
    loss = target.loss(leaf)
    (gradient,) = torch.autograd.grad(loss, leaf)
    value = float(loss.detach())
    if not (value == value and abs(value) < float("inf") and torch.isfinite(gradient).all()):
        raise ValueError(
            f"Attack: expected a finite loss and gradient, found a loss of {value}. Half precision"
            " may overflow: pass --dtype bfloat16 or float32."
        )
    return value, gradient
