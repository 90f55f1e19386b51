"""What shows a collapse coming: norms, spread and centroid distance beside the gap.

The gap also falls when the image tokens shrink or gather at one point, which no longer aligns
anything. These four scalars, logged with the gap, tell the cases apart.
"""

from typing import Dict

import torch
from torch import Tensor
from torch.linalg import vector_norm

from regap_plugin.embeddings import TokenEmbeddings


def collapse_statistics(embeddings: TokenEmbeddings) -> Dict[str, Tensor]:
    """Norms, spread and centroid distance, each averaged over the samples with both kinds.

    Args:
        embeddings: image [B, T, d] and text [B, S, d] with their masks; at least one sample with
            both kinds of token.

    Returns:
        Float32 scalars without gradient: `image_norm` and `text_norm`, the mean L2 norm of a
        token; `image_spread`, the root mean square distance of the image tokens to their mean;
        `centroid`, the distance between the mean image token and the mean text token.
    """
    rows = []
    with torch.no_grad(), torch.autocast(embeddings.image.device.type, enabled=False):
        for image, text in embeddings.pairs():
            image, text = image.float(), text.float()
            image_mean = image.mean(0)
            rows.append(
                torch.stack(
                    [
                        vector_norm(image, dim=1).mean(),
                        vector_norm(text, dim=1).mean(),
                        (image - image_mean).square().sum(1).mean().sqrt(),
                        vector_norm(image_mean - text.mean(0)),
                    ]
                )
            )
        means = torch.stack(rows).mean(0)
    return dict(zip(("image_norm", "text_norm", "image_spread", "centroid"), means.unbind()))
