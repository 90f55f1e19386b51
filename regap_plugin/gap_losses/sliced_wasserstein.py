"""The sliced Wasserstein distance: exact transport along many lines, drawn anew in each step.

Source: Rabin et al., "Wasserstein barycenter and its application to texture mixing" (2011);
Bonneel et al., "Sliced and Radon Wasserstein barycenters of measures" (2015).
"""

from functools import partial
from typing import TYPE_CHECKING, Callable, Tuple

import torch
from torch import Tensor

from regap_plugin.embeddings import TokenEmbeddings
from regap_plugin.gap_losses.precision import at_least_float32, full_precision, product
from regap_plugin.hookspecs import hookimpl

if TYPE_CHECKING:
    from regap_plugin.gap_losses import GapLoss

LINES = 128
_SEED = 2505_24208


def sliced_wasserstein(embeddings: TokenEmbeddings) -> Tensor:
    """Squared 2-Wasserstein distance along 128 lines, between image and text tokens of a sample.

        L = d/128 sum_l W_2^2({ <u_l, v_i> }, { <u_l, t_j> })

    W_2^2 on a line is the integral of the squared difference of the two quantile functions,
    exactly, for any r and s. The factor d makes it || x ||^2 in the mean for two sets that differ
    by a shift x. The unit vectors u_l are uniform on the sphere and depend on the optimizer step
    and d alone: the same on every rank, in every micro-batch of a step and after a resumption,
    without a draw from a global random generator; others in the next step, since 128 lines see
    only 128 dimensions. Its values therefore scatter from step to step.
    Memory: [r + s, 128]. Differentiable once.

    Args:
        embeddings: image [B, T, d] and text [B, S, d] with their masks, and the step.

    Returns:
        A float32 scalar, >= 0; exactly zero on equal sets.
    """
    with full_precision(embeddings.image.device):
        lines = directions(embeddings.image.shape[2], embeddings.step).to(embeddings.image.device)
        return embeddings.mean_over_samples(partial(_distance_along, lines))


def directions(dim: int, step: int) -> Tensor:
    """Unit vectors, uniform on the sphere.

    Args:
        dim: d.
        step: optimizer steps completed.

    Returns:
        [128, d], float64, on the CPU.
    """
    generator = torch.Generator(device="cpu").manual_seed(_SEED + step)
    drawn = torch.randn(LINES, dim, generator=generator, dtype=torch.float64, device="cpu")
    units: Tensor = drawn / torch.linalg.vector_norm(drawn, dim=1, keepdim=True)
    return units


def _distance_along(lines: Tensor, image: Tensor, text: Tensor) -> Tensor:
    image, text = at_least_float32(image), at_least_float32(text)
    lines = lines.to(image.dtype)
    origin = text.detach().mean(0)  # shifting both alike changes nothing but the rounding
    on_lines = [product(tokens - origin, lines).sort(dim=0).values for tokens in (image, text)]
    of_image, of_text, shares = _quantile_cells(len(image), len(text))
    shares = shares.to(image)[:, None]
    difference = on_lines[0][of_image.to(image.device)] - on_lines[1][of_text.to(image.device)]
    return (shares * difference.square()).sum(0).mean() * lines.shape[1]


def _quantile_cells(r: int, s: int) -> Tuple[Tensor, Tensor, Tensor]:
    """The cells of [0, 1] on which both empirical quantile functions are constant.

    Returns:
        Index of the order statistic of r, of that of s, and the cell's length: [c] each, with
        c < r + s.
    """
    # In units of 1/(r s), so that a common edge is one edge.
    ends = torch.cat([torch.arange(1, r + 1) * s, torch.arange(1, s + 1) * r])
    ends = ends.sort().values
    lengths = torch.diff(ends, prepend=ends.new_zeros(1))
    ends, lengths = ends[lengths > 0], lengths[lengths > 0]
    of_r, of_s = (ends - 1).div(s, rounding_mode="floor"), (ends - 1).div(r, rounding_mode="floor")
    return of_r, of_s, lengths.double() / (r * s)


@hookimpl
def regap_register_gap_losses(register: "Callable[[str, GapLoss], None]") -> None:
    """Offer the formula."""
    register("sliced_wasserstein", sliced_wasserstein)
