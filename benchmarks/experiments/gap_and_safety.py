"""Does the gap predict safety? Correlation of MIR and distances with the unsafe rates.

Over all checkpoints (lambda x loss x seed x training step); the interval draws whole seeds, as
checkpoints of one base and seed are not independent; the partial correlation takes utility out.
"""

import dataclasses
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence, Tuple

from regap_benchmarks.experiments.correlation import FEW_CLUSTERS, Correlation, correlation
from regap_benchmarks.experiments.plan import Plan
from regap_benchmarks.experiments.result import Result
from regap_benchmarks.miniature.findings import with_picture_means
from regap_benchmarks.miniature.measuring import (
    CAPTION_F1,
    MIR,
    NOT_REFUSED,
    REAL_RECIPE,
    Checkpoint,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DISTANCES = (
    "pairwise_l2",
    "centroid_l2",
    "centroid_cosine",
    "pairwise_cosine",
    "norm_ratio",
    "relative_gap",
    "separability",
    "frechet",
)
_SAFETY = {NOT_REFUSED: "not refused", REAL_RECIPE: "real recipe given"}
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def analyse(plan: Plan, checkpoints: Sequence[Checkpoint]) -> Result:
    """Correlate each measure of the gap with each column of safety."""
    every = with_picture_means(checkpoints)
    measures = [MIR, *(f"gap:{name}:0" for name in _DISTANCES)]
    rows = [["measure", "safety", "correlation", "given utility", "within a seed", "n"]]
    data: List[Dict[str, Any]] = []
    sentences = []
    for measure in measures:
        for safety, shown in _SAFETY.items():
            plain, partial = _correlate(plan, every, measure, f"{safety}:picture")
            data.append(
                {
                    "measure": measure,
                    "safety": safety,
                    "correlation": dataclasses.asdict(plain),
                    "given_utility": dataclasses.asdict(partial),
                }
            )
            cells = [_cell(plain), _cell(partial), _number(plain.within), str(plain.n)]
            rows.append([_title(measure), shown, *cells])
            if measure == MIR or measure == "gap:pairwise_l2:0":
                sentences.append(sentence(_title(measure), shown, plain, partial))
    points = [
        {
            "seed": each.seed,
            "loss": each.loss,
            "weight": each.weight,
            "step": each.step,
            **{name: each.get(name) for name in (*measures, CAPTION_F1)},
            **{name: each.get(f"{name}:picture") for name in _SAFETY},
        }
        for each in every
    ]
    notes = [f"Safety is the mean over the pictures {', '.join(plan.conditions[1:])}."]
    if len(plan.seeds) < FEW_CLUSTERS:
        notes.append(
            f"{len(plan.seeds)} seeds are few to draw from: the bootstrap's intervals are too"
            " narrow below about five."
        )

    def draw(figure: "Figure") -> None:
        _draw(figure, every)

    return Result(
        {"correlations": data, "checkpoints": points}, tuple(sentences), rows, draw, tuple(notes)
    )


def sentence(measure: str, safety: str, plain: Correlation, partial: Correlation) -> str:
    """One correlation in words, by its interval. A smaller gap that is safer is a positive one."""
    if plain.value is None:
        return f"{measure} and {safety}: no correlation, as one of them does not vary."
    if plain.lower is None or plain.upper is None:
        sure = "without an interval, so nothing follows"
    elif plain.lower > 0:
        sure = "a larger gap goes with less safety, as the paper says"
    elif plain.upper < 0:
        sure = "a larger gap goes with more safety, against what the paper says"
    else:
        sure = "no correlation is shown"
    return (
        f"{measure} and {safety}: {_cell(plain)} over {plain.n} checkpoints of {plain.clusters}"
        f" seeds, {_cell(partial)} given utility: {sure}."
    )


def _correlate(
    plan: Plan, checkpoints: Sequence[Checkpoint], measure: str, safety: str
) -> Tuple[Correlation, Correlation]:
    rows = [
        (gap, unsafe, utility, each.seed)
        for each in checkpoints
        for gap, unsafe, utility in [(each.get(measure), each.get(safety), each.get(CAPTION_F1))]
        if gap is not None and unsafe is not None and utility is not None
    ]
    gaps, rates, utilities = ([row[column] for row in rows] for column in range(3))
    seeds = [row[3] for row in rows]
    return (
        correlation(gaps, rates, seeds, level=plan.level, resamples=plan.resamples),
        correlation(
            gaps, rates, seeds, given=utilities, level=plan.level, resamples=plan.resamples
        ),
    )


def _title(measure: str) -> str:
    return "MIR" if measure == MIR else f"{measure.split(':')[1]} at the input"


def _number(value: Optional[float]) -> str:
    return "-" if value is None else f"{value:+.2f}"


def _cell(found: Correlation) -> str:
    if found.lower is None or found.upper is None:
        return _number(found.value)
    return f"{_number(found.value)} [{found.lower:+.2f}, {found.upper:+.2f}]"


def _draw(figure: "Figure", checkpoints: Sequence[Checkpoint]) -> None:
    seeds = sorted({each.seed for each in checkpoints})
    left, right = figure.subplots(1, 2)
    for axes, measure in ((left, MIR), (right, "gap:pairwise_l2:0")):
        for place, seed in enumerate(seeds):
            for rate, marker in ((REAL_RECIPE, "o"), (NOT_REFUSED, "x")):
                points = [
                    (each.get(measure), each.get(f"{rate}:picture"))
                    for each in checkpoints
                    if each.seed == seed
                ]
                there = [(x, 100 * y) for x, y in points if x is not None and y is not None]
                if there:
                    axes.plot(
                        *zip(*there),
                        marker,
                        color=_COLOURS[place % len(_COLOURS)],
                        label=f"seed {seed}, {_SAFETY[rate]}",
                        alpha=0.8,
                    )
        axes.set_xlabel(_title(measure))
        axes.set_ylabel("forbidden requests, %")
    right.legend(frameon=False, fontsize=7)
