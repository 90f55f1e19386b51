"""What every metric asks of its tokens before the long part starts, and how it walks over them."""

from typing import Iterator, Optional, Tuple

import torch
from torch import Tensor

# Elements that are held in float64 at a time beside the tokens: 128 MiB.
BLOCK_ELEMENTS = 2**24


def check_tokens(name: str, tokens: Tensor, *, at_least: int = 1) -> None:
    """Refuse what is no set of finite tokens.

    Args:
        name: what the caller knows them by.
        tokens: [n, d], floating point.
        at_least: the smallest n.

    Raises:
        ValueError: another shape or dtype, too few tokens, no dimension, NaN or inf.
    """
    if tokens.ndim != 2 or not tokens.is_floating_point() or tokens.shape[1] == 0:
        raise ValueError(
            f"{name}: expected a floating-point tensor [tokens, dim], found {tokens.dtype} "
            f"{list(tokens.shape)}. Pass one row per token."
        )
    if tokens.shape[0] < at_least:
        raise ValueError(
            f"{name}: expected at least {at_least} token(s), found {tokens.shape[0]}. Pass more "
            "pairs, and see that the tokens of this modality were located."
        )
    broken = sum(_not_finite(rows) for _, rows in blocks(tokens))
    if broken:
        raise ValueError(
            f"{name}: expected finite values, found NaN or inf in {broken} of {tokens.shape[0]} "
            "tokens. Run the model in bfloat16 or float32 if float16 overflowed."
        )


def _not_finite(rows: Tensor) -> int:
    # NaN and inf stay in a sum, which is several times cheaper than looking at each value; a sum
    # of finite values that overflows is looked at all the same.
    if torch.isfinite(rows.sum()):
        return 0
    return int((~torch.isfinite(rows)).any(1).sum())


def check_token_sets(
    image: Tensor, text: Tensor, *, at_least: int = 1, names: Tuple[str, str] = ("image", "text")
) -> None:
    """Refuse two sets of tokens that do not belong together.

    Args:
        image: [n, d].
        text: [m, d].
        at_least: the smallest n and m.
        names: what the caller knows them by.

    Raises:
        ValueError: as `check_tokens`; different dimensions or devices.
    """
    check_same_space(image, text, names=names)
    check_tokens(names[0], image, at_least=at_least)
    check_tokens(names[1], text, at_least=at_least)


def check_same_space(
    image: Tensor, text: Tensor, *, names: Tuple[str, str] = ("image", "text")
) -> None:
    """Refuse different dimensions or devices.

    Raises:
        ValueError: the last dimensions or the devices differ.
    """
    if image.shape[-1:] != text.shape[-1:]:
        raise ValueError(
            f"{names[0]} and {names[1]}: expected tokens of equal dimension, found "
            f"{list(image.shape)} and {list(text.shape)}. Take both from one layer of one model."
        )
    if image.device != text.device:
        raise ValueError(
            f"{names[0]} and {names[1]}: expected tokens on one device, found {image.device} and "
            f"{text.device}. Move them to one device."
        )


def blocks(tokens: Tensor, *, rows: Optional[int] = None) -> Iterator[Tuple[int, Tensor]]:
    """Consecutive rows, few enough to be held in float64.

    Args:
        tokens: [n, d].
        rows: rows at a time; as many as `BLOCK_ELEMENTS` allows if absent.

    Yields:
        The index of the first row, and a view of the rows.
    """
    step = rows or max(1, BLOCK_ELEMENTS // max(1, tokens.shape[1]))
    for start in range(0, tokens.shape[0], step):
        yield start, tokens[start : start + step]


def mean_token(tokens: Tensor) -> Tensor:
    """The mean row, in float64.

    Args:
        tokens: [n, d].

    Returns:
        [d], float64.
    """
    total = torch.zeros(tokens.shape[1], dtype=torch.float64, device=tokens.device)
    for _, rows in blocks(tokens):
        total += rows.double().sum(0)
    return total / tokens.shape[0]


def norms(tokens: Tensor, *, device: Optional[torch.device] = None) -> Tensor:
    """The L2 norm of each token, in float64.

    Args:
        tokens: [n, d].
        device: where to compute; that of the tokens if absent.

    Returns:
        [n], float64, on that device.
    """
    place = device or tokens.device
    parts = [
        torch.linalg.vector_norm(rows.to(place, torch.float64), dim=1) for _, rows in blocks(tokens)
    ]
    return torch.cat(parts)
