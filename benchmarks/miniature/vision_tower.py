"""The miniature's vision tower: a CLIP vision model trained to name what a drawing shows.

Linear heads read background, layout, and of each group colour, shape and number; they are thrown
away, and the tower is written in the format that LLaVA's trainer loads. torch, transformers and
Pillow are imported where they are used.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Dict, List, Tuple

from regap_benchmarks.miniature.checkpoints import TinySizes, seeded, write_vision_tower
from regap_benchmarks.miniature.pictures import (
    BACKGROUNDS,
    COLOURS,
    KINDS,
    Shape,
    draw_picture,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

_GROUPS = 2
_MOST = 3  # shapes of a group
_ALONE, _ABOVE, _LEFT = range(3)
READ_LAYER = -2  # hidden states that LLaVA takes: `mm_vision_select_layer`
_FLOOR = 0.05
_NO_GROUP = -100  # of a second group that is not there

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class VisionRecipe:
    """How the tower is trained.

    Attributes:
        steps: optimiser steps.
        batch: pictures of a step.
        rate: learning rate.
        pictures: drawn for the training, in a series of their own.
        series: number of that series; the demo's pictures are of others.
    """

    steps: int = 500
    batch: int = 48
    rate: float = 2e-3
    pictures: int = 2000
    series: int = 200_000


def train_vision_tower(
    folder: Path,
    *,
    seed: int,
    sizes: TinySizes,
    recipe: VisionRecipe,
    progress: Progress = lambda done, total: None,
) -> Dict[str, float]:
    """Train and write the tower and its image processor.

    Args:
        folder: made if it is missing.
        seed: of weights and batches.
        sizes: of the tower.
        recipe: how long and how fast.
        progress: told in steps.

    Returns:
        by attribute, the share of the training pictures of the last tenth of the steps that the
        heads named right.
    """
    import math

    import torch
    from torch import nn
    from transformers import CLIPImageProcessor, CLIPVisionModel

    write_vision_tower(folder, seed=seed, sizes=sizes)
    pixels, targets = _pictures(CLIPImageProcessor.from_pretrained(folder), recipe)
    with seeded(seed):
        tower = CLIPVisionModel.from_pretrained(folder).train()
        heads = _heads(sizes.vision_hidden)
        weights = [*tower.parameters(), *heads.parameters()]
        optimizer = torch.optim.AdamW(weights, lr=recipe.rate, weight_decay=0.01)
        right: Dict[str, List[float]] = {name: [] for name in targets}
        for step in range(recipe.steps):
            cosine = (1 + math.cos(math.pi * step / recipe.steps)) / 2
            for group in optimizer.param_groups:
                group["lr"] = recipe.rate * min(1.0, (step + 1) / 20) * max(_FLOOR, cosine)
            rows = torch.randint(len(pixels), (recipe.batch,))
            states = tower(pixels[rows], output_hidden_states=True).hidden_states[READ_LAYER]
            scores = _read(heads, states[:, 1:])
            losses = []
            for name, values in targets.items():
                wanted = values[rows]
                losses.append(
                    nn.functional.cross_entropy(scores[name], wanted, ignore_index=_NO_GROUP)
                )
                there = wanted != _NO_GROUP
                if step >= 0.9 * recipe.steps and bool(there.any()):
                    hit = scores[name].argmax(dim=1)[there] == wanted[there]
                    right[name].append(float(hit.float().mean()))
            optimizer.zero_grad()
            torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            progress(step + 1, recipe.steps)
    tower.eval().save_pretrained(folder)
    return {name: sum(values) / len(values) for name, values in right.items() if values}


def attributes(shapes: Tuple[Shape, ...], background: str) -> Dict[str, int]:
    """What the heads learn of a picture: number of a class by attribute; -100 for none."""
    colours, backgrounds = sorted(COLOURS), sorted(BACKGROUNDS)
    groups: List[List[Shape]] = []
    for shape in shapes:
        same = groups and (shape.kind, shape.colour) == (groups[-1][0].kind, groups[-1][0].colour)
        if same:
            groups[-1].append(shape)
        else:
            groups.append([shape])
    found = {"background": backgrounds.index(background), "layout": _layout(groups)}
    for place in range(_GROUPS):
        group = groups[place] if place < len(groups) else []
        found[f"colour {place}"] = colours.index(group[0].colour) if group else _NO_GROUP
        found[f"kind {place}"] = KINDS.index(group[0].kind) if group else _NO_GROUP
        found[f"count {place}"] = len(group) - 1 if group else _NO_GROUP
    return found


def _layout(groups: List[List[Shape]]) -> int:
    if len(groups) == 1:
        return _ALONE
    (_, _, _, bottom), (_, top, _, _) = groups[0][-1].box, groups[1][0].box
    return _ABOVE if bottom <= top else _LEFT


def _pictures(processor: object, recipe: VisionRecipe) -> "Tuple[Tensor, Dict[str, Tensor]]":
    """Pixels [n, 3, side, side], and by attribute the classes [n]."""
    import torch

    pixels, found = [], []
    for index in range(recipe.pictures):
        picture = draw_picture(seed=recipe.series, index=index)
        made = processor.preprocess(picture.image, return_tensors="pt")  # type: ignore[attr-defined]
        pixels.append(made["pixel_values"][0])
        found.append(attributes(picture.shapes, picture.background))
    names = found[0]
    return torch.stack(pixels), {
        name: torch.tensor([each[name] for each in found]) for name in names
    }


def drawn_pixels(processor: object, count: int, series: int) -> "Tensor":
    """Drawings of a series as a processor gives them, [count, 3, side, side]."""
    import torch

    return torch.stack(
        [
            processor.preprocess(  # type: ignore[attr-defined]
                draw_picture(seed=series, index=index).image, return_tensors="pt"
            )["pixel_values"][0]
            for index in range(count)
        ]
    )


def _heads(width: int) -> "nn.ModuleDict":
    """Of each attribute an attention over the patches and a linear reading of what it gathers."""
    from torch import nn

    sizes = {"background": len(BACKGROUNDS), "layout": 3}
    for place in range(_GROUPS):
        sizes[f"colour {place}"] = len(COLOURS)
        sizes[f"kind {place}"] = len(KINDS)
        sizes[f"count {place}"] = _MOST
    return nn.ModuleDict(
        {
            name: nn.ModuleDict({"look": nn.Linear(width, 1), "read": nn.Linear(width, size)})
            for name, size in sizes.items()
        }
    )


def _read(heads: "nn.ModuleDict", patches: "Tensor") -> "Dict[str, Tensor]":
    """Scores [n, classes] by attribute, of patches [n, p, width]."""
    scores = {}
    for name, head in heads.items():
        weights = head["look"](patches).softmax(dim=1)  # type: ignore[index]
        scores[name] = head["read"]((weights * patches).sum(dim=1))  # type: ignore[index]
    return scores
