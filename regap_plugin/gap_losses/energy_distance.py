"""The energy distance: the pairwise distance without what it takes from the spreads.

Source: Szekely and Rizzo, "Energy statistics: a class of statistics based on distances" (2013). It
is the maximum mean discrepancy under the kernel -||x - y|| (Sejdinovic et al., "Equivalence of
distance-based and RKHS-based statistics in hypothesis testing", 2013), which has no bandwidth.
"""

from typing import TYPE_CHECKING, Callable

from torch import Tensor

from regap_plugin.embeddings import TokenEmbeddings
from regap_plugin.gap_losses.pairwise import mean_distance
from regap_plugin.gap_losses.precision import at_least_float32, full_precision
from regap_plugin.hookspecs import hookimpl

if TYPE_CHECKING:
    from regap_plugin.gap_losses import GapLoss


def energy_distance(embeddings: TokenEmbeddings) -> Tensor:
    """Energy distance of the image tokens and the text tokens of a sample.

        L = 2/(r*s) sum_i sum_j || v_i - t_j || - 1/r^2 sum_i sum_k || v_i - v_k ||
            - 1/s^2 sum_j sum_k || t_j - t_k ||

    Zero if and only if the two sets are distributed alike. Its first term is twice `pairwise_l2`;
    the second keeps the image tokens apart, so that their collapse to a point is no way down.
    Memory: [r, r] beside [r, s]. Differentiable once.

    Args:
        embeddings: image [B, T, d] and text [B, S, d] with their masks.

    Returns:
        A float32 scalar, >= 0 up to rounding.
    """
    with full_precision(embeddings.image.device):
        return embeddings.mean_over_samples(_energy_distance)


def _energy_distance(image: Tensor, text: Tensor) -> Tensor:
    # Once: gradients of several terms are summed in float32 and rounded at the end.
    image, text = at_least_float32(image), at_least_float32(text)
    between = 2.0 * mean_distance(image, text)
    return between - mean_distance(image, image) - mean_distance(text, text)


@hookimpl
def regap_register_gap_losses(register: "Callable[[str, GapLoss], None]") -> None:
    """Offer the formula."""
    register("energy_distance", energy_distance)
