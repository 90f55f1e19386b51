"""The formulas of the gap loss L_gap: pure functions from embeddings to a scalar.

For the image-token embeddings v_1..v_r and text-token embeddings t_1..t_s of a sample, at the
LLM's input or behind one of its layers. Each file is a plugin like any other: it offers its
formulas by `regap_register_gap_losses`.

Every formula is averaged over the samples of a batch that have both kinds of token (`info_nce` and
`frechet` compare these samples, or pool their tokens), works in float32 (in float64 for float64
input) whatever the autocast and the TF32 setting, draws nothing from the global random generators,
holds no [s, r, d] tensor, and raises `ValueError` when no sample has both kinds.
"""

from typing import Callable, Dict

from torch import Tensor

from regap_plugin.embeddings import TokenEmbeddings
from regap_plugin.gap_losses import (
    energy_distance,
    frechet,
    info_nce,
    mmd,
    pairwise,
    sliced_wasserstein,
)
from regap_plugin.gap_losses.pairwise import centroid_l2, pairwise_l2, pairwise_squared_l2

GapLoss = Callable[[TokenEmbeddings], Tensor]

__all__ = ["BUILT_IN_LOSSES", "GapLoss", "centroid_l2", "pairwise_l2", "pairwise_squared_l2"]

BUILT_IN_LOSSES: Dict[str, GapLoss] = {}
for _plugin in (pairwise, energy_distance, frechet, info_nce, mmd, sliced_wasserstein):
    _plugin.regap_register_gap_losses(register=BUILT_IN_LOSSES.__setitem__)
