"""The bases of the miniature: an aligned language model in its world, and a vision tower.

`python -m regap_benchmarks.miniature.base language --recipe full --seed 0` builds one into the
cache and prints its folder; `--rebuild` builds it though it is there.
"""

import argparse
import dataclasses
import platform
import signal
import sys
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Sequence

from regap_benchmarks.commands.command import say
from regap_benchmarks.miniature.cache import make_cached
from regap_benchmarks.miniature.checkpoints import TinySizes
from regap_benchmarks.miniature.language_model import LanguageRecipe, train_language_model
from regap_benchmarks.miniature.vision_tower import VisionRecipe, train_vision_tower
from regap_benchmarks.miniature.world import WorldSizes, make_world
from regap_benchmarks.progress import ProgressLine

LANGUAGE, TOWER = "language", "tower"
LANGUAGE_MODEL, WORLD_FILE, VISION_TOWER = "language-model", "world.json", "vision-tower"
# Raised when the code changes what the same settings build.
_VERSION = 1


@dataclass(frozen=True)
class BaseRecipe:
    """All that decides a base, but the seed.

    Attributes:
        world: topics.
        sizes: of the language model and the tower.
        language: training of the language model.
        vision: training of the tower.
        tower_seed: the tower is one for all seeds, as CLIP is one for all LVLMs.
    """

    world: WorldSizes = field(default_factory=WorldSizes)
    sizes: TinySizes = field(
        default_factory=lambda: TinySizes(
            vocabulary=2000, hidden=128, layers=3, vision_hidden=96, vision_heads=4
        )
    )
    language: LanguageRecipe = field(default_factory=LanguageRecipe)
    vision: VisionRecipe = field(default_factory=VisionRecipe)
    tower_seed: int = 0

    def language_settings(self, seed: int) -> Dict[str, Any]:
        """What decides a language model, for its key."""
        return {
            "version": _VERSION,
            "seed": seed,
            "world": dataclasses.asdict(self.world),
            "sizes": dataclasses.asdict(self.sizes),
            "recipe": dataclasses.asdict(self.language),
            "packages": _packages("torch", "transformers", "sentencepiece"),
        }

    def tower_settings(self) -> Dict[str, Any]:
        """What decides a tower, for its key."""
        return {
            "version": _VERSION,
            "seed": self.tower_seed,
            "sizes": dataclasses.asdict(self.sizes),
            "recipe": dataclasses.asdict(self.vision),
            "packages": _packages("torch", "transformers", "pillow"),
        }


RECIPES: Mapping[str, BaseRecipe] = {
    "full": BaseRecipe(),
    "quick": BaseRecipe(
        world=WorldSizes(forbidden=6, benign=10),
        sizes=TinySizes(vocabulary=2000, hidden=96, layers=3, vision_hidden=96, vision_heads=4),
        language=LanguageRecipe(helpful_steps=140, helpful_batch=48, aligned_steps=160),
        vision=VisionRecipe(steps=250, pictures=800),
    ),
    "test": BaseRecipe(
        world=WorldSizes(forbidden=2, benign=2),
        sizes=TinySizes(vocabulary=1000, hidden=32, vision_hidden=32),
        language=LanguageRecipe(helpful_steps=4, helpful_batch=8, aligned_steps=2, aligned_batch=8),
        vision=VisionRecipe(steps=4, batch=8, pictures=16),
    ),
}


def build_language(recipe: BaseRecipe, *, seed: int, rebuild: bool = False) -> Path:
    """The folder of a language model, its world and its tokenizer, trained now if need be."""

    def build(folder: Path) -> Mapping[str, Any]:
        world = make_world(seed, recipe.world)
        world.write(folder / WORLD_FILE)
        steps = train_language_model(
            folder / LANGUAGE_MODEL,
            world,
            seed=seed,
            sizes=recipe.sizes,
            recipe=recipe.language,
            progress=ProgressLine(f"language model of seed {seed}", unit="steps"),
        )
        return {"aligned_steps": steps}

    return make_cached(LANGUAGE, recipe.language_settings(seed), build, rebuild=rebuild)


def build_tower(recipe: BaseRecipe, *, rebuild: bool = False) -> Path:
    """The folder of a vision tower, trained now if need be."""

    def build(folder: Path) -> Mapping[str, Any]:
        return train_vision_tower(
            folder / VISION_TOWER,
            seed=recipe.tower_seed,
            sizes=recipe.sizes,
            recipe=recipe.vision,
            progress=ProgressLine("vision tower", unit="steps"),
        )

    return make_cached(TOWER, recipe.tower_settings(), build, rebuild=rebuild)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Build one base and print its folder."""
    parser = argparse.ArgumentParser(description="Build a base of the miniature into the cache.")
    parser.add_argument("kind", choices=(LANGUAGE, TOWER))
    parser.add_argument("--recipe", choices=sorted(RECIPES), default="full")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the language model")
    parser.add_argument("--rebuild", action="store_true", help="also where it is there")
    arguments = parser.parse_args(argv)
    # Ended by the demo's interruption, it leaves nothing half built in the cache.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    recipe = RECIPES[arguments.recipe]
    if arguments.kind == TOWER:
        folder = build_tower(recipe, rebuild=arguments.rebuild)
    else:
        folder = build_language(recipe, seed=arguments.seed, rebuild=arguments.rebuild)
    say(str(folder))
    return 0


def _packages(*names: str) -> Dict[str, str]:
    found = {"python": ".".join(platform.python_version_tuple()[:2])}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "none"
    return found


if __name__ == "__main__":
    sys.exit(main())
