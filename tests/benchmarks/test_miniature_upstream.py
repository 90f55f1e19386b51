"""The real LLaVA trainer takes the miniature: stage 1, stage 2, and the whole demo."""

import importlib.util
import json
import os
import subprocess
import sysconfig
from pathlib import Path

import pytest

from regap_benchmarks.miniature.base import RECIPES, build_language
from regap_benchmarks.miniature.checkpoints import write_miniature
from regap_benchmarks.miniature.dataset import (
    dataset_texts,
    write_captions,
    write_conversations,
)
from regap_benchmarks.miniature.demo import run_demo
from regap_benchmarks.miniature.findings import findings
from regap_benchmarks.miniature.measuring import MeasureSettings
from regap_benchmarks.miniature.study import StudySettings
from regap_benchmarks.miniature.upstream_training import StageOne

_NEEDED = ("llava", "torch", "transformers", "sentencepiece", "PIL", "skimage", "matplotlib")
_MISSING = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
_ACTIVATION = Path(sysconfig.get_path("purelib")) / "regap_plugin.pth"

pytestmark = [
    pytest.mark.upstream,
    # What torch and transformers warn of while the checkpoints are made is theirs.
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(
        bool(_MISSING), reason=f"no {', '.join(_MISSING)}: `tox run -e demo` installs all"
    ),
]


def _script():
    spec = importlib.util.find_spec("llava")
    return Path(next(iter(spec.submodule_search_locations))) / "train" / "train.py"


def _run(command, folder):
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


def _stage(name):
    return StageOne(
        name, "language-model", "vision-tower", "mm_projector.bin", "data", seed=0, steps=2
    )


def test_stage_1_trains_the_projector_that_was_written(tmp_path):
    torch = pytest.importorskip("torch", reason="pip install torch")
    files = write_captions(tmp_path / "data", count=8, seed=0, with_photographs=True)
    miniature = write_miniature(tmp_path, dataset_texts(files), seed=0)
    _run(_stage("one").command(_script()), tmp_path)
    before = torch.load(miniature.projector, weights_only=True)
    after = torch.load(tmp_path / "runs" / "one" / "mm_projector.bin", weights_only=True)
    assert {key: value.shape for key, value in after.items()} == {
        key: value.shape for key, value in before.items()
    }
    assert any(not torch.equal(after[key], before[key]) for key in before)


def test_stage_2_takes_conversations_with_and_without_a_picture(tmp_path):
    files = write_conversations(tmp_path / "data", count=12, seed=0)
    write_miniature(tmp_path, dataset_texts(files), seed=0)
    command = _stage("two").command(_script())
    arguments = dict(zip(command[2::2], command[3::2]))
    arguments["--version"] = "v1"
    arguments["--data_path"] = "data/conversations.json"
    arguments["--tune_mm_mlp_adapter"] = "False"
    words = [word for pair in arguments.items() for word in pair]
    output = _run([*command[:2], *words], tmp_path)
    # Upstream prints this and masks the sample out where its template and the tokenizer disagree.
    assert "tokenization mismatch" not in output
    state = json.loads((tmp_path / "runs" / "two" / "trainer_state.json").read_text())
    assert len([entry for entry in state["log_history"] if entry.get("loss", 0.0) > 0.0]) == 2


@pytest.mark.skipif(
    not _ACTIVATION.is_file(), reason="the plugin's .pth is missing: pip install . (not -e)"
)
def test_the_study_shows_identity_a_smaller_gap_and_a_frozen_alpha(tmp_path, monkeypatch):
    pytest.importorskip("scipy")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    settings = StudySettings(
        output=tmp_path / "attempt",
        seeds=(0, 1),
        weights=(4.0,),
        steps=12,
        pictures=32,
        recipe="test",
        measure=MeasureSettings(
            pairs=6, resamples=2, captions=4, questions=4, conditions=("none", "blank")
        ),
    )
    said = []
    report = run_demo(settings, say=said.append)
    assert report.identity.same_losses
    assert report.identity.same_weights
    words = []
    for seed in (0, 1):
        own = [each for each in report.checkpoints if each.seed == seed]
        gaps = {each.weight: each.get("gap:pairwise_l2:0") for each in own}
        assert gaps[4.0] < gaps[0.0]
        words.append(findings(own))
    assert words[0] != words[1]  # another seed gives other numbers and other words
    assert all(alpha is not None for name, alpha in report.alpha.items() if "no-flag" not in name)
    written = json.loads((tmp_path / "attempt" / "report.json").read_text())
    assert written["findings"] == list(report.sentences)
    for name in ("report.md", "demo.png", "demo.svg"):
        assert (tmp_path / "attempt" / name).stat().st_size > 0
    first = sum("begins" in line for line in said)
    said.clear()
    run_demo(settings, say=said.append)
    assert first > 0
    assert not any("begins" in line or "measured" in line for line in said)


def test_a_seed_decides_world_and_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folders = [build_language(RECIPES["test"], seed=seed) for seed in (0, 1)]
    worlds = [(folder / "world.json").read_text() for folder in folders]
    assert worlds[0] != worlds[1]
    weights = [(folder / "language-model" / "model.safetensors").read_bytes() for folder in folders]
    assert weights[0] != weights[1]
    again = build_language(RECIPES["test"], seed=0, rebuild=True)
    assert (again / "language-model" / "model.safetensors").read_bytes() == weights[0]
