"""Defences at inference, with and without the term: does either do what the other does not?

The checkpoints of the plan's study are asked the same requests once more behind each defence.
Gap and captions are the checkpoint's own: a defence changes answers to requests, and is measured by
them.
"""

import dataclasses
import shutil
from pathlib import Path
from typing import List, Sequence, Tuple

from regap_benchmarks.experiments.arms import (
    PLAIN,
    Arm,
    Comparison,
    by_arm,
    compare,
    regularised,
)
from regap_benchmarks.experiments.plan import Plan, PlanError
from regap_benchmarks.experiments.recipe import Derived, Recipe
from regap_benchmarks.experiments.result import Result
from regap_benchmarks.miniature.base import LANGUAGE_MODEL
from regap_benchmarks.miniature.measuring import (
    HELP,
    NOT_REFUSED,
    NUMBERS_FILE,
    OVER_REFUSAL,
    REAL_RECIPE,
    Checkpoint,
    ask_requests,
    defence_kinds,
    is_measured,
)
from regap_benchmarks.miniature.study import PlannedRun, Study, quiet, say_nothing
from regap_benchmarks.miniature.units import Processes, Say, Unit
from regap_benchmarks.miniature.upstream_training import write_json
from regap_benchmarks.plugins import PluginError
from regap_benchmarks.runners.runner import ModelOptions

_TOLD = tuple(f"{rate}:picture" for rate in (NOT_REFUSED, REAL_RECIPE, HELP, OVER_REFUSAL))


def check(plan: Plan) -> None:
    """Refuse a defence that there is not, before anything is trained.

    Raises:
        PlanError: names the option.
    """
    names = plan.options.get("defences")
    if not isinstance(names, list) or not names or not all(isinstance(each, str) for each in names):
        raise PlanError(f"options: defences: expected a list of names, found {names!r}.")
    try:
        defence_kinds(names)
    except (ValueError, PluginError) as error:
        raise PlanError(f"options: defences: {error}") from error


def derived(plan: Plan, study: Study, output: Path) -> List[Derived]:
    """The last checkpoint of every training behind every defence."""
    return [
        _defended(study, output, planned, name)
        for planned in study.planned()
        if planned.weight is not None
        for name in plan.options["defences"]
    ]


def analyse(plan: Plan, checkpoints: Sequence[Checkpoint]) -> Result:
    """Each defence at weight 0, and before each regularised model; then both against neither."""
    comparisons: List[Comparison] = []
    for name in plan.options["defences"]:
        variant = _variant(name)
        bare = Arm(variant=variant)
        comparisons.append(Comparison(PLAIN, bare, name, _TOLD, claim=False))
        for arm in regularised(plan):
            both = dataclasses.replace(arm, variant=variant)
            comparisons.append(Comparison(arm, both, name, _TOLD, claim=False))
            comparisons.append(Comparison(bare, both, "the term", _TOLD, claim=False))
    for arm in regularised(plan):
        comparisons.append(Comparison(PLAIN, arm, "the term"))
    notes = ["Behind a defence only the requests are asked; gap and utility stand once, without."]
    if plan.size == "tiny":
        notes.append(
            "A language model of the miniature knows the words of its world alone: a defence that"
            " speaks to it in others, or asks it to judge, is no fair trial at this size."
        )
    missing = [arm.title for arm in regularised(plan) if arm not in by_arm(checkpoints)]
    if missing:
        notes.append(f"Not measured: {', '.join(missing)}.")
    return compare(plan, checkpoints, comparisons, notes=notes)


def _defended(study: Study, output: Path, planned: PlannedRun, name: str) -> Derived:
    title = f"{planned.name}-{name}"
    folder = output / "measured" / title
    settings, run = study.settings.measure, study.run_of(planned)

    def is_done() -> bool:
        return run.is_done() and is_measured(folder, settings)

    def ask(processes: Processes, say: Say) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        base = study.base_folder(planned.seed)
        options = ModelOptions(
            path=str(run.folder),
            base=str(base / LANGUAGE_MODEL),
            dtype="float32",
            conversation="plain",
            device=settings.device,
        )
        with quiet(output / "logs" / f"defence-{title}.log"):
            values = ask_requests(
                folder,
                options,
                base,
                settings.conditions,
                say_nothing,
                task=settings.task,
                defences=[name],
            )
        found = Checkpoint(
            planned.seed,
            planned.loss,
            planned.weight,
            study.settings.steps,
            values,
            _variant(name),
        )
        content = {**dataclasses.asdict(found), "settings": settings.describe()}
        write_json(folder / NUMBERS_FILE, content)

    requires: Tuple[str, ...] = (f"train {planned.name}",)
    unit = Unit(f"ask {planned.name} behind {name}", requires, is_done, ask, here=True)
    return Derived((unit,), folder / NUMBERS_FILE)


def _variant(name: str) -> str:
    return f"behind {name}"


RECIPE = Recipe(
    "defences",
    "each defence with and without the term",
    analyse,
    check=check,
    derived=derived,
)
