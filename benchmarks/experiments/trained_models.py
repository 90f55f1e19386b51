"""What to do for a model that is trained already: an affine map folded into its projector.

The checkpoints of weight 0 are aligned without training, and measured like the others; those that
were regularised stand beside them.
"""

import shutil
from pathlib import Path
from typing import List, Sequence

from regap_benchmarks.alignment.affine_map import MATCHES
from regap_benchmarks.alignment.aligned_checkpoint import RECORD, AlignSettings, align_checkpoint
from regap_benchmarks.experiments.arms import PLAIN, Arm, Comparison, compare, regularised
from regap_benchmarks.experiments.plan import Plan, PlanError
from regap_benchmarks.experiments.recipe import Derived, Recipe
from regap_benchmarks.experiments.result import Result
from regap_benchmarks.gap.sources import source_named
from regap_benchmarks.miniature.base import LANGUAGE_MODEL
from regap_benchmarks.miniature.measuring import (
    NUMBERS_FILE,
    Checkpoint,
    drawn_pairs,
    is_measured,
    measure_checkpoint,
)
from regap_benchmarks.miniature.study import PlannedRun, Study, quiet, say_nothing
from regap_benchmarks.miniature.units import Processes, Say, Unit
from regap_benchmarks.runners.runner import ModelOptions
from regap_plugin.config import unknown_name

# The map is fitted to other pictures than those that the gap is measured on.
_SERIES = 450_000
_PAIRS = 200
_BATCH = 50


def check(plan: Plan) -> None:
    """Refuse an unknown match or number of pairs.

    Raises:
        PlanError: names the option.
    """
    matches, pairs = _matches(plan), _pairs(plan)
    if not isinstance(matches, list) or not matches:
        raise PlanError(f"options: matches: expected a list of {', '.join(MATCHES)}.")
    for match in matches:
        if match not in MATCHES:
            raise PlanError(f"options: matches: {unknown_name('match', match, MATCHES)}")
    if type(pairs) is not int or pairs < 2:
        raise PlanError(f"options: align_pairs: expected 2 or more, found {pairs!r}.")


def derived(plan: Plan, study: Study, output: Path) -> List[Derived]:
    """Of each checkpoint of weight 0 an aligned copy for each match."""
    plain = [each for each in study.planned() if each.weight == 0 and not each.variant]
    return [
        _aligned(plan, study, output, each, match) for each in plain for match in _matches(plan)
    ]


def analyse(plan: Plan, checkpoints: Sequence[Checkpoint]) -> Result:
    """Aligned and regularised checkpoints, each against weight 0."""
    comparisons = [
        Comparison(PLAIN, Arm(variant=_variant(match)), "the map") for match in _matches(plan)
    ]
    comparisons += [Comparison(PLAIN, arm, "the term") for arm in regularised(plan)]
    note = (
        f"The map is fitted to {_pairs(plan)} pairs of pictures and captions that nothing else"
        " uses; the LLM is not trained with it."
    )
    return compare(plan, checkpoints, comparisons, notes=[note])


def _aligned(plan: Plan, study: Study, output: Path, planned: PlannedRun, match: str) -> Derived:
    name = f"{planned.name}-{match.replace('+', '-and-')}"
    checkpoint, measured = output / "aligned" / name, output / "measured" / name
    settings, run = study.settings.measure, study.run_of(planned)
    base = study.base_folder(planned.seed)

    def is_done() -> bool:
        return run.is_done() and (checkpoint / RECORD).is_file() and is_measured(measured, settings)

    def make(processes: Processes, say: Say) -> None:
        # What was made of an earlier training under the same name is stale.
        shutil.rmtree(measured, ignore_errors=True)
        shutil.rmtree(checkpoint, ignore_errors=True)
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        options = ModelOptions(
            path=str(run.folder),
            base=str(base / LANGUAGE_MODEL),
            dtype="float32",
            conversation="plain",
            device=settings.device,
        )
        with quiet(output / "logs" / f"align-{name}.log"):
            record = align_checkpoint(
                source_named("llava"),
                options,
                lambda: drawn_pairs(_pairs(plan), _SERIES),
                AlignSettings(match=match, batch_size=_BATCH),
                output=checkpoint,
            )
            before, after = record["frechet_distance_at_input"].values()
            say(f"Frechet distance at the input {before:.3g} before, {after:.3g} after")
            measure_checkpoint(
                measured,
                checkpoint=checkpoint,
                base=base / LANGUAGE_MODEL,
                world=base,
                who=Checkpoint(
                    planned.seed, planned.loss, 0.0, plan.steps, variant=_variant(match)
                ),
                settings=settings,
                progress=say_nothing,
            )

    unit = Unit(f"align {name}", (f"train {planned.name}",), is_done, make, here=True)
    return Derived((unit,), measured / NUMBERS_FILE)


def _variant(match: str) -> str:
    return f"{match} matched"


def _matches(plan: Plan) -> List[str]:
    found: List[str] = plan.options.get("matches", list(MATCHES))
    return found


def _pairs(plan: Plan) -> int:
    found: int = plan.options.get("align_pairs", _PAIRS)
    return found


RECIPE = Recipe(
    "trained-models",
    "image tokens matched to text tokens by a map folded into a trained projector",
    analyse,
    check=check,
    derived=derived,
)
