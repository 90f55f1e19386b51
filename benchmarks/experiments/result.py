"""What an experiment found: data, sentences that follow from it, tables, and a figure."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, List, Mapping, Sequence, Tuple

from regap_benchmarks.experiments.plan import Plan
from regap_benchmarks.miniature.report import markdown_table
from regap_benchmarks.miniature.upstream_training import write_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Result:
    """What a recipe makes of its checkpoints.

    Attributes:
        data: all numbers, as JSON.
        sentences: what they show, made from them.
        rows: a table, the header first.
        draw: draws the figure onto an empty one.
        notes: limits that a reader must know.
    """

    data: Mapping[str, Any]
    sentences: Tuple[str, ...]
    rows: Sequence[Sequence[str]]
    draw: "Callable[[Figure], None]"
    notes: Tuple[str, ...] = field(default=())


def write_result(
    folder: Path, plan: Plan, digest: str, result: Result, environment: Mapping[str, Any]
) -> List[Path]:
    """Write `result.json`, `figure.svg` and `result.md`.

    Args:
        folder: made if it is missing.
        plan: that was fixed beforehand.
        digest: SHA-256 of its file.
        result: of the recipe.
        environment: versions.
    """
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    write_json(
        folder / "result.json",
        {
            "plan_sha256": digest,
            "plan": plan.describe(),
            "environment": dict(environment),
            "findings": list(result.sentences),
            "notes": list(result.notes),
            "data": result.data,
        },
    )
    figure = Figure(figsize=(10.0, 4.2), layout="constrained")
    FigureCanvasSVG(figure)
    result.draw(figure)
    figure.savefig(folder / "figure.svg")
    (folder / "result.md").write_text(_page(plan, digest, result), encoding="utf-8")
    return [folder / name for name in ("result.json", "figure.svg", "result.md")]


def _page(plan: Plan, digest: str, result: Result) -> str:
    parts = [
        f"# {plan.experiment}, size {plan.size}",
        plan.question,
        f"Plan fixed before it ran, SHA-256 `{digest}`: seeds {json.dumps(plan.seeds)}, losses"
        f" {', '.join(plan.losses)}, weights 0 and {', '.join(f'{w:g}' for w in plan.weights)},"
        f" {plan.steps} steps of {plan.batch} pictures.",
        "## What it shows",
        "\n".join(f"- {sentence}" for sentence in result.sentences),
        "![Figure](figure.svg)",
        "## Numbers",
        markdown_table(result.rows),
        "## Limits",
        "\n".join(f"- {note}" for note in (*_LIMITS[plan.size], *result.notes)),
        "## Tests, as planned",
        "\n".join(f"- {test}" for test in plan.tests),
    ]
    return "\n\n".join(parts) + "\n"


_LIMITS = {
    "tiny": (
        "The miniature: language models of less than a million weights, a made-up world. What holds"
        " here need not hold for a large model.",
    ),
    "small": (
        "Language models of 135 million weights, a vision tower that learnt from a pretrained"
        " network on drawings, and a made-up world. What holds here need not hold for a large"
        " model.",
    ),
}
