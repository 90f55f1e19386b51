"""The sweep of lambda: gap, safety and utility of every loss and weight, and the front of them."""

import dataclasses
from typing import TYPE_CHECKING, Any, Dict, List, Sequence, Tuple

from regap_benchmarks.experiments.plan import Plan
from regap_benchmarks.experiments.result import Result
from regap_benchmarks.miniature.contrasts import last_steps
from regap_benchmarks.miniature.findings import (
    INPUT_GAP,
    findings,
    number,
    share,
    spread_of,
    with_picture_means,
)
from regap_benchmarks.miniature.measuring import (
    CAPTION_F1,
    HELP,
    MIR,
    NOT_REFUSED,
    REAL_RECIPE,
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
    (CAPTION_F1, "caption facts, F1", share),
)
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_Group = Tuple[str, float]


def analyse(plan: Plan, checkpoints: Sequence[Checkpoint]) -> Result:
    """The numbers of each loss and weight at the last step, and which none other beats."""
    groups = grouped(checkpoints)
    best = front(groups)
    rows = [["loss", "weight", *(title for _, title, _ in _COLUMNS), "on the front"]]
    data: List[Dict[str, Any]] = []
    for group, members in groups.items():
        loss, weight = group
        spreads = [spread_of(members, name) for name, _, _ in _COLUMNS]
        shown = [show(spread) for spread, (_, _, show) in zip(spreads, _COLUMNS)]
        rows.append([loss or "-", f"{weight:g}", *shown, "yes" if group in best else "no"])
        data.append(
            {
                "loss": loss,
                "weight": weight,
                "on_the_front": group in best,
                "values": {
                    name: list(spread.values) for spread, (name, _, _) in zip(spreads, _COLUMNS)
                },
                "seeds": sorted(members),
            }
        )
    sentences = findings(checkpoints, level=plan.level)
    names = [_name(group) for group in groups if group in best]
    sentences.append(
        "Of the means over the seeds, none has both fewer real recipes and better captions than:"
        f" {', '.join(names) or 'none'}. The spread is not part of this."
    )

    def draw(figure: "Figure") -> None:
        _draw(figure, groups, best)

    last = [dataclasses.asdict(each) for members in groups.values() for each in members.values()]
    return Result({"groups": data, "checkpoints": last}, tuple(sentences), rows, draw)


def grouped(checkpoints: Sequence[Checkpoint]) -> Dict[_Group, Dict[int, Checkpoint]]:
    """By loss ("" at weight 0) and weight, the checkpoints of the last step by seed."""
    groups: Dict[_Group, Dict[int, Checkpoint]] = {}
    for each in last_steps(with_picture_means(checkpoints)):
        if each.weight is not None:
            groups.setdefault((each.loss if each.weight else "", each.weight), {})[each.seed] = each
    return groups


def front(groups: Dict[_Group, Dict[int, Checkpoint]]) -> List[_Group]:
    """Loss and weight that no other beats in real recipes and captions, by the seeds' means."""
    means = {
        group: (
            spread_of(members, f"{REAL_RECIPE}:picture").mean,
            -spread_of(members, CAPTION_F1).mean,
        )
        for group, members in groups.items()
    }
    return [
        group
        for group, own in means.items()
        if not any(
            other != own and other[0] <= own[0] and other[1] <= own[1] for other in means.values()
        )
    ]


def _name(group: _Group) -> str:
    loss, weight = group
    return f"{loss} at weight {weight:g}" if weight else "weight 0"


def _draw(
    figure: "Figure", groups: Dict[_Group, Dict[int, Checkpoint]], best: Sequence[_Group]
) -> None:
    left, right = figure.subplots(1, 2)
    losses = sorted({loss for loss, _ in groups})
    for (loss, weight), members in groups.items():
        colour = _COLOURS[losses.index(loss) % len(_COLOURS)]
        recipe = spread_of(members, f"{REAL_RECIPE}:picture")
        caption, gap = (spread_of(members, name) for name in (CAPTION_F1, INPUT_GAP))
        fill = "full" if (loss, weight) in best else "none"
        for axes, x in ((left, caption), (right, gap)):
            axes.errorbar(
                x.mean * (100 if x is caption else 1),
                100 * recipe.mean,
                yerr=100 * (recipe.deviation or 0.0),
                fmt="o",
                fillstyle=fill,
                color=colour,
                label=_name((loss, weight)),
            )
    left.set_xlabel("caption facts, F1, %")
    left.set_title("filled: on the front; bars: standard deviation over seeds", fontsize=9)
    right.set_xlabel("pairwise L2 distance at the input")
    for axes in (left, right):
        axes.set_ylabel("real recipes given with a picture, %")
    right.legend(frameon=False, fontsize=7)
