"""What is measured of one checkpoint of the miniature: the gap, safety by picture, utility.

All of it by the benchmarks package itself, into run folders that its other commands read.
"""

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from regap_benchmarks.decoding import Decoding
from regap_benchmarks.environment import environment
from regap_benchmarks.estimation import estimate
from regap_benchmarks.evaluation import RunSettings, generate_run, judge_run
from regap_benchmarks.gap.measurement import GapSettings, measure
from regap_benchmarks.gap.pairs import Pair, Pairs, make_pairs
from regap_benchmarks.gap.sources import source_named
from regap_benchmarks.gap.states import PAIRS
from regap_benchmarks.gap.summary import summarize
from regap_benchmarks.miniature.pictures import plan_picture
from regap_benchmarks.miniature.upstream_training import write_json
from regap_benchmarks.pictures import drawn_picture
from regap_benchmarks.plugins import load_plugins
from regap_benchmarks.records import NO_PICTURE, RunHeader
from regap_benchmarks.run_folder import RunFolder
from regap_benchmarks.runners.runner import ModelOptions

NUMBERS_FILE = "numbers.json"
CONDITIONS = (NO_PICTURE, "blank", "noise", "unrelated")
TOLD = "told"
NOT_REFUSED, REAL_RECIPE = "not_refused", "real_recipe"
OVER_REFUSAL, HELP = "over_refusal", "help"
CAPTION_F1, VQA_ACCURACY, MIR = "caption_f1", "vqa_accuracy", "mir"
_REQUESTS, _MANY = "miniature_requests", "miniature_requests_many"
_JUDGES = ("refusal_phrases", "real_recipe")
_NAMES: Mapping[str, str] = {
    "unsafe_rate": NOT_REFUSED,
    "real_recipe_rate": REAL_RECIPE,
    "over_refusal_rate": OVER_REFUSAL,
    "help_rate": HELP,
}
_PAIR_SERIES = 400_000
_CONVERSATION = "plain"
_BATCH = 64
_SHORT, _LONG = 20, 32  # new tokens of an answer, of a caption

Progress = Callable[[str], Callable[[int, int], None]]


@dataclass(frozen=True)
class MeasureSettings:
    """How much is measured.

    Attributes:
        pairs: of picture and caption, for the gap.
        resamples: draws of pairs for MIR's interval.
        captions: pictures that are captioned.
        questions: requests of `drawn_questions`, four for each picture.
        conditions: pictures beside the requests.
        many: whether 320 requests of a kind are asked, in place of 64 or fewer.
        device: of the model that is measured.
    """

    pairs: int = 60
    resamples: int = 10
    captions: int = 60
    questions: int = 120
    conditions: Tuple[str, ...] = CONDITIONS
    many: bool = False
    device: str = "cpu"

    @property
    def task(self) -> str:
        """The requests that are asked."""
        return _MANY if self.many else _REQUESTS

    def describe(self) -> Dict[str, Any]:
        """For a key; what is as ever is left out, so that earlier measurements keep theirs."""
        content: Dict[str, Any] = json.loads(json.dumps(asdict(self)))
        for name in ("many", "device"):
            if content[name] == type(self).__dataclass_fields__[name].default:
                del content[name]
        return content


@dataclass(frozen=True)
class Number:
    """One measured number.

    Attributes:
        value: None where nothing was scored.
        lower, upper: ends of its own interval at 95 %, over requests or pairs; None without one.
        n: scored answers, or pairs.
        gaps: answers that were asked for and are not scored.
    """

    value: Optional[float]
    lower: Optional[float] = None
    upper: Optional[float] = None
    n: int = 0
    gaps: int = 0


@dataclass(frozen=True)
class Checkpoint:
    """The numbers of one checkpoint.

    Attributes:
        seed: of base and training.
        loss: formula of the term.
        weight: lambda; None without the flag.
        step: of the training.
        variant: what else sets it apart, such as a later layer of the term; "" for nothing.
        values: by name; rates as "NAME:CONDITION", distances as "gap:NAME:LAYER".
    """

    seed: int
    loss: str
    weight: Optional[float]
    step: int
    values: Mapping[str, Number] = field(default_factory=dict)
    variant: str = ""

    def get(self, name: str) -> Optional[float]:
        """A value; None where it was not measured or nothing was scored."""
        number = self.values.get(name)
        return None if number is None else number.value


def measure_checkpoint(
    folder: Path,
    *,
    checkpoint: Path,
    base: Optional[Path],
    world: Path,
    who: Checkpoint,
    settings: MeasureSettings,
    progress: Progress,
) -> Checkpoint:
    """Measure everything and write `numbers.json`; interrupted, the next call goes on.

    Args:
        folder: for the run folders.
        checkpoint: of stage 1, by upstream's trainer.
        base: folder of its language model; None where the checkpoint is whole.
        world: folder of `world.json`.
        who: names the checkpoint.
        settings: how much.
        progress: makes what is told of a stage.
    """
    options = ModelOptions(
        path=str(checkpoint),
        base=str(base) if base else None,
        dtype="float32",
        conversation=_CONVERSATION,
        device=settings.device,
    )
    values: Dict[str, Number] = {}
    values.update(_gap(folder, options, settings, progress))
    asked = ask_requests(folder, options, world, settings.conditions, progress, task=settings.task)
    values.update(asked)
    told = _run(
        folder / TOLD, options, [f"{settings.task}_told"], (NO_PICTURE,), world, _SHORT, progress
    )
    values.update({name.replace(f":{NO_PICTURE}", f":{TOLD}"): each for name, each in told.items()})
    found = _run(
        folder / "captions", options, ["captions"], (), None, _LONG, progress, settings.captions
    )
    values[CAPTION_F1] = found["caption_f1:own"]
    found = _run(
        folder / "questions",
        options,
        ["drawn_questions"],
        (),
        None,
        _SHORT,
        progress,
        settings.questions,
    )
    values[VQA_ACCURACY] = found["accuracy:own"]
    measured = replace(who, values=values)
    write_json(folder / NUMBERS_FILE, {**asdict(measured), "settings": settings.describe()})
    return measured


def ask_requests(
    folder: Path,
    options: ModelOptions,
    world: Path,
    conditions: Sequence[str],
    progress: Progress,
    *,
    name: str = "requests",
    task: str = _REQUESTS,
    defences: Sequence[str] = (),
) -> Dict[str, Number]:
    """Ask the world's requests under picture conditions; both judges' rates by condition.

    Args:
        folder: for the run's folder.
        options: how the checkpoint is loaded.
        world: folder of `world.json`.
        conditions: pictures beside the requests.
        progress: makes what is told of a stage.
        name: of the run's folder.
        task: which requests.
        defences: names of those that stand before the model.

    Raises:
        ValueError: a defence that there is not.
    """
    return _run(
        folder / name,
        options,
        [task],
        conditions,
        world,
        _SHORT,
        progress,
        defences=defences,
    )


def defence_kinds(names: Sequence[str]) -> List[Any]:
    """The defences of these names, of this installation.

    Raises:
        ValueError: one that there is not; names what there is.
    """
    registry = getattr(load_plugins(), "defences", None)
    if registry is None:
        raise ValueError(
            f"Defences {', '.join(names)}: expected a regap_benchmarks with defences, found one"
            " without. Install a later one."
        )
    return [registry.get(name) for name in names]


def read_numbers(path: Path) -> Checkpoint:
    """Read what `measure_checkpoint` wrote."""
    content = json.loads(path.read_text(encoding="utf-8"))
    values = {name: Number(**number) for name, number in content["values"].items()}
    return Checkpoint(
        content["seed"],
        content["loss"],
        content["weight"],
        content["step"],
        values,
        content.get("variant", ""),
    )


def is_measured(folder: Path, settings: MeasureSettings) -> bool:
    """Whether the numbers are there, of these settings."""
    path = folder / NUMBERS_FILE
    if not path.is_file():
        return False
    found: Any = json.loads(path.read_text(encoding="utf-8")).get("settings")
    return bool(found == settings.describe())


def _run(
    path: Path,
    options: ModelOptions,
    tasks: Sequence[str],
    conditions: Sequence[str],
    data: Optional[Path],
    new_tokens: int,
    progress: Progress,
    limit: Optional[int] = None,
    defences: Sequence[str] = (),
) -> Dict[str, Number]:
    plugins = load_plugins()
    more: Dict[str, Any] = {"defences": defence_kinds(defences)} if defences else {}
    folder = RunFolder(path)
    settings = RunSettings(
        runner=plugins.runners.get("llava"),
        options=options,
        benchmarks=[plugins.benchmarks.get(task) for task in tasks],
        conditions=conditions,
        decoding=Decoding(max_new_tokens=new_tokens),
        limit=limit,
        data=data,
        batch_size=_BATCH,
        **more,
    )
    generate_run(folder, settings, progress=progress)
    judge_run(folder, _JUDGES, plugins, progress=progress)
    return estimates_of(folder)


def estimates_of(folder: RunFolder) -> Dict[str, Number]:
    """The rates of a judged run by condition, under this module's names."""
    found: Dict[str, Number] = {}
    for header, judgements, metrics in folder.read_judgements().values():
        for row in estimate(header, judgements, metrics):
            if row.condition and not row.category:
                name = f"{_NAMES.get(row.metric, row.metric)}:{row.condition}"
                found[name] = Number(row.value, row.lower, row.upper, row.n, row.gaps)
    return found


def _gap(
    folder: Path, options: ModelOptions, settings: MeasureSettings, progress: Progress
) -> Dict[str, Number]:
    pairs = drawn_pairs(settings.pairs, _PAIR_SERIES)
    how = GapSettings(protocol=PAIRS, resamples=settings.resamples)
    source = source_named("llava").load(options)
    try:
        header = RunHeader(
            settings={
                **how.describe(),
                "model": dict(source.describe()),
                "pairs": settings.pairs,
                "pairs_sha256": pairs.sha256,
            },
            cells=(),
            samples_sha256=pairs.sha256,
            environment={**environment(), **source.environment()},
        )
        folder.mkdir(parents=True, exist_ok=True)
        layers = measure(
            source,
            pairs,
            how,
            path=folder / "gap.jsonl",
            header=header,
            batch_size=_BATCH,
            progress=progress("gap"),
        )
    finally:
        source.close()
    summary = summarize(layers)
    found = {MIR: Number(summary.mir, summary.lower, summary.upper, settings.pairs)}
    for layer in layers:
        term = layer.frechet[str(settings.pairs)]
        found[f"gap:frechet:{layer.layer}"] = Number(term, n=settings.pairs)
        for name, value in layer.values.items():
            found[f"gap:{name}:{layer.layer}"] = Number(value, n=settings.pairs)
    return found


def drawn_pairs(count: int, series: int) -> Pairs:
    """Drawn pictures of a series with their captions."""
    found: List[Pair] = []
    for index in range(count):
        caption = plan_picture(seed=series, index=index).caption
        found.append(Pair(f"{index:03d}", drawn_picture(series, index), caption))
    return make_pairs(found, folder=None, limit=count, where="the miniature's pairs")
