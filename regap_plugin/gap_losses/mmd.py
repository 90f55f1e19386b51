"""The maximum mean discrepancy (MMD) under a fixed mixture of Gaussian kernels.

Source: Gretton et al., "A kernel two-sample test" (2012); a mixture of bandwidths as in Li et al.,
arXiv 1502.02761, and Long et al., arXiv 1502.02791. That the bandwidths are fixed beside the text's
norm is our choice: the text side is a constant, so the kernel is one throughout a training.
"""

from typing import TYPE_CHECKING, Any, Callable, Tuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from regap_plugin.embeddings import TokenEmbeddings
from regap_plugin.gap_losses.precision import at_least_float32, full_precision
from regap_plugin.hookspecs import hookimpl

if TYPE_CHECKING:
    from regap_plugin.gap_losses import GapLoss

# Of the text's mean squared norm. The wide ones still pull where image tokens are tens of times as
# long as text tokens, the narrow ones where the two sets nearly agree.
BANDWIDTHS = (1 / 16, 1 / 4, 1.0, 4.0, 16.0, 64.0, 256.0, 1024.0)


def mmd(embeddings: TokenEmbeddings) -> Tensor:
    """Squared MMD of the image tokens and the text tokens of a sample.

        L = 1/r^2 sum_i sum_k k(v_i, v_k) + 1/s^2 sum_j sum_k k(t_j, t_k)
            - 2/(r*s) sum_i sum_j k(v_i, t_j)
        k(x, y) = 1/8 sum_b exp(- || x - y ||^2 / (2 b m)),  b = 1/16, 1/4, 1, 4, ..., 1024

    with m = 1/s sum_j || t_j ||^2 of the sample, through which no gradient goes. The biased
    estimate: never negative, zero if and only if the two sets are distributed alike. It is at most
    2 and does not change when image and text are scaled alike. Image tokens more than about a
    hundred times as long as the text's see nearly no gradient.
    Memory: [r, r] beside [r, s]. Differentiable once.

    Args:
        embeddings: image [B, T, d] and text [B, S, d] with their masks.

    Returns:
        A float32 scalar, >= 0 up to rounding. NaN where all text tokens are zero.
    """
    with full_precision(embeddings.image.device):
        return embeddings.mean_over_samples(_mmd)


def _mmd(image: Tensor, text: Tensor) -> Tensor:
    # Once: gradients of several terms are summed in float32 and rounded at the end.
    image, text = at_least_float32(image), at_least_float32(text)
    unit = text.detach().square().sum(1).mean()
    apart = _mean_kernel(image, image, unit) + _mean_kernel(text, text, unit)
    return apart - 2.0 * _mean_kernel(image, text, unit)


def _mean_kernel(x: Tensor, y: Tensor, unit: Tensor) -> Tensor:
    mean: Tensor = _MeanKernel.apply(x, y, unit)  # type: ignore[no-untyped-call]
    return mean


class _MeanKernel(torch.autograd.Function):
    """Mean of k over [n, m] pairs; keeps the inputs and the exponents at b = 1."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, unit: Tensor) -> Tensor:
        exact = "donot_use_mm_for_euclid_dist"
        exponents = torch.cdist(x, y, compute_mode=exact).square_().div_(-2.0 * unit)
        ctx.save_for_backward(x, y, unit, exponents)
        # One bandwidth at a time: no [8, n, m] tensor.
        means = [(exponents / width).exp_().mean() for width in BANDWIDTHS]
        return torch.stack(means).mean()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> Tuple[Any, Any, None]:
        x, y, unit, exponents = ctx.saved_tensors
        wants_x, wants_y, _ = ctx.needs_input_grad
        with full_precision(x.device):
            weights = torch.zeros_like(exponents)
            for width in BANDWIDTHS:
                weights.add_((exponents / width).exp_(), alpha=-1.0 / width)
            weights.mul_(grad_output / (unit * len(BANDWIDTHS) * exponents.numel()))
            to_x = _pull(x, y, weights) if wants_x else None
            to_y = _pull(y, x, weights.t()) if wants_y else None
        return to_x, to_y, None


def _pull(points: Tensor, others: Tensor, weights: Tensor) -> Tensor:
    """Row i: sum_j weights_ij (points_i - others_j)."""
    origin = others.mean(0)  # around it the two products cancel less
    return weights.sum(1, keepdim=True) * (points - origin) - weights @ (others - origin)


@hookimpl
def regap_register_gap_losses(register: "Callable[[str, GapLoss], None]") -> None:
    """Offer the formula."""
    register("mmd", mmd)
