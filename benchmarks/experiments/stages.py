"""The term in pretraining, in fine-tuning, or in both: does the gap stay closed through stage 2?

Stage 2 trains projector and language model by upstream's own `train.py`, from the projector of
stage 1, with the flag or at weight 0.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, List, Sequence

from regap_benchmarks.experiments.arms import PLAIN, Arm, Comparison, compare, regularised
from regap_benchmarks.experiments.plan import Plan, PlanError
from regap_benchmarks.experiments.recipe import Derived, Recipe
from regap_benchmarks.experiments.result import Result
from regap_benchmarks.miniature.base import LANGUAGE_MODEL, VISION_TOWER
from regap_benchmarks.miniature.dataset import write_instructions
from regap_benchmarks.miniature.measuring import (
    NUMBERS_FILE,
    Checkpoint,
    is_measured,
    measure_checkpoint,
)
from regap_benchmarks.miniature.study import PlannedRun, Study, quiet, say_nothing
from regap_benchmarks.miniature.units import Processes, Say, Unit
from regap_benchmarks.miniature.upstream_training import (
    MINIMUM_STEPS,
    PROJECTOR,
    StageOne,
    UpstreamRun,
    training_script,
)

_SERIES = 600_000
_DATA = "stage-2"
NEITHER = "then fine-tuned"
PRETRAINING, FINE_TUNING, BOTH = (
    "in pretraining only, then fine-tuned",
    "in fine-tuning only",
    "in pretraining and fine-tuning",
)


@dataclass(frozen=True)
class _Stage:
    """Settings of stage 2, as the plan's options have them."""

    steps: int = 60
    rate: str = "2e-4"
    samples: int = 400


@dataclass(frozen=True)
class _Path:
    """One way through both stages: where the term is, of one seed."""

    seed: int
    loss: str
    weight: float
    variant: str

    @property
    def name(self) -> str:
        words = self.variant.replace(",", "").replace(" ", "-")
        term = f"-{self.loss}-weight-{self.weight:g}" if self.weight else ""
        return f"seed-{self.seed}{term}-{words}"

    @property
    def first(self) -> PlannedRun:
        """Of stage 1."""
        return PlannedRun(
            self.seed, self.loss, self.weight if self.variant in (PRETRAINING, BOTH) else 0.0
        )

    @property
    def flags(self) -> Sequence[str]:
        """Of stage 2; weight 0 measures and changes nothing."""
        weight = self.weight if self.variant in (FINE_TUNING, BOTH) else 0.0
        return ("--regap_weight", repr(weight), "--regap_loss", self.loss)


def check(plan: Plan) -> None:
    """Refuse settings of stage 2 that there are not.

    Raises:
        PlanError: names the option.
    """
    _stage(plan)


def derived(plan: Plan, study: Study, output: Path) -> List[Derived]:
    """Every way through both stages, by seed."""
    found: List[Derived] = []
    for seed in plan.seeds:
        ways = [_Path(seed, plan.losses[0], 0.0, NEITHER)]
        ways += [
            _Path(seed, arm.loss, arm.weight, variant)
            for arm in regularised(plan)
            for variant in (PRETRAINING, FINE_TUNING, BOTH)
        ]
        data = _data_unit(plan, study, seed)
        for place, way in enumerate(ways):
            found.append(_way(plan, study, output, way, [] if place else [data]))
    return found


def analyse(plan: Plan, checkpoints: Sequence[Checkpoint]) -> Result:
    """Each way against stage 2 without the term, and what stage 1 and stage 2 did by themselves."""
    fine_tuned = Arm(variant=NEITHER)
    comparisons = [Comparison(PLAIN, fine_tuned, "fine-tuning", claim=False)]
    for arm in regularised(plan):
        comparisons.append(Comparison(PLAIN, arm, "the term in pretraining"))
        for variant in (PRETRAINING, FINE_TUNING, BOTH):
            way = Arm(arm.loss, arm.weight, variant)
            comparisons.append(Comparison(fine_tuned, way, f"the term {variant.split(',')[0]}"))
    stage = _stage(plan)
    note = (
        f"Stage 2: {stage.steps} steps of {plan.batch} questions about pictures in the template"
        f' "plain", learning rate {stage.rate}; it has no forbidden request and no text alone.'
    )
    return compare(plan, checkpoints, comparisons, notes=[note])


def _stage(plan: Plan) -> _Stage:
    options: Any = plan.options.get("stage_two", {})
    known = _Stage.__dataclass_fields__
    if not isinstance(options, dict) or not set(options) <= set(known):
        raise PlanError(
            f"options: stage_two: expected an object of {', '.join(known)}, found {options!r}."
        )
    stage = _Stage(**options)
    numbers = type(stage.steps) is int and type(stage.samples) is int
    if not numbers or stage.steps < MINIMUM_STEPS or stage.samples < plan.batch:
        raise PlanError(
            f"options: stage_two: expected {MINIMUM_STEPS} steps or more and {plan.batch} samples"
            f" or more, found {stage.steps!r} and {stage.samples!r}."
        )
    if not isinstance(stage.rate, str):
        raise PlanError(f'options: stage_two: rate: expected text as "2e-4", found {stage.rate!r}.')
    return stage


def _data_unit(plan: Plan, study: Study, seed: int) -> Unit:
    samples = _stage(plan).samples
    folder = study.base_folder(seed) / f"{_DATA}-{samples}"
    marker = folder / "complete"

    def write(processes: Processes, say: Say) -> None:
        write_instructions(folder, count=samples, seed=_SERIES + seed)
        marker.touch()

    requires = (f"base of seed {seed}",)
    return Unit(f"stage 2 data of seed {seed}", requires, marker.is_file, write, here=True)


def _way(plan: Plan, study: Study, output: Path, way: _Path, before: Sequence[Unit]) -> Derived:
    stage, first = _stage(plan), study.run_of(way.first)
    folder, settings = output / "measured" / way.name, study.settings.measure
    base = study.base_folder(way.seed)
    run = UpstreamRun(
        study.folder,
        StageOne(
            name=f"stage-2-{way.name}",
            base=f"bases/seed-{way.seed}/{LANGUAGE_MODEL}",
            tower=str(study.folder / "bases" / VISION_TOWER),
            projector=f"runs/{first.stage.name}/{PROJECTOR}",
            data=f"bases/seed-{way.seed}/{_DATA}-{stage.samples}",
            seed=way.seed,
            steps=stage.steps,
            batch=plan.batch,
            flags=tuple(way.flags),
            whole=True,
            rate=stage.rate,
            device=settings.device,
        ),
        training_script(),
    )

    def is_done() -> bool:
        return run.is_done() and is_measured(folder, settings)

    def measure(processes: Processes, say: Say) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        with quiet(output / "logs" / f"measure-{way.name}.log"):
            measure_checkpoint(
                folder,
                checkpoint=run.folder,
                base=None,
                world=base,
                who=Checkpoint(
                    way.seed, way.loss, way.weight, plan.steps + stage.steps, variant=way.variant
                ),
                settings=settings,
                progress=say_nothing,
            )

    name = f"train stage 2 {way.name}"
    requires = (f"train {way.first.name}", f"stage 2 data of seed {way.seed}")
    units = (
        *before,
        Unit(name, requires, run.is_done, run.train),
        Unit(f"measure stage 2 {way.name}", (name,), is_done, measure, here=True),
    )
    return Derived(units, folder / NUMBERS_FILE)


RECIPE = Recipe(
    "stages",
    "the term in pretraining only, in fine-tuning only, and in both",
    analyse,
    check=check,
    derived=derived,
)
