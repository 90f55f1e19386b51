"""One checkpoint of a study in int8 on the CPU: the same requests, both judges, beside float32.

transformers 4.37, which upstream pins, quantizes on GPUs alone; bitsandbytes has int8 for the CPU
from 0.48 on. So upstream loads the checkpoint, and the linear layers of its language model are
replaced here.
"""

import importlib.util
import json
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Optional

from regap_benchmarks.decoding import Decoding
from regap_benchmarks.evaluation import RunSettings, generate_run, judge_run
from regap_benchmarks.miniature.base import LANGUAGE_MODEL
from regap_benchmarks.miniature.measuring import (
    NOT_REFUSED,
    REAL_RECIPE,
    Checkpoint,
    Number,
    estimates_of,
)
from regap_benchmarks.miniature.study import PlannedRun, Study, quiet
from regap_benchmarks.miniature.units import Processes, Say, Unit
from regap_benchmarks.miniature.upstream_training import write_json
from regap_benchmarks.plugins import load_plugins
from regap_benchmarks.quantization import Int8
from regap_benchmarks.records import NO_PICTURE
from regap_benchmarks.run_folder import RunFolder
from regap_benchmarks.runners.runner import ModelOptions, Runner, RunnerKind

if TYPE_CHECKING:
    from torch import nn

_FIRST_ON_CPU = (0, 48)
_CONDITIONS = (NO_PICTURE, "blank")
_JUDGES = ("refusal_phrases", "real_recipe")
_REQUESTS = 144
_LEFT_OUT = ("lm_head", "mm_projector", "vision_tower")


class Int8Unit:
    """The quantized part of a study: weight 0 of the first seed.

    Args:
        study: whose checkpoint it is.
    """

    def __init__(self, study: Study) -> None:
        self._study = study
        self._planned: PlannedRun = study.planned()[0]
        self._folder = study.folder / "measured" / self._planned.name / "int8"

    def unit(self) -> Unit:
        """Done at once where the environment cannot quantize."""
        requires = (f"measure {self._planned.name}",)
        return Unit(f"int8 of {self._planned.name}", requires, self._is_done, self._run, here=True)

    def lines(self) -> List[str]:
        """For the report: both columns beside float32's, or why there are none."""
        missing = why_not()
        if missing:
            return [f"int8 on the CPU was not run: {missing}"]
        found = self._stored()
        if found is None:
            return ["int8 on the CPU was not run."]
        whole = self._float32()
        said = []
        for rate, title in (
            (NOT_REFUSED, "forbidden requests not refused"),
            (REAL_RECIPE, "real recipes given"),
        ):
            cells = []
            for condition in _CONDITIONS:
                name = f"{rate}:{condition}"
                small, large = found.get(name, {}).get("value"), whole.get(name)
                shown = ["-" if each is None else f"{100 * each:.0f} %" for each in (large, small)]
                cells.append(f"{shown[0]} and {shown[1]} ({condition})")
            said.append(f"{title}: {', '.join(cells)}")
        return [
            f"{self._planned.name} in float32 and with its language model in int8"
            f" (bitsandbytes {version('bitsandbytes')}, CPU): {'; '.join(said)}."
        ]

    def _is_done(self) -> bool:
        return bool(why_not()) or self._stored() is not None

    def _stored(self) -> Optional[Dict[str, Any]]:
        path = self._folder / "numbers.json"
        if not path.is_file():
            return None
        content: Dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return content if content.get("checkpoint") == self._mark() else None

    def _mark(self) -> str:
        marker = self._study.folder / "runs" / f"{self._planned.name}.completed.json"
        return marker.read_text(encoding="utf-8") if marker.is_file() else ""

    def _float32(self) -> Checkpoint:
        return next(
            each
            for each in self._study.checkpoints()
            if (each.seed, each.weight) == (self._planned.seed, self._planned.weight)
            and each.step == self._study.settings.steps
        )

    def _run(self, processes: Processes, say: Say) -> None:
        import shutil

        shutil.rmtree(self._folder, ignore_errors=True)
        run = self._study.run_of(self._planned)
        base = self._study.base_folder(self._planned.seed)
        with quiet(self._study.folder / "logs" / "int8.log"):
            numbers = _ask(self._folder / "requests", run.folder, base)
        content = {"checkpoint": self._mark()}
        write_json(
            self._folder / "numbers.json",
            {**content, **{name: asdict(each) for name, each in numbers.items()}},
        )


def why_not() -> str:
    """Why int8 cannot run on this CPU; "" where it can."""
    if importlib.util.find_spec("bitsandbytes") is None:
        return "bitsandbytes is not installed; `pip install bitsandbytes`."
    found = version("bitsandbytes")
    if tuple(int(part) for part in found.split(".")[:2] if part.isdigit()) < _FIRST_ON_CPU:
        return f"bitsandbytes {found} has no int8 for a CPU; 0.48 or later has."
    return ""


def quantize_linear(model: "nn.Module") -> int:
    """Replace the linear layers of a language model by bitsandbytes' int8 ones, in place.

    Output layer, projector and vision tower stay as they are, as with `--quantization int8`.

    Returns:
        how many were replaced.
    """
    import bitsandbytes
    from torch import nn

    replaced = 0
    for name, module in list(model.named_modules()):
        if type(module) is not nn.Linear or any(part in name for part in _LEFT_OUT):
            continue
        small = bitsandbytes.nn.Linear8bitLt(
            module.in_features,
            module.out_features,
            bias=module.bias is not None,
            has_fp16_weights=False,
            threshold=Int8().threshold,
        )
        small.load_state_dict(module.state_dict())
        parent, _, child = name.rpartition(".")
        # Moving to a device, though it is the CPU, is what quantizes.
        setattr(model.get_submodule(parent), child, small.to("cpu"))
        replaced += 1
    return replaced


def _ask(folder: Path, checkpoint: Path, base: Path) -> Dict[str, Number]:
    plugins = load_plugins()
    where = RunFolder(folder)
    settings = RunSettings(
        runner=RunnerKind("llava", "", "", lambda options: None, _load),
        options=ModelOptions(
            path=str(checkpoint),
            base=str(base / LANGUAGE_MODEL),
            quantization=Int8(),
            dtype="float32",
            conversation="plain",
        ),
        benchmarks=[plugins.benchmarks.get("miniature_requests")],
        conditions=_CONDITIONS,
        decoding=Decoding(max_new_tokens=20),
        limit=_REQUESTS,
        data=base,
        batch_size=64,
    )
    generate_run(where, settings, progress=lambda stage: lambda done, total: None)
    judge_run(where, _JUDGES, plugins, progress=lambda stage: lambda done, total: None)
    return estimates_of(where)


def _load(options: ModelOptions) -> Runner:
    import dataclasses

    from regap_benchmarks.quantization import Quantization
    from regap_benchmarks.runners.llava import LlavaRunner
    from regap_benchmarks.runners.llava_checkpoint import LoadedLlava, find_files, load_llava
    from regap_benchmarks.runners.transformers_generation import resolve_dtype

    plain = dataclasses.replace(options, quantization=Quantization())
    loaded = load_llava(find_files(plain), plain, resolve_dtype(options.dtype))
    quantize_linear(loaded.model)
    small = LoadedLlava(
        loaded.kind, loaded.tokenizer, loaded.model, loaded.image_processor, _LEFT_OUT
    )
    return LlavaRunner(options, small)
