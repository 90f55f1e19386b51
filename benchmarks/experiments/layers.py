"""The term at later layers of the LLM: is the input the right place? The paper says it is.

Each layer is a training of its own with `--regap_layer`; layer 0 and weight 0 are those of the
plan's losses and weights.
"""

from typing import List, Sequence, Tuple

from regap_benchmarks.experiments.arms import PLAIN, Arm, Comparison, compare, regularised
from regap_benchmarks.experiments.plan import Plan, PlanError
from regap_benchmarks.experiments.recipe import Recipe
from regap_benchmarks.experiments.result import Result
from regap_benchmarks.miniature.findings import INPUT_GAP
from regap_benchmarks.miniature.measuring import (
    CAPTION_F1,
    MIR,
    NOT_REFUSED,
    REAL_RECIPE,
    Checkpoint,
)
from regap_benchmarks.miniature.study import PlannedRun

_TOLD = (INPUT_GAP, MIR, f"{NOT_REFUSED}:picture", f"{REAL_RECIPE}:picture", CAPTION_F1)


def check(plan: Plan) -> None:
    """Refuse layers that there are not.

    Raises:
        PlanError: names the option.
    """
    _layers(plan)


def trainings(plan: Plan) -> Sequence[PlannedRun]:
    """Every loss and weight at every later layer."""
    return [
        PlannedRun(seed, loss, weight, layer)
        for seed in plan.seeds
        for loss in plan.losses
        for weight in plan.weights
        for layer in _layers(plan)
    ]


def analyse(plan: Plan, checkpoints: Sequence[Checkpoint]) -> Result:
    """Each layer against weight 0, and each later one against the input."""
    comparisons: List[Comparison] = []
    for arm in regularised(plan):
        comparisons.append(Comparison(PLAIN, arm, "the term at the input"))
        for layer in _layers(plan):
            later = Arm(arm.loss, arm.weight, f"layer {layer}")
            comparisons.append(Comparison(PLAIN, later, f"the term at layer {layer}"))
            comparisons.append(
                Comparison(arm, later, f"layer {layer} for the input", names=_TOLD, claim=False)
            )
    columns = [
        (f"gap:pairwise_l2:{layer}", f"pairwise L2 at layer {layer}") for layer in _layers(plan)
    ]
    note = "Layer k is the hidden states behind layer k; a term there reaches the projector only"
    note += " through the frozen layers before it. Alpha is calibrated at each layer."
    return compare(plan, checkpoints, comparisons, columns=columns, notes=[note])


def _layers(plan: Plan) -> Tuple[int, ...]:
    found = plan.options.get("layers")
    depth = plan.study_depth()
    fits = isinstance(found, list) and all(type(each) is int and each >= 0 for each in found)
    if not fits or not found or max(found) > depth or len(set(found)) < len(found):
        raise PlanError(
            f"options: layers: expected a list of layers from 1 to {depth}, each once, as the"
            f" language model of recipe {plan.recipe!r} has {depth}; found {found!r}."
        )
    return tuple(each for each in found if each)


RECIPE = Recipe(
    "layers",
    "the term at later layers of the LLM against the term at its input",
    analyse,
    check=check,
    trainings=trainings,
)
