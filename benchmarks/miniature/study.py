"""A study: bases, stage-1 trainings over seeds, losses and weights, and what is measured of each.

The demo is a small one; the experiments are larger ones over the same parts. Everything is a unit
with a marker, so that the same call goes on after an interruption.
"""

import contextlib
import dataclasses
import json
import math
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

from regap_benchmarks.miniature.base import (
    LANGUAGE,
    LANGUAGE_MODEL,
    RECIPES,
    TOWER,
    VISION_TOWER,
    WORLD_FILE,
    BaseRecipe,
)
from regap_benchmarks.miniature.cache import is_made, place_of
from regap_benchmarks.miniature.checkpoints import write_projector
from regap_benchmarks.miniature.dataset import write_captions
from regap_benchmarks.miniature.measuring import (
    NUMBERS_FILE,
    Checkpoint,
    MeasureSettings,
    is_measured,
    measure_checkpoint,
    read_numbers,
)
from regap_benchmarks.miniature.prepared_bases import copy_prepared, sizes_of
from regap_benchmarks.miniature.study_folder import additive_settings, claim_folder
from regap_benchmarks.miniature.units import Processes, Say, Unit, UnitError
from regap_benchmarks.miniature.upstream_training import (
    MINIMUM_STEPS,
    PROJECTOR,
    StageOne,
    UpstreamRun,
    child_environment,
    training_script,
    write_json,
)

LARGEST_SEED = 2**31 - 1
DEFAULT_LOSS = "pairwise_l2"
_CAPTION_SERIES = 500_000


@dataclass(frozen=True)
class StudySettings:
    """What a study trains and measures.

    Attributes:
        output: the folder for everything that it writes.
        seeds: each a world, a language model, pictures and a training of its own.
        weights: lambdas above 0; weight 0 is trained in any case, once for each seed.
        losses: formulas of the term.
        steps: optimiser steps of a training.
        pictures: captioned pictures of a training.
        batch: pictures of a step.
        save_every: steps between the checkpoints that are measured, beside the last; 0 for none.
        recipe: name of the bases' recipe.
        identity: also train the first seed without the flag, to hold weight 0 against it.
        measure: how much is measured.
        flags: more of the trainer's flags, for every run with the flag.
        bases: folder of prepared bases, `seed-N` for each seed and one vision tower; None to train
            those of the recipe. See `regap_benchmarks.miniature.small_base`.

    Raises:
        ValueError: a value is out of its range.
    """

    output: Path
    seeds: Tuple[int, ...]
    weights: Tuple[float, ...]
    losses: Tuple[str, ...] = (DEFAULT_LOSS,)
    steps: int = 300
    pictures: int = 600
    batch: int = 16
    save_every: int = 0
    recipe: str = "full"
    identity: bool = True
    measure: MeasureSettings = field(default_factory=MeasureSettings)
    flags: Tuple[str, ...] = ()
    bases: Optional[Path] = None

    def __post_init__(self) -> None:
        _expect(bool(self.seeds), "--seeds", "one seed or more", self.seeds)
        _expect(len(set(self.seeds)) == len(self.seeds), "--seeds", "each once", self.seeds)
        for seed in self.seeds:
            _expect(0 <= seed <= LARGEST_SEED, "--seeds", f"0 to {LARGEST_SEED}", seed)
        _expect(bool(self.weights), "--weights", "one weight or more", self.weights)
        for weight in self.weights:
            fits = math.isfinite(weight) and weight > 0
            _expect(fits, "--weights", "finite numbers above 0 (0 is trained too)", weight)
        _expect(bool(self.losses), "--losses", "one formula or more", self.losses)
        _expect(
            self.steps >= MINIMUM_STEPS,
            "--steps",
            f"{MINIMUM_STEPS} or more, as alpha is calibrated over the first",
            self.steps,
        )
        _expect(self.pictures >= self.batch, "--pictures", f"{self.batch} or more", self.pictures)
        _expect(self.recipe in RECIPES, "recipe", " or ".join(RECIPES), self.recipe)

    @property
    def base(self) -> BaseRecipe:
        """The recipe of the bases."""
        return RECIPES[self.recipe]

    def stored(self) -> Dict[str, Any]:
        """What must not change between the calls over one folder."""
        content = {**dataclasses.asdict(self), "output": None}
        content["measure"] = self.measure.describe()
        # Which folder it was does not matter: each base's marker has what it holds.
        del content["bases"]
        return json.loads(json.dumps(content))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class PlannedRun:
    """One training of a study: its seed, formula and weight (None without the flag), and layer."""

    seed: int
    loss: str
    weight: Optional[float]
    layer: int = 0

    @property
    def name(self) -> str:
        """Of the folder."""
        if self.weight is None:
            return f"seed-{self.seed}-no-flag"
        loss = f"-{self.loss}" if self.weight else ""
        layer = f"-layer-{self.layer}" if self.layer else ""
        return f"seed-{self.seed}{loss}-weight-{self.weight:g}{layer}"

    @property
    def variant(self) -> str:
        """What sets it apart beside loss and weight."""
        return f"layer {self.layer}" if self.layer else ""

    @property
    def flags(self) -> Tuple[str, ...]:
        """Of the trainer."""
        if self.weight is None:
            return ()
        layer = ("--regap_layer", str(self.layer)) if self.layer else ()
        return ("--regap_weight", repr(self.weight), "--regap_loss", self.loss, *layer)


class Study:
    """A study in its folder.

    Args:
        settings: what is trained and measured.
        more: trainings beside those of the settings; of each only the last step is measured.

    Raises:
        UnitError: a package is missing.
    """

    def __init__(self, settings: StudySettings, more: Sequence[PlannedRun] = ()) -> None:
        self.settings = settings
        self.more = tuple(more)
        self.folder = settings.output.resolve()
        self._script = training_script()

    def planned(self) -> List[PlannedRun]:
        """All trainings: by seed, weight 0 first."""
        settings = self.settings
        runs = []
        for place, seed in enumerate(settings.seeds):
            runs.append(PlannedRun(seed, settings.losses[0], 0.0))
            for loss in settings.losses:
                runs += [PlannedRun(seed, loss, weight) for weight in settings.weights]
            if settings.identity and place == 0:
                runs.append(PlannedRun(seed, settings.losses[0], None))
            runs += [each for each in self.more if each.seed == seed]
        return runs

    def run_of(self, planned: PlannedRun) -> UpstreamRun:
        """The training of a planned run."""
        settings, seed = self.settings, planned.seed
        stage = StageOne(
            name=planned.name,
            base=f"bases/seed-{seed}/{LANGUAGE_MODEL}",
            tower=str(self.folder / "bases" / VISION_TOWER),
            projector=f"bases/seed-{seed}/{PROJECTOR}",
            data=f"bases/seed-{seed}/data",
            seed=seed,
            steps=settings.steps,
            batch=settings.batch,
            save_every=settings.save_every,
            flags=(*planned.flags, *(settings.flags if planned.flags else ())),
            device=settings.measure.device,
        )
        return UpstreamRun(self.folder, stage, self._script)

    def units(self) -> List[Unit]:
        """All units, in the order in which they are best begun."""
        seeds = self.settings.seeds
        if self.settings.bases is not None:
            units = [self._prepared_unit(self.settings.bases, seed) for seed in seeds]
        else:
            made = [self._tower_unit(), *map(self._language_unit, seeds)]
            units = [*made, *map(self._base_unit, seeds)]
        for planned in self.planned():
            run = self.run_of(planned)
            name = f"train {planned.name}"
            units.append(Unit(name, (f"base of seed {planned.seed}",), run.is_done, run.train))
        for planned in self.planned():
            if planned.weight is not None:
                units.append(self._measure_unit(planned))
        return units

    def measured(self, planned: PlannedRun) -> Dict[int, Path]:
        """The folders of what is measured of a training, by step; it must be finished."""
        folder = self.folder / "measured" / planned.name
        steps = self.run_of(planned).checkpoints()
        if planned in self.more:
            steps = {max(steps): steps[max(steps)]}
        return {step: folder / f"step-{step:05d}" for step in steps}

    def checkpoints(self) -> List[Checkpoint]:
        """The numbers of all that is measured."""
        return [
            read_numbers(folder / NUMBERS_FILE)
            for planned in self.planned()
            if planned.weight is not None
            for folder in self.measured(planned).values()
            if (folder / NUMBERS_FILE).is_file()
        ]

    def check_losses(self) -> None:
        """Refuse a formula that there is not, before anything is trained.

        Raises:
            ValueError: names the nearest.
        """
        from regap_plugin.plugins import load_plugins

        known = load_plugins()
        for name in self.settings.losses:
            known.loss(name)

    def claim(self, *, overwrite: bool = False, shared: bool = False) -> None:
        """Make the folder, or see that it holds this study.

        Args:
            overwrite: delete what an earlier one left.
            shared: that of a study with other seeds, losses or weights will do: it has trainings
                that this one needs, or needs others in any case. Its settings stay.

        Raises:
            UnitError: it holds something else.
        """
        stored = self.settings.stored()
        if shared:
            stored = {**stored, **additive_settings(self.folder / "settings.json")}
        claim_folder(self.folder, stored, overwrite=overwrite)

    def base_folder(self, seed: int) -> Path:
        """Where a seed's language model, world, pictures and first projector lie."""
        return self.folder / "bases" / f"seed-{seed}"

    def _tower_unit(self) -> Unit:
        made = place_of(TOWER, self.settings.base.tower_settings())
        return Unit(
            "vision tower",
            (),
            lambda: is_made(made),
            self._builder((TOWER, "--recipe", self.settings.recipe), "vision-tower.log"),
        )

    def _language_unit(self, seed: int) -> Unit:
        made = place_of(LANGUAGE, self.settings.base.language_settings(seed))
        words = (LANGUAGE, "--recipe", self.settings.recipe, "--seed", str(seed))
        return Unit(
            f"language model of seed {seed}",
            (),
            lambda: is_made(made),
            self._builder(words, f"language-model-{seed}.log"),
        )

    def _builder(self, words: Sequence[str], log: str) -> Callable[[Processes, Say], None]:
        command = [sys.executable, "-m", "regap_benchmarks.miniature.base", *words]

        def build(processes: Processes, say: Say) -> None:
            path = self.folder / "logs" / log

            def on_line(line: str) -> None:
                if "steps/s" in line:
                    say(line.partition(": ")[2].strip())

            code = processes.run(
                command,
                folder=self.folder,
                environment=child_environment(),
                log=path,
                on_line=on_line,
            )
            if code:
                tail = path.read_text(encoding="utf-8").splitlines()[-15:]
                raise UnitError(
                    f"{' '.join(words)}: expected a base, found exit status {code}. The end of its"
                    f" log says why.\nLog: {path}\n" + "\n".join(f"  {line}" for line in tail)
                )

        return build

    def _prepared_unit(self, bases: Path, seed: int) -> Unit:
        """Copies from a folder of prepared bases."""
        folder = self.base_folder(seed)
        marker = folder / "completed.json"

        def is_done() -> bool:
            return marker.is_file()

        def run(processes: Processes, say: Say) -> None:
            shutil.rmtree(folder, ignore_errors=True)
            stored = copy_prepared(bases, seed, folder)
            write_captions(
                folder / "data", count=self.settings.pictures, seed=_CAPTION_SERIES + seed
            )
            sizes = sizes_of(folder / LANGUAGE_MODEL, folder.parent / VISION_TOWER)
            write_projector(folder / PROJECTOR, seed=seed, sizes=sizes)
            write_json(marker, stored)

        return Unit(f"base of seed {seed}", (), is_done, run, here=True)

    def _base_unit(self, seed: int) -> Unit:
        """Copies from the cache: a study's folder is complete, and upstream gets short paths."""
        folder = self.base_folder(seed)
        marker = folder / "completed.json"
        recipe = self.settings.base
        language = place_of(LANGUAGE, recipe.language_settings(seed))
        tower = place_of(TOWER, recipe.tower_settings())
        stored = {"language": language.name, "tower": tower.name}

        def is_done() -> bool:
            return marker.is_file() and json.loads(marker.read_text("utf-8")) == stored

        def run(processes: Processes, say: Say) -> None:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            shutil.copytree(language / LANGUAGE_MODEL, folder / LANGUAGE_MODEL)
            shutil.copyfile(language / WORLD_FILE, folder / WORLD_FILE)
            there = self.folder / "bases" / VISION_TOWER
            if not there.is_dir():
                shutil.copytree(tower / VISION_TOWER, there)
            write_captions(
                folder / "data", count=self.settings.pictures, seed=_CAPTION_SERIES + seed
            )
            write_projector(folder / PROJECTOR, seed=seed, sizes=recipe.sizes)
            write_json(marker, stored)

        requires = ("vision tower", f"language model of seed {seed}")
        return Unit(f"base of seed {seed}", requires, is_done, run, here=True)

    def _measure_unit(self, planned: PlannedRun) -> Unit:
        run = self.run_of(planned)
        settings = self.settings.measure

        def is_done() -> bool:
            return run.is_done() and all(
                is_measured(folder, settings) for folder in self.measured(planned).values()
            )

        def measure(processes: Processes, say: Say) -> None:
            base = self.base_folder(planned.seed)
            checkpoints = run.checkpoints()
            for step, here in self.measured(planned).items():
                if is_measured(here, settings):
                    continue
                # Answers of an earlier training under the same name would be refused.
                shutil.rmtree(here, ignore_errors=True)
                with quiet(self.folder / "logs" / f"measure-{planned.name}.log"):
                    measure_checkpoint(
                        here,
                        checkpoint=checkpoints[step],
                        base=base / LANGUAGE_MODEL,
                        world=base,
                        who=Checkpoint(
                            planned.seed,
                            planned.loss,
                            planned.weight,
                            step,
                            variant=planned.variant,
                        ),
                        settings=settings,
                        progress=say_nothing,
                    )
                say(f"step {step} measured")

        name = f"measure {planned.name}"
        return Unit(name, (f"train {planned.name}",), is_done, measure, here=True)


def say_nothing(stage: str) -> Callable[[int, int], None]:
    """A checkpoint of the miniature is measured in seconds: its unit's lines are enough."""
    return lambda done, total: None


@contextlib.contextmanager
def quiet(log: Path) -> Iterator[None]:
    """What upstream and transformers print while they load goes into a file."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    log.parent.mkdir(parents=True, exist_ok=True)
    logging.set_verbosity_error()
    try:
        with log.open("a", encoding="utf-8") as written, contextlib.redirect_stderr(written):
            yield
    finally:
        logging.set_verbosity(before)


def _expect(fits: bool, name: str, expected: str, found: object) -> None:
    if not fits:
        raise ValueError(f"{name}: expected {expected}, found {found!r}.")
