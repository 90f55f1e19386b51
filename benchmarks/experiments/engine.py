"""Runs an experiment: the plan is recorded, the units run or are found, the result is written.

See `recipe.py` for what a recipe is.
"""

import dataclasses
import datetime
import json
import os
from pathlib import Path
from typing import Dict, List, Optional, Tuple

from regap_benchmarks.experiments import (
    defences,
    gap_and_safety,
    layers,
    stages,
    trained_models,
    weights,
)
from regap_benchmarks.experiments.plan import PAPER, SMALL, Plan, PlanError, read_plan
from regap_benchmarks.experiments.recipe import Derived, Recipe
from regap_benchmarks.experiments.result import Result, write_result
from regap_benchmarks.miniature.measuring import read_numbers
from regap_benchmarks.miniature.study import Study
from regap_benchmarks.miniature.units import Say, UnitError, run_units
from regap_benchmarks.miniature.upstream_training import versions, write_json
from regap_plugin.config import unknown_name

_RECORD = "plan.json"


class ExperimentError(Exception):
    """An experiment that cannot go on; the message says why and what to do."""


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
        layers.RECIPE,
        stages.RECIPE,
        defences.RECIPE,
        trained_models.RECIPE,
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
    bases: Optional[Path] = None,
    only_base: Optional[int] = None,
    device: str = "",
) -> Optional[Result]:
    """Run a plan, or go on with it, and write the result.

    Args:
        name: of the recipe.
        config: the plan's file; its hash is recorded before anything runs.
        output: folder of the record, the trainings and the measurements.
        results: folder of `result.json`, `figure.svg` and `result.md`.
        say: gets one line of progress at a time.
        study_folder: trainings of another experiment, to be used again: of the same settings, but
            for seeds, losses and weights.
        workers: subprocesses at once; 0 for one on each core, up to 8.
        bases: folder of prepared bases; needed at size "small".
        only_base: seed of the one base whose units are run, without a result in the end; a later
            call without it finds them finished, and merges.
        device: in place of the size's own, to try it.

    Returns:
        the result; None with `only_base`.

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
        if plan.size == PAPER:
            raise ValueError("size paper: expected its commands to be printed, not to be run.")
        if (bases is None) == (plan.size == SMALL):
            raise ValueError(
                f"size {plan.size}: expected --bases with size {SMALL}, and only then. See"
                " docs/experiments.md for how they are prepared."
            )
        if only_base is not None and only_base not in plan.seeds:
            raise ValueError(f"--only-base: expected one of {plan.seeds}, found {only_base}.")
        settings = plan.study(study_folder or output / "study", bases=bases, device=device)
        recipe.check(plan)
        trainings = recipe.trainings(plan)
    except (TypeError, ValueError) as error:
        raise PlanError(f"{config}: {error}") from error
    record(output, plan, digest)
    try:
        study = Study(settings, trainings)
        study.check_losses()
        study.claim(shared=study_folder is not None)
        derived = recipe.derived(plan, study, output)
        if only_base is not None:
            study, derived = _of_base(recipe, plan, study, output, only_base)
        units = [*study.units(), *(unit for each in derived for unit in each.units)]
        run_units(units, workers=workers or min(8, os.cpu_count() or 1), say=say)
        if only_base is not None:
            return None
        further = [read_numbers(each.numbers) for each in derived]
        result = recipe.analyse(plan, [*study.checkpoints(), *further])
    except (UnitError, ValueError) as error:
        raise ExperimentError(f"{error} The logs lie in {settings.output}.") from error
    write_result(results, plan, digest, result, versions())
    return result


def _of_base(
    recipe: Recipe, plan: Plan, study: Study, output: Path, seed: int
) -> Tuple[Study, List[Derived]]:
    """The part of one base: the same units under the same names."""
    part = Study(
        dataclasses.replace(study.settings, seeds=(seed,)),
        [each for each in study.more if each.seed == seed],
    )
    return part, recipe.derived(dataclasses.replace(plan, seeds=(seed,)), part, output)


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
