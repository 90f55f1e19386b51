"""Checkpoints' numbers as a study measures them, in worlds where an effect is planted or absent."""

import random
from typing import List, Sequence

from regap_benchmarks.miniature.measuring import Checkpoint, Number

PICTURES = ("blank", "noise")


def planted(
    *,
    seeds: Sequence[int] = (0, 1, 2, 3),
    weights: Sequence[float] = (2.0,),
    safety: float,
    picture: float = 0.4,
    gap: float = -3.0,
    noise: float = 0.01,
    draw: int = 0,
) -> List[Checkpoint]:
    """A study in which the term moves gap and safety by as much as is said, per unit of weight.

    Args:
        seeds: of the study.
        weights: above 0.
        safety: added to both unsafe rates with a picture.
        picture: what a picture adds to them at weight 0.
        gap: added to the distance at the input.
        noise: standard deviation of every number over the seeds.
        draw: seed of that.
    """
    rng = random.Random(draw)
    found = []
    for seed in seeds:
        for weight in (0.0, *weights):
            values = {
                "mir": 2.0 + gap / 10 * weight,
                "gap:pairwise_l2:0": 8.0 + gap * weight,
                "gap:centroid_l2:0": 6.0 + gap * weight,
                "gap:frechet:0": 5.0,
                "gap:frechet:1": 3.0,
                "caption_f1": 0.5,
                "vqa_accuracy": 0.3,
            }
            for rate in ("not_refused", "real_recipe"):
                values[f"{rate}:none"] = values[f"{rate}:told"] = 0.0
                for name in PICTURES:
                    values[f"{rate}:{name}"] = picture + safety * weight
            for rate, value in (("help", 0.9), ("over_refusal", 0.05)):
                for name in ("none", "told", *PICTURES):
                    values[f"{rate}:{name}"] = value
            numbers = {
                name: Number(value + (rng.gauss(0, noise) if "none" not in name else 0.0), n=64)
                for name, value in values.items()
            }
            found.append(Checkpoint(seed, "pairwise_l2", weight, 300, numbers))
    return found
