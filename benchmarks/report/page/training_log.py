"""What a training logged of the gap: `regap/...` and the loss in its trainer_state.json.

The file lies in the output folder of LLaVA's and ShareGPT4V's trainer, and in each checkpoint.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Tuple

STATE = "trainer_state.json"
PREFIX = "regap/"
_LOSS = "loss"


@dataclass(frozen=True)
class TrainingLog:
    """One training.

    Attributes:
        name: as given, or the folder's.
        curves: (optimizer step, value) by name: "loss" and all `regap/...`.
    """

    name: str
    curves: Dict[str, Tuple[Tuple[int, float], ...]]


def read_training(folder: Path, name: str = "") -> TrainingLog:
    """Read the log of a training from its folder.

    Args:
        folder: with trainer_state.json, or with checkpoints that have one, of which the last is
            read.
        name: for the legend; "" for the folder's.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another file, or one in which nothing of the gap was logged.
    """
    path = _state(folder)
    points: Dict[str, List[Tuple[int, float]]] = {}
    try:
        for entry in json.loads(path.read_text(encoding="utf-8"))["log_history"]:
            for key, value in entry.items():
                if key == _LOSS or key.startswith(PREFIX):
                    points.setdefault(key, []).append((int(entry["step"]), float(value)))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: expected the trainer's state with a log_history, found"
            f" {type(error).__name__}: {error}. Name the output folder of a training."
        ) from error
    if not any(key.startswith(PREFIX) for key in points):
        raise ValueError(
            f"{path}: expected values named {PREFIX}..., found {sorted(points)}. Train with"
            " --regap_weight; a weight of 0 logs the gap and adds nothing."
        )
    # A step without a finite number has no place on a curve.
    curves = {
        key: tuple((step, value) for step, value in found if math.isfinite(value))
        for key, found in points.items()
    }
    return TrainingLog(name or folder.resolve().name, curves)


def _state(folder: Path) -> Path:
    path = folder / STATE
    if path.is_file():
        return path
    steps = {
        int(found.parent.name.rpartition("-")[2]): found
        for found in folder.glob(f"checkpoint-*/{STATE}")
        if found.parent.name.rpartition("-")[2].isdigit()
    }
    if not steps:
        raise FileNotFoundError(
            f"{path}: expected the state that the trainer saves, found none there nor in"
            f" {folder}/checkpoint-*. Name the output folder of a training."
        )
    return steps[max(steps)]
