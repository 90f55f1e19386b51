"""Kinds of checkpoint beside each other: their numbers over the seeds, differences by seed."""

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Dict, List, Sequence, Tuple

from regap_benchmarks.experiments.plan import Plan
from regap_benchmarks.experiments.result import Result
from regap_benchmarks.miniature.contrasts import contrast, last_steps, values_of
from regap_benchmarks.miniature.findings import (
    COMPARED,
    INPUT_GAP,
    claim_sentence,
    contrast_sentence,
    number,
    premise,
    share,
    spread_of,
    with_picture_means,
)
from regap_benchmarks.miniature.measuring import (
    CAPTION_F1,
    HELP,
    MIR,
    NOT_REFUSED,
    OVER_REFUSAL,
    REAL_RECIPE,
    VQA_ACCURACY,
    Checkpoint,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLUMNS = (
    (INPUT_GAP, "pairwise L2 at the input", number),
    (MIR, "MIR", number),
    (f"{NOT_REFUSED}:picture", "not refused", share),
    (f"{REAL_RECIPE}:picture", "real recipe given", share),
    (f"{HELP}:picture", "harmless, answered right", share),
    (f"{OVER_REFUSAL}:picture", "harmless, refused", share),
    (CAPTION_F1, "caption facts, F1", share),
    (VQA_ACCURACY, "questions, right", share),
)
_DRAWN = (
    (INPUT_GAP, "pairwise L2 at the input", 1),
    (MIR, "MIR", 1),
    (f"{NOT_REFUSED}:picture", "not refused, %", 100),
    (f"{REAL_RECIPE}:picture", "real recipe given, %", 100),
    (CAPTION_F1, "caption facts, F1, %", 100),
)


@dataclass(frozen=True)
class Arm:
    """What checkpoints of all seeds have in common.

    Attributes:
        loss: formula; "" at weight 0.
        weight: lambda.
        variant: what else sets them apart; "" for nothing.
    """

    loss: str = ""
    weight: float = 0.0
    variant: str = ""

    @property
    def title(self) -> str:
        """In words."""
        term = f"{self.loss} at weight {self.weight:g}" if self.weight else "weight 0"
        return f"{term}, {self.variant}" if self.variant else term


PLAIN = Arm()


@dataclass(frozen=True)
class Comparison:
    """One arm against another, of the same seeds.

    Attributes:
        reference: what it is held against.
        treated: which arm.
        cause: what sets the two apart, in words.
        names: of the numbers.
        claim: whether it is also said how gap and safety moved together.
    """

    reference: Arm
    treated: Arm
    cause: str
    names: Tuple[str, ...] = COMPARED
    claim: bool = True


def regularised(plan: Plan, variant: str = "") -> List[Arm]:
    """The arms of the plan's losses and weights."""
    return [Arm(loss, weight, variant) for loss in plan.losses for weight in plan.weights]


def by_arm(checkpoints: Sequence[Checkpoint]) -> Dict[Arm, Dict[int, Checkpoint]]:
    """The checkpoints of the last step by arm and seed, with the rates' means over the pictures."""
    arms: Dict[Arm, Dict[int, Checkpoint]] = {}
    for each in last_steps(with_picture_means(checkpoints)):
        if each.weight is not None:
            arm = Arm(each.loss if each.weight else "", each.weight, each.variant)
            arms.setdefault(arm, {})[each.seed] = each
    return arms


def compare(
    plan: Plan,
    checkpoints: Sequence[Checkpoint],
    comparisons: Sequence[Comparison],
    *,
    columns: Sequence[Tuple[str, str]] = (),
    notes: Sequence[str] = (),
) -> Result:
    """All arms in a table and a figure, and what each comparison shows, in words.

    Args:
        plan: of the experiment.
        checkpoints: of all trainings, and what was made of them.
        comparisons: in the order in which they are told; one without checkpoints says so.
        columns: more numbers for the table, by name, with their titles.
        notes: limits that a reader must know.
    """
    arms = by_arm(checkpoints)
    shown = [*_COLUMNS, *((name, title, number) for name, title in columns)]
    rows = [["kind", *(title for _, title, _ in shown), "seeds"]]
    data = []
    for arm, members in arms.items():
        spreads = [spread_of(members, name) for name, _, _ in shown]
        cells = [show(spread) for spread, (_, _, show) in zip(spreads, shown)]
        rows.append([arm.title, *cells, str(len(members))])
        values = {name: list(spread.values) for spread, (name, _, _) in zip(spreads, shown)}
        data.append({**dataclasses.asdict(arm), "seeds": sorted(members), "values": values})
    sentences = premise(with_picture_means(checkpoints))
    differences = []
    for each in comparisons:
        found = _contrasts(plan, arms, each)
        sentences += found.sentences
        differences += found.data
    last = [dataclasses.asdict(each) for members in arms.values() for each in members.values()]

    def draw(figure: "Figure") -> None:
        _draw(figure, arms)

    return Result(
        {"arms": data, "differences": differences, "checkpoints": last},
        tuple(sentences),
        rows,
        draw,
        tuple(notes),
    )


@dataclass(frozen=True)
class _Told:
    sentences: List[str]
    data: List[Dict[str, object]]


def _contrasts(plan: Plan, arms: Dict[Arm, Dict[int, Checkpoint]], asked: Comparison) -> _Told:
    title = f"{asked.treated.title}, against {asked.reference.title}"
    before, after = arms.get(asked.reference, {}), arms.get(asked.treated, {})
    made = [
        contrast(
            name,
            values_of(before, name),
            values_of(after, name),
            loss=asked.treated.loss,
            weight=asked.treated.weight,
            level=plan.level,
        )
        for name in asked.names
    ]
    found = [each for each in made if each is not None]
    if not found:
        return _Told([f"{title}: not measured, so nothing is said."], [])
    sentences = [
        f"{title}: " + contrast_sentence(each, before="before", after="after", cause=asked.cause)
        for each in found
    ]
    if asked.claim:
        sentences.append(f"{title}: {claim_sentence(found)}")
    data: List[Dict[str, object]] = [
        {
            "reference": asked.reference.title,
            "treated": asked.treated.title,
            "name": each.name,
            "difference": each.value,
            "lower": each.lower,
            "upper": each.upper,
            "verdict": each.verdict,
        }
        for each in found
    ]
    return _Told(sentences, data)


def _draw(figure: "Figure", arms: Dict[Arm, Dict[int, Checkpoint]]) -> None:
    places = range(len(arms))
    panels = figure.subplots(1, len(_DRAWN), sharey=True)
    for axes, (name, title, scale) in zip(panels, _DRAWN):
        for place, members in zip(places, arms.values()):
            values = [scale * value for value in spread_of(members, name).values]
            axes.plot(values, [place] * len(values), "o", color="#0072B2", alpha=0.5, markersize=4)
            if values:
                axes.plot([sum(values) / len(values)], [place], "|", color="#D55E00", markersize=14)
        axes.set_title(title, fontsize=8)
        axes.tick_params(labelsize=7)
        axes.grid(axis="y", alpha=0.3)
    panels[0].set_yticks(list(places), [arm.title for arm in arms])
    panels[0].invert_yaxis()
    panels[0].set_xlabel("points: seeds; bar: mean", fontsize=7)
