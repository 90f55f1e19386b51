"""Runs an experiment: the plan is recorded, the units run or are found, the result is written.

A recipe is a name, what it asks, and a function from the plan and the checkpoints' numbers to a
result. A recipe that trains in another way brings its own units.
"""

import datetime
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, List, Optional, Sequence

from regap_benchmarks.experiments import gap_and_safety, weights
from regap_benchmarks.experiments.plan import Plan, PlanError, read_plan
from regap_benchmarks.experiments.result import Result, write_result
from regap_benchmarks.miniature.measuring import Checkpoint
from regap_benchmarks.miniature.study import Study
from regap_benchmarks.miniature.units import Say, Unit, UnitError, run_units
from regap_benchmarks.miniature.upstream_training import versions, write_json
from regap_plugin.config import unknown_name

_RECORD = "plan.json"


class ExperimentError(Exception):
    """An experiment that cannot go on; the message says why and what to do."""


def _units_of_study(plan: Plan, study: Study) -> List[Unit]:
    return study.units()


@dataclass(frozen=True)
class Recipe:
    """A question, as code.

    Attributes:
        name: as in `regap-bench experiment NAME`.
        summary: one line.
        analyse: from the plan and all checkpoints' numbers to the result.
        units: what is run, over the plan's study.
    """

    name: str
    summary: str
    analyse: Callable[[Plan, Sequence[Checkpoint]], Result]
    units: Callable[[Plan, Study], List[Unit]] = _units_of_study


RECIPES: Dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            "gap-and-safety",
            "the correlation of MIR and each distance with the unsafe rates over checkpoints",
            gap_and_safety.analyse,
        ),
        Recipe(
            "weights",
            "the sweep of lambda: gap, safety and utility, and their front",
            weights.analyse,
        ),
        Recipe(
            "losses",
            "formulas of the term beside each other: gap, safety and utility, and their front",
            weights.analyse,
        ),
    )
}


def recipe_named(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        PlanError: there is none; names the nearest.
    """
    if name not in RECIPES:
        raise PlanError(unknown_name("experiment", name, RECIPES))
    return RECIPES[name]


def run_experiment(
    name: str,
    config: Path,
    *,
    output: Path,
    results: Path,
    say: Say,
    study_folder: Optional[Path] = None,
    workers: int = 0,
) -> Result:
    """Run a plan, or go on with it, and write the result.

    Args:
        name: of the recipe.
        config: the plan's file; its hash is recorded before anything runs.
        output: folder of the record, the trainings and the measurements.
        results: folder of `result.json`, `figure.svg` and `result.md`.
        say: gets one line of progress at a time.
        study_folder: trainings of another experiment with the same settings, to be used again.
        workers: subprocesses at once; 0 for one on each core, up to 8.

    Raises:
        PlanError: a plan that cannot be used, or another one than the folder's.
        ExperimentError: a unit that failed.
        KeyboardInterrupt: passed on, after the subprocesses have ended.
    """
    recipe = recipe_named(name)
    plan, digest = read_plan(config)
    if plan.experiment != name:
        raise PlanError(
            f"{config}: expected a plan of {name!r}, found one of {plan.experiment!r}. Name that"
            " experiment, or another plan."
        )
    try:
        settings = plan.study(study_folder or output / "study")
    except (TypeError, ValueError) as error:
        raise PlanError(f"{config}: {error}") from error
    record(output, plan, digest)
    try:
        study = Study(settings)
        study.check_losses()
        study.claim()
        run_units(
            recipe.units(plan, study), workers=workers or min(8, os.cpu_count() or 1), say=say
        )
        result = recipe.analyse(plan, study.checkpoints())
    except (UnitError, ValueError) as error:
        raise ExperimentError(f"{error} The logs lie in {settings.output}.") from error
    write_result(results, plan, digest, result, versions())
    return result


def record(output: Path, plan: Plan, digest: str) -> None:
    """Record a plan before it runs; one that is recorded is not replaced.

    Raises:
        PlanError: the folder holds another plan.
    """
    path = output / _RECORD
    if path.is_file():
        found = json.loads(path.read_text(encoding="utf-8"))
        if found.get("sha256") != digest:
            raise PlanError(
                f"{path}: expected the plan with SHA-256 {digest}, found {found.get('sha256')},"
                f" recorded on {found.get('recorded')}. A plan is not changed once it runs: choose"
                " another --output."
            )
        return
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    write_json(path, {"sha256": digest, "recorded": now, "plan": plan.describe()})
