"""Rows of embeddings of several lengths as one batch, padded on the left."""

from typing import TYPE_CHECKING, Sequence, Tuple

if TYPE_CHECKING:
    from torch import Tensor


def padded_left(rows: "Sequence[Tensor]") -> "Tuple[Tensor, Tensor]":
    """Stack rows [T_i, H] to [B, T, H], with zeros before the short ones, and their mask [B, T]."""
    import torch

    longest = max(len(row) for row in rows)
    embeddings = rows[0].new_zeros(len(rows), longest, rows[0].shape[1])
    mask = torch.zeros(len(rows), longest, dtype=torch.long, device=rows[0].device)
    for number, row in enumerate(rows):
        embeddings[number, longest - len(row) :] = row
        mask[number, longest - len(row) :] = 1
    return embeddings, mask
