"""The plan of an experiment: a file that is fixed, and hashed, before anything runs."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Tuple

from regap_benchmarks.miniature.base import RECIPES
from regap_benchmarks.miniature.measuring import MeasureSettings
from regap_benchmarks.miniature.study import StudySettings
from regap_plugin.config import unknown_name

TINY, SMALL, PAPER = "tiny", "small", "paper"
SIZES = (TINY, SMALL, PAPER)
_DEVICES = {TINY: "cpu", SMALL: "cuda"}
_DEPTHS = {SMALL: 30, PAPER: 32}  # of SmolLM2-135M, of Vicuna-7B


class PlanError(ValueError):
    """A plan that cannot be used; names the file, the field and the remedy."""


@dataclass(frozen=True)
class Plan:
    """What an experiment asks, before it runs.

    Attributes:
        experiment: name of the recipe.
        size: "tiny": the miniature. "small": prepared bases on a GPU, 320 requests of a kind.
            "paper": the official models; its commands are printed.
        question: in a sentence.
        seeds: each an independent base and training.
        losses: formulas of the term.
        weights: lambdas above 0; 0 is trained in any case.
        steps: optimiser steps of a training.
        batch: pictures of a step.
        pictures: captioned pictures of a training.
        save_every: steps between the measured checkpoints, beside the last; 0 for none.
        recipe: of the miniature's bases, see `regap_benchmarks.miniature.base`.
        pairs: for the gap.
        captions, questions: for utility.
        conditions: pictures beside the requests, "none" among them.
        tests: what is computed in the end, in words, for the record.
        level: of all intervals.
        resamples: of all bootstraps.
        options: more settings of the recipe.
    """

    experiment: str
    size: str
    question: str
    seeds: Tuple[int, ...]
    losses: Tuple[str, ...]
    weights: Tuple[float, ...]
    tests: Tuple[str, ...]
    steps: int = 300
    batch: int = 16
    pictures: int = 600
    save_every: int = 0
    recipe: str = "full"
    pairs: int = 60
    captions: int = 60
    questions: int = 120
    conditions: Tuple[str, ...] = ("none", "blank", "noise", "unrelated")
    level: float = 0.95
    resamples: int = 2000
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def study(
        self, output: Path, *, bases: Optional[Path] = None, device: str = ""
    ) -> StudySettings:
        """The trainings and measurements of the plan.

        Args:
            output: folder of the study.
            bases: folder of prepared ones, for size "small".
            device: to try the size on another one than its own.

        Raises:
            ValueError: a value out of its range.
        """
        return StudySettings(
            output=output,
            seeds=self.seeds,
            weights=self.weights,
            losses=self.losses,
            steps=self.steps,
            pictures=self.pictures,
            batch=self.batch,
            save_every=self.save_every,
            recipe=self.recipe,
            identity=False,
            measure=MeasureSettings(
                pairs=self.pairs,
                resamples=4,
                captions=self.captions,
                questions=self.questions,
                conditions=self.conditions,
                many=self.size == SMALL,
                device=device or _DEVICES[self.size],
            ),
            bases=bases,
        )

    def study_depth(self) -> int:
        """Layers of the language models."""
        return _DEPTHS.get(self.size) or RECIPES[self.recipe].sizes.layers

    def describe(self) -> Dict[str, Any]:
        """As JSON."""
        return json.loads(json.dumps(dataclasses.asdict(self)))  # type: ignore[no-any-return]


def read_plan(path: Path) -> Tuple[Plan, str]:
    """A plan and the SHA-256 of its file.

    Args:
        path: JSON, or TOML on Python 3.11 and later.

    Raises:
        PlanError: no such file, an unknown or missing field, a value of another type.
    """
    if not path.is_file():
        raise PlanError(f"--config {path}: expected a plan, found no such file.")
    content = path.read_bytes()
    document = _parse(path, content)
    known = {each.name: each for each in dataclasses.fields(Plan)}
    for name in document:
        if name not in known:
            raise PlanError(f"{path}: {unknown_name('plan field', name, known)}")
    for name, each in known.items():
        required = (
            each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING
        )
        if required and name not in document:
            raise PlanError(f"{path}: expected the field {name!r}, found none. Add it.")
    values: Dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in document.items()
    }
    plan = Plan(**values)
    _check_types(path, plan)
    return plan, hashlib.sha256(content).hexdigest()


def _parse(path: Path, content: bytes) -> Dict[str, Any]:
    try:
        if path.suffix == ".toml":
            try:
                import tomllib
            except ImportError as error:
                raise PlanError(
                    f"{path}: expected Python 3.11 or later for TOML, found an older one. Write the"
                    " plan as JSON."
                ) from error
            return tomllib.loads(content.decode())
        document = json.loads(content)
    except ValueError as error:
        if isinstance(error, PlanError):
            raise
        raise PlanError(f"{path}: expected JSON or TOML, found {error}. Mend the file.") from error
    if not isinstance(document, dict):
        raise PlanError(f"{path}: expected an object, found {type(document).__name__}.")
    return document


def _check_types(path: Path, plan: Plan) -> None:
    for name, kind in (("seeds", int), ("losses", str), ("tests", str), ("conditions", str)):
        values = getattr(plan, name)
        if not isinstance(values, tuple) or not all(type(each) is kind for each in values):
            raise PlanError(f"{path}: {name}: expected a list of {kind.__name__}, found {values}.")
    numbers = all(isinstance(each, (int, float)) for each in plan.weights)
    if not isinstance(plan.weights, tuple) or not numbers:
        raise PlanError(f"{path}: weights: expected a list of numbers, found {plan.weights}.")
    if plan.size not in SIZES:
        raise PlanError(f"{path}: {unknown_name('size', plan.size, SIZES)}")
    if "none" not in plan.conditions:
        raise PlanError(f'{path}: conditions: expected "none" among them, found {plan.conditions}.')
