"""Affine maps that give one set of tokens the mean, or mean and covariance, of another.

Between Gaussians N(m, S) and N(n, T) the map x -> n + A (x - m) with

    A = S^(-1/2) (S^(1/2) T S^(1/2))^(1/2) S^(-1/2)

is the optimal transport: of all maps that give S the covariance T it moves the tokens least, and A
is symmetric (Olkin and Pukelsheim, "The distance between two random vectors with given dispersion
matrices", 1982; Knott and Smith, "On the optimal mapping of distributions", 1984; Peyre and Cuturi,
"Computational Optimal Transport", 2019, remark 2.31). Everything is float64.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Optional, Tuple

if TYPE_CHECKING:
    from torch import Tensor

MEAN, MEAN_AND_COVARIANCE = "mean", "mean+covariance"
MATCHES = (MEAN, MEAN_AND_COVARIANCE)
# Of the largest eigenvalue, per dimension: below it an eigenvalue is rounding.
_EPSILON = 2.0**-52


@dataclass(frozen=True)
class Moments:
    """What is known of a set of tokens.

    Attributes:
        mean: [d], float64.
        covariance: [d, d], float64, divided by count - 1.
        count: tokens, at least 2.
    """

    mean: "Tensor"
    covariance: "Tensor"
    count: int


@dataclass(frozen=True)
class AffineMap:
    """x -> matrix x + offset.

    Attributes:
        matrix: [d, d], float64.
        offset: [d], float64.
    """

    matrix: "Tensor"
    offset: "Tensor"

    def apply(self, tokens: "Tensor") -> "Tensor":
        """The images of tokens [n, d], in float64."""
        return tokens.double() @ self.matrix.t() + self.offset

    def moments(self, moments: Moments) -> Moments:
        """The moments of the images, from those of the tokens."""
        covariance = self.matrix @ moments.covariance @ self.matrix.t()
        mean = self.matrix @ moments.mean + self.offset
        return Moments(mean, (covariance + covariance.t()) / 2, moments.count)

    def fold(self, weight: "Tensor", bias: "Tensor") -> "Tuple[Tensor, Tensor]":
        """A linear layer with this map behind it: (A W, A b + offset), in float64.

        Args:
            weight: [d, m].
            bias: [d].
        """
        return self.matrix @ weight.double(), self.matrix @ bias.double() + self.offset


@dataclass(frozen=True)
class FittedMap:
    """A map, and the shrinkage that went into it: 0 to 1 of image and of text; None for the mean.

    Attributes:
        map: see `AffineMap`.
        image_shrinkage: weight of the multiple of the identity in the image tokens' covariance.
        text_shrinkage: the same of the text tokens'.
    """

    map: AffineMap
    image_shrinkage: Optional[float] = None
    text_shrinkage: Optional[float] = None


def fit_map(
    image: Moments,
    text: Moments,
    *,
    match: str,
    strength: float = 1.0,
    shrinkage: Optional[float] = None,
) -> FittedMap:
    """The map from the image tokens' moments to the text tokens'.

    Fewer tokens than dimensions leave a covariance singular; then it has no inverse, and directions
    in which few text tokens happen to lie would be taken for the only ones there are. So both
    covariances are shrunk, (1 - g) S + g tr(S)/d I, before they are matched: with g > 0 what comes
    out has the shrunk covariance of the text, not its sample covariance.

    Args:
        image: of the tokens that are moved.
        text: of those that they are to be like.
        match: "mean" (a shift alone) or "mean+covariance".
        strength: 0 leaves all as it is, 1 moves all the way; in between x goes that share of its
            way, on the shortest path between the Gaussians (McCann, 1997), along which the root
            of the Frechet distance falls linearly.
        shrinkage: g for both; if absent, each set's own by `oas_shrinkage`.

    Raises:
        ValueError: an unknown match, a number out of range, moments that do not fit together, or
            a singular covariance of the image tokens.
    """
    import torch

    _check(image, text, match, strength, shrinkage)
    dim = len(image.mean)
    identity = torch.eye(dim, dtype=torch.float64, device=image.mean.device)
    matrix, shares = identity, None
    if match == MEAN_AND_COVARIANCE:
        shares = [oas_shrinkage(each) if shrinkage is None else shrinkage for each in (image, text)]
        matrix = transport_matrix(
            shrunk(image.covariance, shares[0]), shrunk(text.covariance, shares[1])
        )
    offset = text.mean - matrix @ image.mean
    partial = AffineMap((1 - strength) * identity + strength * matrix, strength * offset)
    return FittedMap(partial, *(shares or ()))


def transport_matrix(source: "Tensor", target: "Tensor") -> "Tensor":
    """The symmetric A with A S A = T of the optimal transport between N(0, S) and N(0, T).

    Args:
        source: S, [d, d], symmetric and positive definite.
        target: T, [d, d], symmetric and positive semidefinite.

    Raises:
        ValueError: a singular S.
    """
    import torch

    values, vectors = torch.linalg.eigh(source)
    if not float(values[0]) > len(values) * _EPSILON * float(values[-1]):
        raise ValueError(
            "Covariance of the image tokens: expected full rank, found eigenvalues from"
            f" {float(values[0]):.3g} to {float(values[-1]):.3g}. Pass more pairs, a --shrinkage"
            " above 0, or --match mean."
        )
    roots = values.sqrt()
    root, inverse = (vectors * roots) @ vectors.t(), (vectors / roots) @ vectors.t()
    middle = root @ target @ root
    values, vectors = torch.linalg.eigh((middle + middle.t()) / 2)
    middle_root = (vectors * values.clamp(min=0.0).sqrt()) @ vectors.t()
    matrix: Tensor = inverse @ middle_root @ inverse
    return (matrix + matrix.t()) / 2


def shrunk(covariance: "Tensor", share: float) -> "Tensor":
    """(1 - share) S + share tr(S)/d I."""
    mean = covariance.diagonal().mean()
    moved = (1 - share) * covariance
    moved.diagonal().add_(share * mean)
    return moved


def oas_shrinkage(moments: Moments) -> float:
    """The share of the identity by "oracle approximating shrinkage".

    Source: Chen, Wiesel, Eldar and Hero, "Shrinkage algorithms for MMSE covariance estimation",
    2010, equation 23. It takes the tokens for independent draws of a Gaussian; those of one picture
    are not, so that it rather shrinks too little.

    Returns:
        0 to 1; falls with the number of tokens, and is 1 where nothing but a multiple of the
        identity can be made out.
    """
    d, n = len(moments.mean), moments.count
    covariance = moments.covariance * ((n - 1) / n)
    square, trace = float(covariance.square().sum()), float(covariance.diagonal().sum())
    apart = (n + 1 - 2 / d) * (square - trace**2 / d)
    return min(1.0, ((1 - 2 / d) * square + trace**2) / apart) if apart > 0 else 1.0


def _check(
    image: Moments, text: Moments, match: str, strength: float, shrinkage: Optional[float]
) -> None:
    import torch

    if match not in MATCHES:
        raise ValueError(f"--match: expected one of {', '.join(MATCHES)}, found {match!r}.")
    for name, value in (("strength", strength), ("shrinkage", shrinkage)):
        if value is not None and not 0 <= value <= 1:
            raise ValueError(f"--{name}: expected a number from 0 to 1, found {value}.")
    if image.mean.shape != text.mean.shape:
        raise ValueError(
            f"Moments: expected one dimension, found {len(image.mean)} of image tokens and"
            f" {len(text.mean)} of text tokens. Take both from one layer."
        )
    for kind, moments in (("image", image), ("text", text)):
        finite = moments.mean.isfinite().all() & moments.covariance.isfinite().all()
        if moments.count < 2 or not bool(torch.as_tensor(finite)):
            raise ValueError(
                f"Moments of {kind} tokens: expected finite ones of 2 tokens or more, found"
                f" {moments.count} tokens. Check the pairs and the checkpoint."
            )
