"""InfoNCE between the pooled image tokens and the pooled text tokens of a batch.

Source: van den Oord et al., arXiv 1807.03748; in the symmetric form and with the initial
temperature of CLIP, arXiv 2103.00020. A reading of "during contrastive learning" in the summary of
the paper (docs/method.md).
"""

from typing import TYPE_CHECKING, Callable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from regap_plugin.embeddings import TokenEmbeddings
from regap_plugin.gap_losses.precision import at_least_float32, full_precision, product
from regap_plugin.hookspecs import hookimpl

if TYPE_CHECKING:
    from regap_plugin.gap_losses import GapLoss

TEMPERATURE = 0.07


def info_nce(embeddings: TokenEmbeddings) -> Tensor:
    """Cross-entropy of telling each image's own text among those of the batch, and back.

        L = 1/2 (CE(C / 0.07) + CE(C^T / 0.07)),  C_ab = cos(mean v of sample a, mean t of sample b)

    over the n samples of this rank's micro-batch that have both kinds of token; the mean of the
    diagonal's cross-entropies over the rows. It asks for the right neighbour, not for closeness:
    it is log n where all means coincide, does not fall to zero on equal sets, and does not see
    lengths. With one sample there is nothing to tell apart: zero, without a gradient.

    Args:
        embeddings: image [B, T, d] and text [B, S, d] with their masks.

    Returns:
        A float32 scalar, >= 0.
    """
    with full_precision(embeddings.image.device):
        pairs = embeddings.checked_pairs()
        if len(pairs) == 1:
            return at_least_float32(embeddings.image).new_zeros(())
        image = torch.stack([at_least_float32(pair.image).mean(0) for pair in pairs])
        text = torch.stack([at_least_float32(pair.text).mean(0) for pair in pairs])
        logits = product(normalize(image, dim=1), normalize(text, dim=1)) / TEMPERATURE
        own = torch.arange(len(pairs), device=logits.device)
        return (cross_entropy(logits, own) + cross_entropy(logits.t(), own)) / 2.0


@hookimpl
def regap_register_gap_losses(register: "Callable[[str, GapLoss], None]") -> None:
    """Offer the formula."""
    register("info_nce", info_nce)
