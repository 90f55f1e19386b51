"""L_LM + lambda * alpha * L_gap recomputed from dumped tensors, by plain loops in float64.

Nothing of the plugin is used, nor its way to find the tokens: where the image stands is counted
from the collator's own token ids.
"""

import math
from pathlib import Path
from typing import Any, Dict, List, Tuple

IMAGE_PLACEHOLDER, IGNORED = -200, -100


def read_batches(record: Path) -> List[Dict[str, Any]]:
    """The dumped micro-batches of rank 0, in order."""
    import torch

    paths = sorted(record.glob("rank0_*.pt"), key=lambda path: int(path.stem.split("_")[1]))
    return [torch.load(path, weights_only=True) for path in paths]


def token_positions(
    input_ids: List[int], labels: List[int], *, image_tokens: int, padding: int, cut: int
) -> Tuple[List[int], List[int]]:
    """Positions of the image tokens and of the labelled text tokens in the merged sequence."""
    images, texts, position = [], [], 0
    for token, label in zip(input_ids, labels):
        if token == padding and label == IGNORED:
            continue
        if token == IMAGE_PLACEHOLDER:
            images += range(position, position + image_tokens)
            position += image_tokens
            continue
        if label != IGNORED:
            texts.append(position)
        position += 1
    return [p for p in images if p < cut], [p for p in texts if p < cut]


def gap(
    batch: Dict[str, Any], *, image_tokens: int, padding: int, cut: int, layer: int = 0
) -> float:
    """Mean over samples of the mean pairwise distance; NaN without a sample with both kinds."""
    values = []
    every_state = batch["hidden_states"][layer] if layer else batch["inputs_embeds"]
    for row, (ids, labels) in enumerate(zip(batch["input_ids"], batch["source_labels"])):
        images, texts = token_positions(
            ids.tolist(), labels.tolist(), image_tokens=image_tokens, padding=padding, cut=cut
        )
        states = every_state[row].double().tolist()
        distances = [math.dist(states[i], states[t]) for i in images for t in texts]
        if distances:
            values.append(sum(distances) / len(distances))
    return sum(values) / len(values) if values else math.nan
