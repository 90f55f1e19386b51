"""The Frechet distance of two Gaussians, of which MIR is made, as a loss.

Source: Dowson and Landau (1982); in MIR, arXiv 2410.07167, per layer. Here the covariances are
divided by n instead of n - 1, no outlier is replaced and nothing is rescaled.
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

# Singular values below this share of the largest are the rounding of float32 (float64: of the
# Gram matrix), and their singular vectors noise.
_LEAST_SHARE = 1e-6


def frechet(embeddings: TokenEmbeddings) -> Tensor:
    """Frechet distance of the Gaussians fitted to image and text tokens of the micro-batch.

        L = || mu_v - mu_t ||^2 + tr(S_v) + tr(S_t) - 2 tr((S_v S_t)^(1/2))

    over all tokens of the samples that have both kinds, pooled: the caption of one sample has too
    few for a covariance. With fewer tokens than dimensions S_t is singular, and the formula is
    exact all the same: the last trace is the nuclear norm of the [R, S] matrix of products between
    centred image and text tokens, no d x d matrix is formed. What it measures is then the distance
    to so small a sample, above that of the distributions.

    The gradient of the last term takes singular values below 1e-6 of the largest for zero, and is
    zero along them: where the image tokens lack a direction altogether it has no slope to follow.
    Memory: [R, S]. Work: R S d, and min(R, S)^3 in float64. Differentiable once.

    Args:
        embeddings: image [B, T, d] and text [B, S, d] with their masks.

    Returns:
        A float32 scalar, >= 0 up to rounding of about 1e-6 tr(S).
    """
    with full_precision(embeddings.image.device):
        pairs = embeddings.checked_pairs()
        image = at_least_float32(torch.cat([pair.image for pair in pairs]))
        text = at_least_float32(torch.cat([pair.text for pair in pairs]))
        image_mean, text_mean = image.mean(0), text.mean(0)
        v = (image - image_mean) / len(image) ** 0.5
        t = (text - text_mean) / len(text) ** 0.5
        common: Tensor = _NuclearNorm.apply(v, t)  # type: ignore[no-untyped-call]
        spreads = v.square().sum() + t.square().sum()
        distance: Tensor = (image_mean - text_mean).square().sum() + spreads - 2.0 * common
        return distance


class _NuclearNorm(torch.autograd.Function):
    """The nuclear norm of v t^T, by the eigenvalues of the smaller Gram matrix in float64."""

    @staticmethod
    def forward(ctx: Any, v: Tensor, t: Tensor) -> Tensor:
        products = (v @ t.t()).double()
        if not bool(torch.isfinite(products).all()):  # eigh would raise; NaN is for the caller
            ctx.save_for_backward(v, t, products.to(v.dtype))
            return products.to(v.dtype).sum() * torch.nan
        wide = products if len(v) >= len(t) else products.t()
        squares, vectors = torch.linalg.eigh(wide.t() @ wide)
        values = squares.clamp(min=0.0).sqrt()
        kept = values > _LEAST_SHARE * values[-1]
        inverse = torch.where(kept, values.reciprocal(), torch.zeros_like(values))
        # U V^T, the polar factor: the gradient with respect to v t^T.
        polar = wide @ ((vectors * inverse) @ vectors.t())
        polar = polar if len(v) >= len(t) else polar.t()
        ctx.save_for_backward(v, t, polar.to(v.dtype))
        return torch.where(kept, values, torch.zeros_like(values)).sum().to(v.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> Tuple[Any, Any]:
        v, t, polar = ctx.saved_tensors
        wants_v, wants_t = ctx.needs_input_grad
        with full_precision(v.device):
            to_v = grad_output * (polar @ t) if wants_v else None
            to_t = grad_output * (polar.t() @ v) if wants_t else None
        return to_v, to_t


@hookimpl
def regap_register_gap_losses(register: "Callable[[str, GapLoss], None]") -> None:
    """Offer the formula."""
    register("frechet", frechet)
