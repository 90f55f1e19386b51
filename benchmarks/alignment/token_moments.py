"""Mean and covariance of image and text tokens at the LLM's input, over pairs."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Callable, Tuple

from regap_benchmarks.alignment.affine_map import Moments
from regap_benchmarks.gap.pairs import Pair, Pairs
from regap_benchmarks.gap.states import ShownPair, StatesSource
from regap_benchmarks.pictures import render

if TYPE_CHECKING:
    from torch import Tensor

INPUT = 0  # the layer where the projector's rows and the embedding table meet


@dataclass(frozen=True)
class TokenMoments:
    """What the tokens of all pairs are like.

    Attributes:
        image: of the image tokens.
        text: of the text tokens.
        first: the image tokens of the first pair, [r, d], to see later that they moved.
    """

    image: Moments
    text: Moments
    first: "Tensor"


def collect_moments(
    source: StatesSource,
    pairs: Pairs,
    protocol: str,
    *,
    batch_size: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> TokenMoments:
    """Show all pairs once.

    Args:
        source: a loaded model.
        pairs: at least two.
        protocol: see `StatesSource.states`.
        batch_size: pairs shown together.
        progress: told in pairs.

    Raises:
        ValueError: a text that does not fit, or tokens that are not finite.
        PictureError: a picture that cannot be read.
    """
    from regap_plugin.metrics.moments import GaussianMoments

    for pair in pairs.pairs:
        source.check_text(pair.id, pair.text, protocol)
    kinds = [GaussianMoments(source.dimension) for _ in range(2)]
    first = None
    for start in range(0, len(pairs.pairs), batch_size):
        batch = pairs.pairs[start : start + batch_size]
        for found in source.states([_shown(pair, pairs) for pair in batch], protocol, [INPUT]):
            kinds[0].update(found.image[INPUT])
            kinds[1].update(found.text[INPUT])
            first = found.image[INPUT] if first is None else first
        progress(min(start + batch_size, len(pairs.pairs)), len(pairs.pairs))
    assert first is not None
    image, text = (Moments(each.mean, each.covariance(), each.count) for each in kinds)
    return TokenMoments(image, text, first)


def first_tokens(source: StatesSource, pairs: Pairs, protocol: str) -> "Tensor":
    """The image tokens of the first pair, [r, d]."""
    (found,) = source.states([_shown(pairs.pairs[0], pairs)], protocol, [INPUT])
    return found.image[INPUT]


def frechet_distances(moments: TokenMoments, moved: Moments) -> Tuple[float, float]:
    """Frechet distance of image to text tokens before the map and after it."""
    from regap_plugin.metrics.frechet import frechet_distance_from_moments

    before, after = (
        frechet_distance_from_moments(
            each.mean, each.covariance, moments.text.mean, moments.text.covariance
        )
        for each in (moments.image, moved)
    )
    return before, after


def _shown(pair: Pair, pairs: Pairs) -> ShownPair:
    return ShownPair(pair.id, render(pair.picture, pairs.folder), pair.text)
