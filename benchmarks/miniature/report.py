"""The demo's report: read from what the trainer logged, compared, written as Markdown and JSON.

Standard library only; every number comes from the runs' own `trainer_state.json`.
"""

import dataclasses
import json
import math
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any, List, Mapping, Optional, Sequence, Tuple

History = Tuple[Mapping[str, float], ...]

LOSS = "loss"
GAP = "regap/gap"
ALPHA = "regap/alpha"
LM_LOSS = "regap/lm_loss"
IMAGE_SPREAD = "regap/image_spread"
TERMINAL_ROWS = 12
_COLUMNS = (
    "step",
    "loss, no flag",
    "loss, weight 0",
    "gap, weight 0",
    "loss, weight W",
    "LM loss, weight W",
    "gap, weight W",
    "alpha, weight W",
)


@dataclass(frozen=True)
class RunRecord:
    """One finished training run.

    Attributes:
        name: of its folder under `runs/`.
        title: how tables and plots call it.
        command: what was run, in the demo's folder.
        seconds: from the start of the process to its end.
        history: per logged step the trainer's values, with `step` and `loss`.
    """

    name: str
    title: str
    command: Tuple[str, ...]
    seconds: float
    history: History


@dataclass(frozen=True)
class Identity:
    """Whether two runs are the same: losses as logged, and the trained projector's weights."""

    steps: int
    largest_loss_difference: float
    largest_weight_difference: float

    @property
    def same_losses(self) -> bool:
        """True where no step's logged losses differ."""
        return self.largest_loss_difference == 0.0

    @property
    def same_weights(self) -> bool:
        """True where no trained weight differs."""
        return self.largest_weight_difference == 0.0


@dataclass(frozen=True)
class GapChange:
    """The gap at the step that fixed alpha, before any term was added, and at the last step."""

    first_step: int
    first: float
    last_step: int
    last: float

    def sentence(self, title: str) -> str:
        """Say in words how the gap moved."""
        verb = "stayed" if self.last == self.first else "fell" if self.last < self.first else "rose"
        percent = 100.0 * (self.last - self.first) / self.first if self.first else math.nan
        return (
            f"{title}: the gap {verb} from {self.first:.4g} (step {self.first_step}, at the end of"
            f" the calibration) to {self.last:.4g} (step {self.last_step}), {percent:+.1f} %."
        )


@dataclass(frozen=True)
class DemoReport:
    """All that the demo found: three runs from the same weights and what follows from them."""

    folder: str
    date: str
    settings: Mapping[str, Any]
    versions: Mapping[str, str]
    environment: Mapping[str, str]
    samples: int
    plain: RunRecord
    measured: RunRecord
    regularised: RunRecord
    identity: Identity
    effect_on_weights: float

    @property
    def runs(self) -> Tuple[RunRecord, RunRecord, RunRecord]:
        """The runs in the order in which they were made."""
        return self.plain, self.measured, self.regularised


def read_history(trainer_state: Path) -> History:
    """Read the per-step values from a `trainer_state.json`, in the order of the steps.

    Raises:
        ValueError: the file is not one of the trainer's, or holds no step with a loss.
    """
    try:
        state = json.loads(trainer_state.read_text(encoding="utf-8"))
        entries = [entry for entry in state["log_history"] if LOSS in entry]
        steps = [{key: float(value) for key, value in entry.items()} for entry in entries]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{trainer_state}: expected the trainer's state with a log_history, found"
            f" {type(error).__name__}: {error}. Delete the run's folder and start again."
        ) from error
    if not steps:
        raise ValueError(
            f"{trainer_state}: expected at least one logged step with a loss, found none. Train"
            " with --logging_steps 1."
        )
    return tuple(steps)


def compare_runs(first: History, second: History, *, largest_weight_difference: float) -> Identity:
    """Compare the losses of two runs step by step.

    Args:
        first: of one run.
        second: of the other.
        largest_weight_difference: between the trained projectors, absolute.

    Returns:
        the differences; a loss that is not a number in either run counts as infinitely different.

    Raises:
        ValueError: the runs logged different steps.
    """
    steps = [[int(entry["step"]) for entry in history] for history in (first, second)]
    if steps[0] != steps[1]:
        raise ValueError(
            f"log_history: expected the same steps in both runs, found {len(steps[0])} up to"
            f" {steps[0][-1]} and {len(steps[1])} up to {steps[1][-1]}. Start the demo anew with"
            " --overwrite."
        )
    largest = 0.0
    for one, other in zip(first, second):
        difference = abs(one[LOSS] - other[LOSS])
        largest = max(largest, difference if math.isfinite(difference) else math.inf)
    return Identity(len(first), largest, largest_weight_difference)


def gap_change(run: RunRecord) -> GapChange:
    """Find the gap at the end of the calibration, where alpha is first logged, and the last one.

    Raises:
        ValueError: the run logged no gap, or never an alpha.
    """
    if not any(GAP in entry for entry in run.history):
        raise ValueError(
            f"Run {run.name}: expected {GAP} in its log_history, found none. The plugin was not"
            " active; run `regap doctor`."
        )
    calibrated = [entry for entry in run.history if GAP in entry and ALPHA in entry]
    if not calibrated:
        raise ValueError(
            f"Run {run.name}: expected {ALPHA} once the calibration is over, found none in"
            f" {len(run.history)} steps. Train for more --steps."
        )
    first, last = calibrated[0], calibrated[-1]
    return GapChange(int(first["step"]), first[GAP], int(last["step"]), last[GAP])


def table_rows(report: DemoReport, *, limit: Optional[int] = None) -> List[List[str]]:
    """Lay out the steps as cells of text, the header first.

    Args:
        report: the three runs, which logged the same steps.
        limit: how many steps at most, evenly spaced from the first to the last; all when absent.

    Returns:
        rows of equal length; a value that was not logged is "-".
    """
    weight = f"{report.settings['weight']:g}"
    rows = [[column.replace("weight W", f"weight {weight}") for column in _COLUMNS]]
    steps = list(zip(report.plain.history, report.measured.history, report.regularised.history))
    for index in _evenly_spaced(len(steps), limit):
        plain, measured, regularised = steps[index]
        values = [plain.get(LOSS), measured.get(LOSS), measured.get(GAP)]
        values += [regularised.get(key) for key in (LOSS, LM_LOSS, GAP, ALPHA)]
        cells = ["-" if value is None else f"{value:.4f}" for value in values]
        rows.append([str(int(plain["step"])), *cells])
    return rows


def text_table(rows: Sequence[Sequence[str]]) -> str:
    """Align cells for a terminal: the header wrapped at its comma, columns to the right."""
    header = [cell.partition(", ")[::2] for cell in rows[0]]
    lines = [[top for top, _ in header], [bottom for _, bottom in header], *rows[1:]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths)) for line in lines
    )


def findings(report: DemoReport) -> List[str]:
    """Say in sentences what the runs show: identity, effect, how gap, loss and spread came out."""
    same = report.identity
    measured, regularised = gap_change(report.measured), gap_change(report.regularised)
    weight = f"{report.settings['weight']:g}"
    sentences = [
        f"Without the flag and with weight 0: identical per-step losses:"
        f" {_yes(same.same_losses)} (largest difference {same.largest_loss_difference:g} over"
        f" {same.steps} steps, as the trainer logs them, rounded to four decimals); identical"
        f" trained weights: {_yes(same.same_weights)} (largest difference"
        f" {same.largest_weight_difference:g}).",
        f"Without the flag and with weight {weight}: the largest difference of a trained weight is"
        f" {report.effect_on_weights:.3g}.",
        measured.sentence("Weight 0, measured and not added"),
        regularised.sentence(f"Weight {weight}, added to the loss"),
    ]
    if measured.last:
        sentences.append(
            f"At the last step the gap with weight {weight} is"
            f" {regularised.last / measured.last:.3g} times the gap with weight 0."
        )
    lm_loss = report.regularised.history[-1].get(LM_LOSS)
    if lm_loss is not None:
        sentences.append(
            f"At the last step the language modelling loss is {lm_loss:.4f} with weight {weight}"
            f" and {report.plain.history[-1][LOSS]:.4f} without the flag."
        )
    spreads = [run.history[-1].get(IMAGE_SPREAD) for run in (report.regularised, report.measured)]
    if spreads[0] is not None and spreads[1] is not None:
        sentences.append(
            f"At the last step the spread of the image tokens is {spreads[0]:.4g} with weight"
            f" {weight} and {spreads[1]:.4g} with weight 0; near 0 they would have collapsed to one"
            " point."
        )
    return sentences


def markdown(report: DemoReport) -> str:
    """Write the report as a Markdown page."""
    rows = table_rows(report)
    table = [_markdown_row(rows[0]), _markdown_row(["---:"] * len(rows[0]))]
    table += [_markdown_row(row) for row in rows[1:]]
    environment = " ".join(f"{name}={value}" for name, value in report.environment.items())
    parts = [
        "# ReGap demo",
        f"Made on {report.date}. Stage 1 pretraining of a miniature LLaVA, three times from the"
        f" same weights on the same {report.samples} captioned pictures. A miniature shows that the"
        " term works as described; it says nothing about the quality or safety of a real model.",
        "## What the runs show",
        "\n".join(f"- {sentence}" for sentence in findings(report)),
        "![Loss and modality gap per step](gap.png)",
        "## Runs",
        f"In the folder `{report.folder}`, with `{environment}`:",
    ]
    for run in report.runs:
        parts.append(
            f"**{run.title}**, {run.seconds:.1f} s, trained projector in"
            f" `runs/{run.name}/mm_projector.bin`, log in `runs/{run.name}.log`:"
        )
        parts.append(f"```\n{shlex.join(run.command)}\n```")
    parts += [
        "## Settings and versions",
        _bullets(report.settings),
        _bullets(report.versions),
        "## Per step",
        "The loss with the flag contains the weighted gap; the LM loss beside it does not. Alpha is"
        " absent until its calibration is over.",
        "\n".join(table),
    ]
    return "\n\n".join(parts) + "\n"


def json_text(report: DemoReport) -> str:
    """Write the report as JSON, with every logged value of every step."""
    content = dataclasses.asdict(report)
    content["identity"]["same_losses"] = report.identity.same_losses
    content["identity"]["same_weights"] = report.identity.same_weights
    content["gap_changes"] = {
        run.name: dataclasses.asdict(gap_change(run))
        for run in (report.measured, report.regularised)
    }
    content["findings"] = findings(report)
    return json.dumps(content, indent=1) + "\n"


def _evenly_spaced(total: int, limit: Optional[int]) -> List[int]:
    if limit is None or total <= limit:
        return list(range(total))
    if limit < 2:
        raise ValueError(f"limit: expected 2 or more, found {limit}. Show the first and the last.")
    return [round(index * (total - 1) / (limit - 1)) for index in range(limit)]


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _bullets(values: Mapping[str, Any]) -> str:
    return "\n".join(f"- {name}: {value}" for name, value in values.items())


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
