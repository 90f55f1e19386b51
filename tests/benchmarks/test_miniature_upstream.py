"""The real LLaVA trainer takes the miniature: stage 1, stage 2, and the whole demo."""

import importlib.util
import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from regap_benchmarks.miniature.checkpoints import write_miniature
from regap_benchmarks.miniature.dataset import (
    dataset_texts,
    write_captions,
    write_conversations,
)
from regap_benchmarks.miniature.demo import training_command

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


def test_stage_1_trains_the_projector_that_was_written(tmp_path):
    torch = pytest.importorskip("torch", reason="pip install torch")
    files = write_captions(tmp_path / "data", count=8, seed=0, with_photographs=True)
    miniature = write_miniature(tmp_path, dataset_texts(files), seed=0)
    _run(training_command(_script(), name="one", steps=2, seed=0), tmp_path)
    before = torch.load(miniature.projector, weights_only=True)
    after = torch.load(tmp_path / "runs" / "one" / "mm_projector.bin", weights_only=True)
    assert {key: value.shape for key, value in after.items()} == {
        key: value.shape for key, value in before.items()
    }
    assert any(not torch.equal(after[key], before[key]) for key in before)


def test_stage_2_takes_conversations_with_and_without_a_picture(tmp_path):
    files = write_conversations(tmp_path / "data", count=12, seed=0)
    write_miniature(tmp_path, dataset_texts(files), seed=0)
    command = training_command(_script(), name="two", steps=2, seed=0)
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
def test_the_demo_shows_identity_and_a_smaller_gap(tmp_path):
    words = ["demo", "--steps", "12", "--pictures", "16", "--weight", "2", "--output", "attempt"]
    output = _run([sys.executable, "-m", "regap_benchmarks", *words], tmp_path)
    report = json.loads((tmp_path / "attempt" / "report.json").read_text())
    assert report["identity"]["same_losses"]
    assert report["identity"]["same_weights"]
    assert report["effect_on_weights"] > 0.0
    measured, regularised = (report[run]["history"][-1] for run in ("measured", "regularised"))
    assert regularised["regap/gap"] < measured["regap/gap"]
    assert "identical per-step losses: yes" in output
    for name in ("report.md", "gap.png", "gap.svg"):
        assert (tmp_path / "attempt" / name).stat().st_size > 0
