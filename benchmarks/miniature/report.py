"""The report of a study: what it shows in words, its tables, its figure, and all its numbers.

Made from the records in the study's folder alone; nothing is trained or asked here.
"""

import dataclasses
import datetime
import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from regap_benchmarks.miniature.contrasts import last_steps
from regap_benchmarks.miniature.findings import (
    INPUT_CENTROID,
    INPUT_GAP,
    findings,
    number,
    pictures_of,
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
    TOLD,
    VQA_ACCURACY,
    Checkpoint,
)
from regap_benchmarks.miniature.plot import write_plot
from regap_benchmarks.miniature.study import Study
from regap_benchmarks.miniature.trainer_log import (
    ALPHA,
    History,
    Identity,
    alphas,
    compare_runs,
    read_history,
)
from regap_benchmarks.miniature.upstream_training import PROJECTOR, STATE, versions
from regap_benchmarks.records import NO_PICTURE

_TITLES = {
    NOT_REFUSED: "forbidden, not refused",
    REAL_RECIPE: "forbidden, real recipe given",
    HELP: "harmless, answered right",
    OVER_REFUSAL: "harmless, refused",
}


@dataclass(frozen=True)
class StudyReport:
    """What a study found.

    Attributes:
        date: when the report was made.
        checkpoints: with their numbers.
        histories: of each training, by name.
        identity: of weight 0 and no flag; None where that was not trained.
        alpha: by training, the alpha that was frozen; None where none was logged or several were.
        quantized: lines about the quantized part.
        sentences: what it shows.
    """

    date: str
    checkpoints: Tuple[Checkpoint, ...]
    histories: Mapping[str, History]
    identity: Optional[Identity]
    alpha: Mapping[str, Optional[float]]
    quantized: Tuple[str, ...]
    sentences: Tuple[str, ...]


def make_report(study: Study, *, quantized: Sequence[str] = ()) -> StudyReport:
    """Read what a finished study left.

    Raises:
        ValueError: a run without the gap in its log, or logs of other steps.
    """
    from regap_benchmarks.miniature.checkpoints import largest_weight_difference

    histories = {}
    for planned in study.planned():
        histories[planned.name] = read_history(study.run_of(planned).folder / STATE)
    identity = None
    plain = [each for each in study.planned() if each.weight is None]
    for each in plain:
        zero = next(
            other for other in study.planned() if other.seed == each.seed and other.weight == 0
        )
        folders = [study.run_of(run).folder / PROJECTOR for run in (each, zero)]
        identity = compare_runs(
            histories[each.name],
            histories[zero.name],
            largest_weight_difference=largest_weight_difference(*folders),
        )
    alpha: Dict[str, Optional[float]] = {}
    for name, history in histories.items():
        found = set(alphas(history))
        alpha[name] = found.pop() if len(found) == 1 else None
    for planned in study.planned():
        if planned.weight is not None and not alphas(histories[planned.name]):
            raise ValueError(
                f"Run {planned.name}: expected {ALPHA} in its log once the calibration is over,"
                " found none. The plugin was not active: run `regap doctor`."
            )
    checkpoints = tuple(study.checkpoints())
    return StudyReport(
        date=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        checkpoints=checkpoints,
        histories=histories,
        identity=identity,
        alpha=alpha,
        quantized=tuple(quantized),
        sentences=(*_identity_sentences(identity), *findings(checkpoints)),
    )


def write_report(study: Study, report: StudyReport) -> List[Path]:
    """Write `report.md`, `report.json`, `demo.svg` and `demo.png` into the study's folder."""
    folder = study.folder
    content: Dict[str, Any] = {
        "date": report.date,
        "settings": study.settings.stored(),
        "versions": versions(),
        "findings": list(report.sentences),
        "identity": None if report.identity is None else _identity_json(report.identity),
        "alpha": dict(report.alpha),
        "quantized": list(report.quantized),
        "checkpoints": [dataclasses.asdict(each) for each in report.checkpoints],
    }
    (folder / "report.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    (folder / "report.md").write_text(markdown(study, report), encoding="utf-8")
    files = write_plot(report.checkpoints, report.histories, folder)
    return [folder / "report.md", folder / "report.json", *files]


def markdown(study: Study, report: StudyReport) -> str:
    """The report as a page."""
    settings = study.settings
    parts = [
        "# ReGap in miniature",
        f"Made on {report.date}. Stage 1 of a tiny LLaVA by upstream's own train.py,"
        f" {settings.steps} steps of {settings.batch} pictures, seeds"
        f" {', '.join(map(str, settings.seeds))}. Each seed is a made-up world, a language model"
        " trained and aligned in it, pictures and a training of its own; the vision tower is one."
        " The forbidden things are made up too. What holds here need not hold for a large model.",
        "## What it shows",
        "\n".join(f"- {sentence}" for sentence in report.sentences),
        *(["\n".join(f"- {line}" for line in report.quantized)] if report.quantized else []),
        "![Gap, safety and utility](demo.png)",
        "## Numbers",
        "Mean and standard deviation over the seeds.",
        markdown_table(table(report.checkpoints)),
        "## Trainings",
        f"In the folder `{study.folder}`:",
    ]
    for planned in study.planned():
        run = study.run_of(planned)
        alpha = report.alpha[planned.name]
        frozen = "" if alpha is None else f", alpha {alpha:.4g}"
        parts.append(f"**{planned.name}**, {run.seconds():.0f} s{frozen}:")
        parts.append(f"```\n{shlex.join(run.command)}\n```")
    parts.append("## Versions")
    parts.append("\n".join(f"- {name}: {value}" for name, value in versions().items()))
    return "\n\n".join(parts) + "\n"


def table(checkpoints: Sequence[Checkpoint]) -> List[List[str]]:
    """Cells of text, the header first: a row for each number, a column for each loss and weight."""
    every = last_steps(with_picture_means(checkpoints))
    groups: Dict[str, Dict[int, Checkpoint]] = {}
    for each in every:
        title = f"{each.loss}, weight {each.weight:g}" if each.weight else "weight 0"
        groups.setdefault(title, {})[each.seed] = each
    rows = [["", *groups]]
    for name, title in (
        (INPUT_GAP, "pairwise L2 distance at the input"),
        (INPUT_CENTROID, "distance of the means at the input"),
        (MIR, "MIR"),
    ):
        rows.append([title, *(number(spread_of(group, name)) for group in groups.values())])
    conditions = [NO_PICTURE, TOLD, *pictures_of(checkpoints)]
    for rate, title in _TITLES.items():
        for condition in conditions:
            shown = {NO_PICTURE: "text alone", TOLD: "a picture in words"}.get(condition, condition)
            spreads = [spread_of(group, f"{rate}:{condition}") for group in groups.values()]
            if any(spread.values for spread in spreads):
                rows.append([f"{title}: {shown}", *map(share, spreads)])
    for name, title in ((CAPTION_F1, "caption facts, F1"), (VQA_ACCURACY, "questions, right")):
        rows.append([title, *(share(spread_of(group, name)) for group in groups.values())])
    return rows


def text_table(rows: Sequence[Sequence[str]]) -> str:
    """Cells aligned for a terminal: names to the left, numbers to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths))
        )
        for row in rows
    )


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """Cells as a table of Markdown."""
    rules = ["---", *["---:"] * (len(rows[0]) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (rows[0], rules, *rows[1:]))


def _identity_sentences(identity: Optional[Identity]) -> List[str]:
    if identity is None:
        return []
    same = "the same" if identity.same_losses else "other"
    weights = "the same" if identity.same_weights else "other"
    return [
        f"Weight 0 against upstream without the flag: {same} losses over {identity.steps} steps"
        f" (largest difference {identity.largest_loss_difference:g}, as the trainer logs them,"
        f" rounded to four decimals), {weights} trained weights (largest difference"
        f" {identity.largest_weight_difference:g})."
    ]


def _identity_json(identity: Identity) -> Dict[str, Any]:
    return {
        **dataclasses.asdict(identity),
        "same_losses": identity.same_losses,
        "same_weights": identity.same_weights,
    }
