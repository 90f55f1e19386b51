"""Bases that were prepared beforehand, perhaps in another environment: what they hold, and copies.

DIR/vision-tower/                     a CLIP vision model with its image processor
DIR/seed-N/language-model/            a LLaMA with its tokenizer
DIR/seed-N/world.json                 what it learnt
DIR/seed-N/prepared.json              how it was made, and what was measured of it
"""

import json
import shutil
from pathlib import Path
from typing import Any, Dict

from regap_benchmarks.miniature.base import LANGUAGE_MODEL, VISION_TOWER, WORLD_FILE
from regap_benchmarks.miniature.checkpoints import TinySizes
from regap_benchmarks.miniature.units import UnitError

PREPARED = "prepared.json"
LARGEST_OVER_REFUSAL = 0.05


def copy_prepared(bases: Path, seed: int, folder: Path) -> Dict[str, Any]:
    """Copy the base of a seed, and the tower beside it if it is not there; return its record.

    Args:
        bases: the folder of prepared bases.
        seed: of the base.
        folder: for the base.

    Raises:
        UnitError: a part is missing, or the language model refuses too much.
    """
    source = bases / f"seed-{seed}"
    needed = (
        source / PREPARED,
        source / WORLD_FILE,
        source / LANGUAGE_MODEL / "config.json",
        bases / VISION_TOWER / "config.json",
    )
    missing = [str(path) for path in needed if not path.is_file()]
    if missing:
        raise UnitError(
            f"--bases {bases}: expected the base of seed {seed}, found no {', '.join(missing)}."
            " Prepare it by `python -m regap_benchmarks.miniature.small_base --seed"
            f" {seed} --output {bases}`."
        )
    record: Dict[str, Any] = json.loads((source / PREPARED).read_text(encoding="utf-8"))
    refused = record.get("over_refusal")
    if not isinstance(refused, float) or refused >= LARGEST_OVER_REFUSAL:
        raise UnitError(
            f"{source / PREPARED}: expected over-refusal below {LARGEST_OVER_REFUSAL:.0%} of"
            f" harmless requests, found {refused}. Prepare the base again, with more steps."
        )
    folder.mkdir(parents=True)
    shutil.copytree(source / LANGUAGE_MODEL, folder / LANGUAGE_MODEL)
    shutil.copyfile(source / WORLD_FILE, folder / WORLD_FILE)
    tower = folder.parent / VISION_TOWER
    if not tower.is_dir():
        shutil.copytree(bases / VISION_TOWER, tower)
    return record


def sizes_of(language_model: Path, tower: Path) -> TinySizes:
    """Those sizes that a projector needs, from the checkpoints' own files."""
    hidden, vision = (
        int(json.loads((each / "config.json").read_text(encoding="utf-8"))["hidden_size"])
        for each in (language_model, tower)
    )
    return TinySizes(hidden=hidden, vision_hidden=vision)
