"""The formulas over pairs of an image token and a text token: the paper's, and its nearest kin.

Source: arXiv 2505.24208; that L_gap is the pairwise mean of the L2 norm is our reading of it
(docs/method.md), its square and the distance of the means stand beside it.
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

_NEAR = 1e-3  # relative distance below which float32's 6e-8 would cost 1e-4 of a pair's gradient


def pairwise_l2(embeddings: TokenEmbeddings) -> Tensor:
    """Mean Euclidean distance between every image token and every text token (the default).

        L = 1/(r*s) * sum_i sum_j || v_i - t_j ||_2

    The gradient is the closed form d/dv_i = 1/(r*s) sum_j (v_i - t_j) / ||v_i - t_j||, as two
    matrix products, so that no [s, r, d] tensor exists, forward or backward. A pair at distance
    zero contributes a zero gradient (the subgradient of least norm). Differentiable once.

    Args:
        embeddings: image [B, T, d] and text [B, S, d] with their masks.

    Returns:
        A float32 scalar.
    """
    with full_precision(embeddings.image.device):
        return embeddings.mean_over_samples(mean_distance)


def pairwise_squared_l2(embeddings: TokenEmbeddings) -> Tensor:
    """Mean squared Euclidean distance, in closed form: O((r + s) d) instead of O(r s d).

        L = 1/(r*s) * sum_i sum_j || v_i - t_j ||_2^2
          = || mu_v - mu_t ||^2 + tr(S_v) + tr(S_t)

    with the means mu and the covariances S (over n, not n - 1). It therefore penalises the spread
    of the image tokens too: watch `regap/image_spread`.

    Args:
        embeddings: image [B, T, d] and text [B, S, d] with their masks.

    Returns:
        A float32 scalar.
    """
    with full_precision(embeddings.image.device):
        return embeddings.mean_over_samples(_mean_squared_distance)


def centroid_l2(embeddings: TokenEmbeddings) -> Tensor:
    """Euclidean distance between the mean image token and the mean text token.

        L = || mu_v - mu_t ||_2

    Means that coincide give a zero gradient.

    Args:
        embeddings: image [B, T, d] and text [B, S, d] with their masks.

    Returns:
        A float32 scalar.
    """
    with full_precision(embeddings.image.device):
        return embeddings.mean_over_samples(_centroid_distance)


def mean_distance(image: Tensor, text: Tensor) -> Tensor:
    """The mean distance between tokens [r, d] and tokens [s, d], with its closed gradient."""
    mean: Tensor = _MeanDistance.apply(image, text)  # type: ignore[no-untyped-call]
    return mean


def _mean_squared_distance(image: Tensor, text: Tensor) -> Tensor:
    image, text = at_least_float32(image), at_least_float32(text)
    image_mean, text_mean = image.mean(0), text.mean(0)
    # Deviations rather than ||v||^2 + ||t||^2 - 2<v, t>: no cancellation between large norms.
    return (
        (image_mean - text_mean).square().sum()
        + (image - image_mean).square().sum(1).mean()
        + (text - text_mean).square().sum(1).mean()
    )


def _centroid_distance(image: Tensor, text: Tensor) -> Tensor:
    image_mean, text_mean = at_least_float32(image).mean(0), at_least_float32(text).mean(0)
    # torch's own norm has the zero subgradient at zero.
    distance: Tensor = torch.linalg.vector_norm(image_mean - text_mean)
    return distance


class _MeanDistance(torch.autograd.Function):
    """Mean of the [r, s] distances; keeps the inputs in their own dtype and the distances."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, text: Tensor) -> Tensor:
        # Without the matrix product, whose cancellation is large where distances are small.
        distances = torch.cdist(
            at_least_float32(image),
            at_least_float32(text),
            compute_mode="donot_use_mm_for_euclid_dist",
        )
        ctx.save_for_backward(image, text, distances)
        return distances.mean()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> Tuple[Any, Any]:
        image, text, distances = ctx.saved_tensors
        wants_image, wants_text = ctx.needs_input_grad
        with full_precision(image.device):
            weights = torch.where(distances > 0, distances.reciprocal(), distances)
            weights.mul_(grad_output / distances.numel())
            image32, text32 = at_least_float32(image), at_least_float32(text)
            to_image = to_text = None
            if wants_image:
                to_image = _pull(image32, text32, weights, distances).to(image.dtype)
            if wants_text:
                to_text = _pull(text32, image32, weights.t(), distances.t()).to(text.dtype)
        return to_image, to_text


def _pull(points: Tensor, others: Tensor, weights: Tensor, distances: Tensor) -> Tensor:
    """Row i: sum_j weights_ij (points_i - others_j), where weights_ij is about 1/distances_ij."""
    # The sum does not change when both sides are shifted alike; around a common origin the two
    # products lose fewer digits to cancellation.
    origin = others.mean(0)
    centred = points - origin
    pulled = weights.sum(1, keepdim=True) * centred - weights @ (others - origin)
    # A pair that nearly coincides has a weight so large that the products cancel to noise, without
    # bound. Such rows (none, as a rule) are summed by themselves, one [s, d] at a time.
    near = distances < _NEAR * torch.linalg.vector_norm(centred, dim=1, keepdim=True)
    for row in (near & (distances > 0)).any(1).nonzero().flatten().tolist():
        pulled[row] = weights[row] @ (points[row] - others)
    return pulled


@hookimpl
def regap_register_gap_losses(register: "Callable[[str, GapLoss], None]") -> None:
    """Offer the formulas over pairs."""
    register("pairwise_l2", pairwise_l2)
    register("pairwise_squared_l2", pairwise_squared_l2)
    register("centroid_l2", centroid_l2)
