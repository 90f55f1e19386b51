"""The stand-in has upstream's names and parameters, and the patch fits what it stands in for."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Dict

import pytest

pytest.importorskip("torch", reason="pip install torch")
pytest.importorskip("omegaconf", reason="what MiniGPT-4 reads its YAML with")

from minigpt.harness import FOLDER, STAND_IN, Codebase, available

MODULES = sorted(
    ".".join(path.relative_to(STAND_IN).with_suffix("").parts).replace(".__init__", "")
    for path in (STAND_IN / "minigpt4").rglob("*.py")
)
# What the patch itself names; a rename here is a rename in patches/minigpt4.py.
PATCHED = (
    "minigpt4.common.config.Config.to_dict",
    "minigpt4.common.logger.MetricLogger.update",
    "minigpt4.models.minigpt_base.MiniGPTBase.forward",
    "minigpt4.models.minigpt_base.MiniGPTBase.prompt_wrap",
    "minigpt4.models.modeling_llama.LlamaForCausalLM.forward",
    "minigpt4.runners.runner_base.RunnerBase._load_checkpoint",
    "minigpt4.runners.runner_base.RunnerBase._save_checkpoint",
    "minigpt4.runners.runner_base.RunnerBase.train",
    "minigpt4.tasks.base_task.BaseTask._train_inner_loop",
    "minigpt4.tasks.base_task.BaseTask.build_model",
)


def _contract(codebase: Codebase) -> Dict[str, Any]:
    done = subprocess.run(
        [
            sys.executable,
            str(FOLDER / "contract.py"),
            str(codebase.root),
            codebase.name,
            *MODULES,
        ],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONWARNINGS": "ignore", "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == 0, done.stderr
    line = next(line for line in done.stdout.splitlines() if line.startswith("CONTRACT"))
    found: Dict[str, Any] = json.loads(line.split(" ", 1)[1])
    return found


def test_the_stand_in_has_all_that_the_patch_names() -> None:
    found = _contract(Codebase(STAND_IN, real=False))
    assert not [name for name in PATCHED if name not in found]


def test_the_stand_in_has_not_drifted_from_upstream() -> None:
    real = [codebase for codebase in available() if codebase.real]
    if not real or find_spec("webdataset") is None:
        pytest.skip("upstream's checkout and its libraries: set REGAP_MINIGPT4_SRC")
    upstream = _contract(real[0])
    for name, parameters in _contract(Codebase(STAND_IN, real=False)).items():
        own = name.split(".")[-1]
        if own.startswith("_") and name not in upstream:
            continue  # the stand-in's own, named so
        assert name in upstream, f"{name}: the stand-in has it, upstream has not"
        if own == "__init__":
            assert set(parameters) <= set(upstream[name]), name
        else:
            assert parameters == upstream[name], name


def test_the_stand_in_says_that_it_is_one() -> None:
    text = (STAND_IN / "minigpt4" / "__init__.py").read_text(encoding="utf-8")
    for name in PATCHED:
        assert name.rsplit(".", 1)[1].split("(")[0] in text, name
    assert not list(Path(STAND_IN).rglob("*.yaml"))
