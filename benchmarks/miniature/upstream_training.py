"""Trainings of the miniature by upstream's own `train.py`, run as subprocesses.

The arguments are those of upstream's `scripts/v1_5/pretrain.sh`, smaller sizes and the CPU aside;
a second stage trains the language model too, as `finetune.sh` does.
"""

import importlib.metadata
import importlib.util
import json
import os
import platform
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple

from regap_benchmarks.miniature.units import Processes, Say, UnitError

MINIMUM_STEPS = 5
PROJECTOR, STATE = "mm_projector.bin", "trainer_state.json"
WHOLE = ("model.safetensors", "pytorch_model.bin")
_PROGRESS_REPORTS = 3
_LOG_TAIL = 15
_STEP_PREFIX = "{'loss'"
# Everything is on disk: a hub that is asked anyway costs minutes of retries without a network.
ENVIRONMENT = {
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
    "matplotlib": "matplotlib",
    "scipy": "scipy",
}


@dataclass(frozen=True)
class StageOne:
    """One run of upstream's trainer.

    Attributes:
        name: of the run and its folder.
        base: folder of the language model, relative to the study's: upstream takes a model whose
            path contains "mpt" for an MPT.
        tower: folder of the vision tower, absolute, as the checkpoint keeps it.
        projector: its initial weights, relative: upstream draws them before it seeds.
        data: folder of the captioned pictures, relative.
        seed: of the trainer.
        steps: optimiser steps.
        batch: pictures of a step.
        save_every: steps between checkpoints beside the last; 0 for none.
        flags: appended to upstream's arguments.
        whole: whether the language model is trained too, and the whole model saved: stage 2.
        rate: learning rate, as upstream's argument.
        device: "cpu", or "cuda", where it trains in bfloat16 as upstream's scripts do.
    """

    name: str
    base: str
    tower: str
    projector: str
    data: str
    seed: int
    steps: int
    batch: int = 16
    save_every: int = 0
    flags: Tuple[str, ...] = ()
    whole: bool = False
    rate: str = "1e-3"
    device: str = "cpu"

    @property
    def weights(self) -> Tuple[str, ...]:
        """Names of the files that hold what was trained; one of them is there."""
        return WHOLE if self.whole else (PROJECTOR,)

    def command(self, script: Path) -> List[str]:
        """The command, for the study's folder as the working one.

        It differs from upstream's script in this: no DeepSpeed, no bf16 or tf32, no gradient
        checkpointing, no data workers and no wandb; on the CPU; a smaller batch; a number of steps
        instead of one epoch; plain output; a seed; and the projector's initial weights from a file.
        """
        arguments = {
            "model_name_or_path": self.base,
            "version": "plain",
            "data_path": f"{self.data}/captions.json",
            "image_folder": f"{self.data}/images",
            "vision_tower": self.tower,
            "pretrain_mm_mlp_adapter": self.projector,
            "mm_projector_type": "mlp2x_gelu",
            "tune_mm_mlp_adapter": str(not self.whole),
            "mm_vision_select_layer": "-2",
            "mm_use_im_start_end": "False",
            "mm_use_im_patch_token": "False",
            "bf16": str(self.device != "cpu"),
            "use_cpu": str(self.device == "cpu"),
            "output_dir": f"runs/{self.name}",
            "max_steps": str(self.steps),
            "per_device_train_batch_size": str(self.batch),
            "per_device_eval_batch_size": "4",
            "gradient_accumulation_steps": "1",
            "evaluation_strategy": "no",
            "save_strategy": "steps",
            "save_steps": str(self.save_every or 24000),
            "learning_rate": self.rate,
            "weight_decay": "0.",
            "warmup_ratio": "0.03",
            "lr_scheduler_type": "cosine",
            "logging_steps": "1",
            "model_max_length": "2048",
            "gradient_checkpointing": "False",
            "dataloader_num_workers": "0",
            "lazy_preprocess": "True",
            "report_to": "none",
            "disable_tqdm": "True",
            "seed": str(self.seed),
        }
        words = [sys.executable, str(script)]
        for argument, value in arguments.items():
            words += [f"--{argument}", value]
        return [*words, *self.flags]


class UpstreamRun:
    """A run in a study's folder, finished or not.

    Args:
        study: the folder.
        stage: what is trained.
        script: upstream's `train.py`.
    """

    def __init__(self, study: Path, stage: StageOne, script: Path) -> None:
        self._study = study
        self.stage = stage
        self._command = stage.command(script)
        self.folder = study / "runs" / stage.name
        self._marker = study / "runs" / f"{stage.name}.completed.json"
        self.log = study / "runs" / f"{stage.name}.log"

    @property
    def command(self) -> Tuple[str, ...]:
        """What is run, in the study's folder."""
        return tuple(self._command)

    def is_done(self) -> bool:
        """Whether it finished with the same command and versions."""
        found = self._found()
        return found is not None and all(
            found.get(key) == value for key, value in self._stored().items()
        )

    def seconds(self) -> float:
        """How long the finished run took."""
        found = self._found()
        return float(found["seconds"]) if found is not None else 0.0

    def checkpoints(self) -> Dict[int, Path]:
        """The folders with a projector, by step; the last is the run's own."""
        found = {}
        for folder in self.folder.glob("checkpoint-*"):
            if self._has_weights(folder):
                found[int(folder.name.partition("-")[2])] = folder
        # Upstream saves the last step under both names.
        found[self.stage.steps] = self.folder
        return dict(sorted(found.items()))

    def train(self, processes: Processes, say: Say) -> None:
        """Run it; an unfinished one begins anew, as upstream cannot resume stage 1.

        Raises:
            UnitError: it failed; with the end of its log.
        """
        import shutil

        self._marker.unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)
        started = time.monotonic()
        steps = self.stage.steps
        every = max(1, steps // _PROGRESS_REPORTS)
        step = 0

        def on_line(line: str) -> None:
            nonlocal step
            if line.startswith(_STEP_PREFIX):
                step += 1
                if step % every == 0:
                    say(f"step {step}/{steps}, {time.monotonic() - started:.0f} s")

        code = processes.run(
            self._command,
            folder=self._study,
            environment=child_environment(),
            log=self.log,
            on_line=on_line,
        )
        absent = [] if self._has_weights(self.folder) else [self.stage.weights[0]]
        absent += [] if (self.folder / STATE).is_file() else [STATE]
        if code or absent:
            raise UnitError(self._failure(code, absent))
        content = {**self._stored(), "seconds": time.monotonic() - started}
        write_json(self._marker, content)

    def _stored(self) -> Dict[str, Any]:
        return {"command": list(self._command), "versions": versions()}

    def _has_weights(self, folder: Path) -> bool:
        return any((folder / name).is_file() for name in self.stage.weights)

    def _found(self) -> Optional[Mapping[str, Any]]:
        files = (self._marker, self.folder / STATE)
        if not all(path.is_file() for path in files) or not self._has_weights(self.folder):
            return None
        with suppress(ValueError):
            content = json.loads(self._marker.read_text(encoding="utf-8"))
            return content if isinstance(content, dict) else None
        return None

    def _failure(self, code: int, absent: List[str]) -> str:
        lines = self.log.read_text(encoding="utf-8").splitlines()
        found = f"exit status {code}" if code else f"no {' and no '.join(absent)} after it"
        message = f"Run {self.stage.name!r}: expected upstream's training to finish, found {found}."
        refused = any("--regap_weight" in line and "not used" in line for line in lines)
        if self.stage.flags and refused:
            message += (
                " Upstream's parser does not know --regap_weight: the plugin is not active in"
                f" {sys.executable}. `regap doctor` says why; `regap activate` or `tox run -e demo`"
                " mends it."
            )
        else:
            message += " The end of its log says why; `tox run -e demo` installs what it needs."
        tail = "\n".join(f"  {line}" for line in lines[-_LOG_TAIL:])
        return f"{message}\nLog: {self.log}\n{tail}"


def training_script() -> Path:
    """Upstream's `train.py` as it is installed.

    Raises:
        UnitError: a package is missing.
    """
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        packages = " ".join(f'"{_PACKAGES[name]}"' for name in missing)
        raise UnitError(
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
    raise UnitError(
        f"llava: expected a package with train/train.py, found {folders}. Install"
        f" {_PACKAGES['llava']}."
    )


def child_environment() -> Dict[str, str]:
    """For a process in another folder, where relative entries would mean something else."""
    environment = {**os.environ, **ENVIRONMENT}
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    if paths:
        environment["PYTHONPATH"] = os.pathsep.join(os.path.abspath(path) for path in paths)
    return environment


def versions() -> Dict[str, str]:
    """Of all that decides a training."""
    return {
        "python": platform.python_version(),
        "torch": _version("torch"),
        "transformers": _version("transformers"),
        "llava": _version("llava-torch", "llava"),
        "regap-plugin": _version("regap-plugin"),
    }


def write_json(path: Path, content: Any) -> None:
    """Write beside and move, so that an interruption leaves no half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


def _version(*names: str) -> str:
    for name in names:
        with suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(name)
    return "unknown: not installed as a package"
