"""What an experiment is made of: what it trains, what it makes of that, what it computes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Callable, List, Sequence, Tuple

from regap_benchmarks.experiments.plan import Plan
from regap_benchmarks.experiments.result import Result
from regap_benchmarks.miniature.measuring import Checkpoint
from regap_benchmarks.miniature.study import PlannedRun, Study
from regap_benchmarks.miniature.units import Unit


@dataclass(frozen=True)
class Derived:
    """A checkpoint that is made of a study's trainings, or measured in another way.

    Attributes:
        units: which make and measure it.
        numbers: the file that the last of them writes; see `read_numbers`.
    """

    units: Tuple[Unit, ...]
    numbers: Path


def _nothing_to_check(plan: Plan) -> None:
    return None


def _no_trainings(plan: Plan) -> Sequence[PlannedRun]:
    return ()


def _nothing_derived(plan: Plan, study: Study, output: Path) -> List[Derived]:
    return []


@dataclass(frozen=True)
class Recipe:
    """A question, as code.

    Attributes:
        name: as in `regap-bench experiment NAME`.
        summary: one line.
        analyse: from the plan and all checkpoints' numbers to the result.
        check: raises `PlanError` where the plan's options, or this installation, will not do.
        trainings: beside those of the plan's losses and weights.
        derived: what is made of the trainings, in a folder.
    """

    name: str
    summary: str
    analyse: Callable[[Plan, Sequence[Checkpoint]], Result]
    check: Callable[[Plan], None] = _nothing_to_check
    trainings: Callable[[Plan], Sequence[PlannedRun]] = _no_trainings
    derived: Callable[[Plan, Study, Path], List[Derived]] = _nothing_derived
