"""The demo: upstream's own stage 1 training on a miniature, without, with weight 0, and with ReGap.

The trainer is LLaVA's `train.py`, run as a subprocess with the arguments of its
`scripts/v1_5/pretrain.sh`, smaller sizes and the CPU aside. Finished runs are not repeated.
"""

import contextlib
import datetime
import importlib.metadata
import importlib.util
import json
import math
import os
import platform
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

from regap_benchmarks.miniature.checkpoints import largest_weight_difference, write_miniature
from regap_benchmarks.miniature.dataset import dataset_texts, write_captions
from regap_benchmarks.miniature.plot import write_plot
from regap_benchmarks.miniature.report import (
    DemoReport,
    RunRecord,
    compare_runs,
    json_text,
    markdown,
    read_history,
)

MINIMUM_STEPS = 5
LARGEST_SEED = 2**31 - 1
_BATCH_SIZE = 16
_TEXT_STEPS = 150
_PROGRESS_REPORTS = 4
_LOG_TAIL = 15
_SECONDS_TO_END = 10.0
_STEP_PREFIX = "{'loss'"
_STATE = "trainer_state.json"
_PROJECTOR = "mm_projector.bin"
# Everything is on disk: a hub that is asked anyway costs minutes of retries without a network.
_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONUNBUFFERED": "1",
}
_PACKAGES = {
    "llava": "llava-torch==1.2.2.post1",
    "regap_plugin": "regap-plugin",
    "torch": "torch",
    "transformers": "transformers",
    "sentencepiece": "sentencepiece",
    "PIL": "pillow",
    "skimage": "scikit-image",
    "matplotlib": "matplotlib",
}
# `prepared.json` goes first: after an interruption nothing half deleted counts as prepared.
_OWN_FILES = (
    "prepared.json",
    "data",
    "language-model",
    "vision-tower",
    _PROJECTOR,
    "runs",
    "report.md",
    "report.json",
    "gap.png",
    "gap.svg",
)

Say = Callable[[str], None]


class DemoError(Exception):
    """The demo cannot go on; the message says why and what to do."""


@dataclass(frozen=True)
class DemoSettings:
    """What the demo trains.

    Attributes:
        output: the folder for everything that it writes.
        weight: lambda of the third run, above 0.
        steps: optimiser steps of each run, 16 pictures a step.
        pictures: drawn pictures, beside scikit-image's photographs.
        seed: of pictures, weights and training.

    Raises:
        ValueError: a value is out of its range.
    """

    output: Path
    weight: float
    steps: int
    pictures: int
    seed: int

    def __post_init__(self) -> None:
        if not (math.isfinite(self.weight) and self.weight > 0.0):
            raise ValueError(
                f"--weight: expected a finite number above 0, found {self.weight}. Weight 0 is"
                " trained in any case."
            )
        if self.steps < MINIMUM_STEPS:
            raise ValueError(
                f"--steps: expected {MINIMUM_STEPS} or more, found {self.steps}. The calibration of"
                " alpha takes the first."
            )
        if self.pictures < 1:
            raise ValueError(f"--pictures: expected 1 or more, found {self.pictures}. Draw some.")
        if not 0 <= self.seed <= LARGEST_SEED:
            raise ValueError(
                f"--seed: expected 0 to {LARGEST_SEED}, found {self.seed}. Choose another."
            )

    def stored(self) -> Dict[str, Any]:
        """Return what must not change between the runs of one folder."""
        return {
            "weight": self.weight,
            "steps": self.steps,
            "pictures": self.pictures,
            "seed": self.seed,
        }


@dataclass(frozen=True)
class _PlannedRun:
    name: str
    title: str
    flags: Tuple[str, ...]


def run_demo(settings: DemoSettings, *, say: Say, overwrite: bool = False) -> DemoReport:
    """Train three times and write `report.md`, `report.json`, `gap.png` and `gap.svg`.

    Interrupted, it goes on with the next call: what is prepared and the runs that finished with the
    same command and versions are kept. An unfinished run starts again from its first step, because
    upstream cannot resume stage 1.

    Args:
        settings: what to train, and where.
        say: gets one line of progress at a time.
        overwrite: delete what an earlier demo left in the folder first.

    Returns:
        the report that was written.

    Raises:
        DemoError: a package is missing, the folder belongs to something else, or a run failed.
        KeyboardInterrupt: passed on, after the training process has ended.
    """
    script = _training_script()
    output = settings.output.resolve()
    _claim_folder(settings, output, overwrite=overwrite)
    samples = _prepare(settings, output, say)
    planned = _planned_runs(settings)
    records = [
        _train(run, script, settings, output, say, place=f"[{number}/{len(planned)}]")
        for number, run in enumerate(planned, start=1)
    ]
    plain, measured, regularised = records
    projectors = [output / "runs" / run.name / _PROJECTOR for run in planned]
    try:
        report = DemoReport(
            folder=str(output),
            date=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            settings=settings.stored(),
            versions=_versions(),
            environment=_ENVIRONMENT,
            samples=samples,
            plain=plain,
            measured=measured,
            regularised=regularised,
            identity=compare_runs(
                plain.history,
                measured.history,
                largest_weight_difference=largest_weight_difference(projectors[0], projectors[1]),
            ),
            effect_on_weights=largest_weight_difference(projectors[0], projectors[2]),
        )
        (output / "report.json").write_text(json_text(report), encoding="utf-8")
        (output / "report.md").write_text(markdown(report), encoding="utf-8")
        write_plot(report, output)
    except ValueError as error:
        raise DemoError(f"{error} The logs of the runs lie in {output / 'runs'}.") from error
    return report


def _training_script() -> Path:
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        packages = " ".join(f'"{_PACKAGES[name]}"' for name in missing)
        raise DemoError(
            f"{sys.executable}: expected the packages of the demo, found no {', '.join(missing)}."
            " Run `tox run -e demo`, which installs and runs all, or install into this environment:"
            f" {packages}."
        )
    spec = importlib.util.find_spec("llava")
    assert spec is not None
    folders = list(spec.submodule_search_locations or [])
    for folder in folders:
        script = Path(folder) / "train" / "train.py"
        if script.is_file():
            return script
    raise DemoError(
        f"llava: expected a package with train/train.py, found {folders}. Install"
        f" {_PACKAGES['llava']}."
    )


def _claim_folder(settings: DemoSettings, output: Path, *, overwrite: bool) -> None:
    marker = output / "settings.json"
    if output.exists() and not output.is_dir():
        raise DemoError(f"{output}: expected a folder, found a file. Choose another --output.")
    if marker.is_file():
        found = _read_json(marker)
        if overwrite:
            _remove_own_files(output)
        elif found != settings.stored():
            raise DemoError(
                f"{output}: expected a demo with {settings.stored()}, found one with {found}."
                " Choose another --output, or pass --overwrite to start anew."
            )
    elif output.is_dir() and any(output.iterdir()):
        raise DemoError(
            f"{output}: expected an empty folder or one of an earlier demo, found other files."
            " Choose another --output."
        )
    output.mkdir(parents=True, exist_ok=True)
    _write_json(marker, settings.stored())


def _remove_own_files(output: Path) -> None:
    for name in _OWN_FILES:
        path = output / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _prepare(settings: DemoSettings, output: Path, say: Say) -> int:
    marker = output / "prepared.json"
    wanted = {"versions": _versions()}
    if marker.is_file():
        found = _read_json(marker)
        if found.get("versions") == wanted["versions"]:
            say("Pictures and checkpoints are there already.")
            return int(found["samples"])
    # Runs from other weights or pictures must not be compared with new ones.
    if (output / "runs").is_dir():
        shutil.rmtree(output / "runs")
    started = time.monotonic()
    say(f"Drawing {settings.pictures} pictures, making the tiny checkpoints ...")
    try:
        files = write_captions(
            output / "data", count=settings.pictures, seed=settings.seed, with_photographs=True
        )
    except FileNotFoundError as error:
        raise DemoError(str(error)) from error
    write_miniature(output, dataset_texts(files), seed=settings.seed, text_steps=_TEXT_STEPS)
    _write_json(marker, {**wanted, "samples": files.samples})
    say(f"{files.samples} captioned pictures and the checkpoints, {_since(started):.0f} s.")
    return files.samples


def _planned_runs(settings: DemoSettings) -> List[_PlannedRun]:
    weight = repr(settings.weight)
    return [
        _PlannedRun("no-flag", "no flag", ()),
        _PlannedRun("weight-0", "weight 0", ("--regap_weight", "0")),
        _PlannedRun(f"weight-{weight}", f"weight {settings.weight:g}", ("--regap_weight", weight)),
    ]


def training_command(
    script: Path, *, name: str, steps: int, seed: int, flags: Tuple[str, ...] = ()
) -> List[str]:
    """Return the command of one run, with paths relative to the demo's folder.

    The arguments are those of upstream's `scripts/v1_5/pretrain.sh`, except: no DeepSpeed, no bf16
    or tf32, no data workers and no wandb; on the CPU; a smaller batch; a number of steps instead of
    one epoch; plain output; a seed; and the projector's initial weights from a file. The paths are
    relative because upstream takes a model whose path contains "mpt" for an MPT.

    Args:
        script: upstream's `train.py`.
        name: of the run's folder under `runs/`.
        steps: optimiser steps.
        seed: of the trainer.
        flags: appended.
    """
    arguments = {
        "model_name_or_path": "language-model",
        "version": "plain",
        "data_path": "data/captions.json",
        "image_folder": "data/images",
        "vision_tower": "vision-tower",
        "pretrain_mm_mlp_adapter": _PROJECTOR,
        "mm_projector_type": "mlp2x_gelu",
        "tune_mm_mlp_adapter": "True",
        "mm_vision_select_layer": "-2",
        "mm_use_im_start_end": "False",
        "mm_use_im_patch_token": "False",
        "bf16": "False",
        "use_cpu": "True",
        "output_dir": f"runs/{name}",
        "max_steps": str(steps),
        "per_device_train_batch_size": str(_BATCH_SIZE),
        "per_device_eval_batch_size": "4",
        "gradient_accumulation_steps": "1",
        "evaluation_strategy": "no",
        "save_strategy": "steps",
        "save_steps": "24000",
        "save_total_limit": "1",
        "learning_rate": "1e-3",
        "weight_decay": "0.",
        "warmup_ratio": "0.03",
        "lr_scheduler_type": "cosine",
        "logging_steps": "1",
        "model_max_length": "2048",
        "gradient_checkpointing": "True",
        "dataloader_num_workers": "0",
        "lazy_preprocess": "True",
        "report_to": "none",
        "disable_tqdm": "True",
        "seed": str(seed),
    }
    command = [sys.executable, str(script)]
    for argument, value in arguments.items():
        command += [f"--{argument}", value]
    return [*command, *flags]


def _train(
    run: _PlannedRun, script: Path, settings: DemoSettings, output: Path, say: Say, *, place: str
) -> RunRecord:
    folder = output / "runs" / run.name
    marker = output / "runs" / f"{run.name}.completed.json"
    command = training_command(
        script, name=run.name, steps=settings.steps, seed=settings.seed, flags=run.flags
    )
    stored = {"command": command, "versions": _versions()}
    seconds = _finished_seconds(marker, stored, folder)
    if seconds is not None:
        say(f"{place} {run.title}: finished before, in {seconds:.0f} s.")
    else:
        marker.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        marker.parent.mkdir(exist_ok=True)
        seconds = _run_training(run, command, settings, output, say, place=place)
        _write_json(marker, {**stored, "seconds": seconds})
    try:
        history = read_history(folder / _STATE)
    except (OSError, ValueError) as error:
        raise DemoError(str(error)) from error
    return RunRecord(run.name, run.title, tuple(command), seconds, history)


def _finished_seconds(marker: Path, stored: Dict[str, Any], folder: Path) -> Optional[float]:
    if not all(path.is_file() for path in (marker, folder / _PROJECTOR, folder / _STATE)):
        return None
    found = _read_json(marker)
    if {key: found.get(key) for key in stored} != stored:
        return None
    return float(found["seconds"])


def _run_training(
    run: _PlannedRun,
    command: List[str],
    settings: DemoSettings,
    output: Path,
    say: Say,
    *,
    place: str,
) -> float:
    started = time.monotonic()
    log_path = output / "runs" / f"{run.name}.log"
    say(f"{place} {run.title}: starting upstream's train.py ...")
    every = max(1, settings.steps // _PROGRESS_REPORTS)
    step = 0
    with log_path.open("w", encoding="utf-8") as log, _process(command, output) as process:
        assert process.stdout is not None
        for line in process.stdout:
            log.write(line)
            log.flush()
            if line.startswith(_STEP_PREFIX):
                step += 1
                if step % every == 0:
                    say(
                        f"{place} {run.title}: step {step}/{settings.steps},"
                        f" {_since(started):.0f} s"
                    )
        code = process.wait()
    folder = output / "runs" / run.name
    absent = [name for name in (_PROJECTOR, _STATE) if not (folder / name).is_file()]
    if code or absent:
        raise DemoError(_failure(run, code, absent, log_path))
    return _since(started)


@contextlib.contextmanager
def _process(command: List[str], folder: Path) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=_child_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(timeout=_SECONDS_TO_END)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _child_environment() -> Dict[str, str]:
    environment = {**os.environ, **_ENVIRONMENT}
    # The child starts in another folder, where relative entries would mean something else.
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    if paths:
        environment["PYTHONPATH"] = os.pathsep.join(os.path.abspath(path) for path in paths)
    return environment


def _failure(run: _PlannedRun, code: int, absent: List[str], log_path: Path) -> str:
    lines = log_path.read_text(encoding="utf-8").splitlines()
    found = f"exit status {code}" if code else f"no {' and no '.join(absent)} after it"
    message = f"Run {run.title!r}: expected upstream's training to finish, found {found}."
    refused = any("--regap_weight" in line and "not used" in line for line in lines)
    if run.flags and refused:
        message += (
            " Upstream's parser does not know --regap_weight: the plugin is not active in"
            f" {sys.executable}. `regap doctor` says why; `regap activate` or `tox run -e demo`"
            " mends it."
        )
    else:
        message += " The end of its log says why; `tox run -e demo` installs what it needs."
    tail = "\n".join(f"  {line}" for line in lines[-_LOG_TAIL:])
    return f"{message}\nLog: {log_path}\n{tail}"


def _versions() -> Dict[str, str]:
    return {
        "python": platform.python_version(),
        "torch": _version("torch"),
        "transformers": _version("transformers"),
        "llava": _version("llava-torch", "llava"),
        "regap-plugin": _version("regap-plugin"),
    }


def _version(*names: str) -> str:
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(name)
    return "unknown: not installed as a package"


def _since(started: float) -> float:
    return time.monotonic() - started


def _read_json(path: Path) -> Dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DemoError(
            f"{path}: expected JSON of the demo, found {error}. Delete the file and start again."
        ) from error
    if not isinstance(content, dict):
        raise DemoError(
            f"{path}: expected a JSON object, found {type(content).__name__}. Delete the file and"
            " start again."
        )
    return content


def _write_json(path: Path, content: Dict[str, Any]) -> None:
    # Written beside and moved, so that an interruption leaves no half a marker.
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)
