"""What upstream's trainer logged, step by step, and whether two runs are the same.

Standard library only; every number comes from the runs' own `trainer_state.json`.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Mapping, Tuple

History = Tuple[Mapping[str, float], ...]

LOSS = "loss"
GAP = "regap/gap"
ALPHA = "regap/alpha"
LM_LOSS = "regap/lm_loss"


@dataclass(frozen=True)
class Identity:
    """Whether two runs are the same: losses as logged, and the trained projector's weights."""

    steps: int
    largest_loss_difference: float
    largest_weight_difference: float

    @property
    def same_losses(self) -> bool:
        """True where no step's logged losses differ."""
        return self.largest_loss_difference == 0.0

    @property
    def same_weights(self) -> bool:
        """True where no trained weight differs."""
        return self.largest_weight_difference == 0.0


def read_history(trainer_state: Path) -> History:
    """Read the per-step values from a `trainer_state.json`, in the order of the steps.

    Raises:
        ValueError: the file is not one of the trainer's, or holds no step with a loss.
    """
    try:
        state = json.loads(trainer_state.read_text(encoding="utf-8"))
        entries = [entry for entry in state["log_history"] if LOSS in entry]
        steps = [{key: float(value) for key, value in entry.items()} for entry in entries]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{trainer_state}: expected the trainer's state with a log_history, found"
            f" {type(error).__name__}: {error}. Delete the run's folder and start again."
        ) from error
    if not steps:
        raise ValueError(
            f"{trainer_state}: expected at least one logged step with a loss, found none. Train"
            " with --logging_steps 1."
        )
    return tuple(steps)


def compare_runs(first: History, second: History, *, largest_weight_difference: float) -> Identity:
    """Compare the losses of two runs step by step.

    Args:
        first: of one run.
        second: of the other.
        largest_weight_difference: between the trained projectors, absolute.

    Returns:
        the differences; a loss that is not a number in either run counts as infinitely different.

    Raises:
        ValueError: the runs logged different steps.
    """
    steps = [[int(entry["step"]) for entry in history] for history in (first, second)]
    if steps[0] != steps[1]:
        raise ValueError(
            f"log_history: expected the same steps in both runs, found {len(steps[0])} up to"
            f" {steps[0][-1]} and {len(steps[1])} up to {steps[1][-1]}. Start the demo anew with"
            " --overwrite."
        )
    largest = 0.0
    for one, other in zip(first, second):
        difference = abs(one[LOSS] - other[LOSS])
        largest = max(largest, difference if math.isfinite(difference) else math.inf)
    return Identity(len(first), largest, largest_weight_difference)


def gap_curve(history: History) -> Tuple[Tuple[int, float], ...]:
    """Step and gap, of the steps that logged one."""
    return tuple((int(entry["step"]), entry[GAP]) for entry in history if GAP in entry)


def alphas(history: History) -> Tuple[float, ...]:
    """Every alpha that was logged, in order: one number again and again once it is frozen."""
    return tuple(entry[ALPHA] for entry in history if ALPHA in entry)
