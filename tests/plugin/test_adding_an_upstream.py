"""docs/adding-an-upstream.md, walked through: a toy codebase, its patch, one training each."""

import functools
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Dict, List, Tuple

import pytest

torch = pytest.importorskip("torch", reason="the toy trains: pip install torch")

PAGE = Path(__file__).parents[2] / "docs" / "adding-an-upstream.md"
ROOT = Path(__file__).parents[2]


def blocks() -> Dict[str, str]:
    text = PAGE.read_text(encoding="utf-8")
    found = re.findall(r"^```\w+\n# file: (\S+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert len(dict(found)) == len(found), "two of one name"
    return dict(found)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the page, the patch with the metadata that an install would leave."""
    path = tmp_path_factory.mktemp("toy")
    metadata = path / "regap_toylvlm-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: regap-toylvlm\nVersion: 1.0\n")
    files = blocks()
    assert set(files) == {"toylvlm.py", "train_toy.py", "regap_toylvlm.py", "entry_points.txt"}
    for name, text in files.items():
        (metadata if name == "entry_points.txt" else path).joinpath(name).write_text(text)
    return path


def run(folder: Path, *arguments: str, launcher: bool = True) -> "subprocess.CompletedProcess[str]":
    """Train by `regap train`, which needs no `.pth`: the tests run without an install too."""
    command = ["-m", "regap_plugin", "train", "train_toy.py"] if launcher else ["train_toy.py"]
    return subprocess.run(
        [sys.executable, *command, *arguments],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(folder), *_importable()]),
            "OMP_NUM_THREADS": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )


def _importable() -> List[str]:
    import regap_plugin

    home = str(Path(regap_plugin.__file__).parents[1])
    return [home] if home == str(ROOT) else []


@functools.cache
def trained(folder: Path, *arguments: str, launcher: bool = True) -> Tuple[List[Dict], Dict]:
    """Log and weights of one training; each is run once."""
    output = folder / "-".join(["out", *arguments])
    done = run(folder, "--output", str(output), *arguments, launcher=launcher)
    assert done.returncode == 0, done.stdout + done.stderr
    logs = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return logs, torch.load(output / "model.pt", weights_only=True)


def test_the_gap_is_in_the_loss(folder: Path) -> None:
    plain, plain_weights = trained(folder, launcher=False)
    active, weights = trained(folder, "--regap_weight", "0.5")
    assert len(plain) == len(active) == 6
    # Two warm-up steps measure alpha; upstream's loss is untouched there.
    assert [entry["loss"] for entry in active[:2]] == [entry["loss"] for entry in plain[:2]]
    alpha = sum(e["regap/lm_loss"] for e in active[:2]) / sum(e["regap/gap"] for e in active[:2])
    for entry in active[2:]:
        added = 0.5 * alpha * entry["regap/gap"]
        assert added > 0
        assert entry["loss"] == pytest.approx(entry["regap/lm_loss"] + added, rel=1e-5)
    assert not torch.equal(weights["projector.weight"], plain_weights["projector.weight"])
    assert torch.equal(weights["table.weight"], plain_weights["table.weight"])


def test_the_gap_is_that_of_the_definition(folder: Path) -> None:
    logs, _ = trained(folder, "--regap_weight", "0")
    code = (
        "import torch, toylvlm as t\n"
        "torch.manual_seed(0)\n"
        "m = t.Model()\n"
        "pixels, tokens = t.Trainer(m, None).batch()\n"
        "v, w = m.projector(pixels), m.table(tokens)\n"
        "g = [torch.stack([(a - b).norm() for a in v[i] for b in w[i][tokens[i] != 0]]).mean()\n"
        "     for i in range(4)]\n"
        "print(torch.stack(g).mean().item())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True
    )
    assert logs[0]["regap/gap"] == pytest.approx(float(done.stdout), rel=1e-5)


def test_without_the_flag_and_with_weight_zero_it_is_upstream(folder: Path) -> None:
    plain, weights = trained(folder, launcher=False)
    idle, idle_weights = trained(folder)
    assert idle == plain
    measured, measured_weights = trained(folder, "--regap_weight", "0")
    assert [entry["loss"] for entry in measured] == [entry["loss"] for entry in plain]
    assert all("regap/gap" in entry for entry in measured)
    for other in (idle_weights, measured_weights):
        assert all(torch.equal(weights[name], other[name]) for name in weights)


def test_the_checkpoint_says_so(folder: Path) -> None:
    trained(folder, "--regap_weight", "0.5")
    state = json.loads((folder / "out---regap_weight-0.5" / "regap_state.json").read_text())
    assert state["upstream"]["name"] == "toylvlm"
    assert state["config"]["weight"] == 0.5
    assert state["step"] == 6


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--regap_wieght", "0.5"], "Did you mean '--regap_weight'?"),
        (["--regap_weight", "-1"], "regap weight: expected a finite number >= 0, found -1.0"),
        (["--regap_weight", "1", "--warmup", "6"], "expected a calibration shorter than the run"),
    ],
)
def test_bad_settings_are_refused(folder: Path, arguments: List[str], expected: str) -> None:
    done = run(folder, *arguments)
    assert done.returncode != 0
    assert expected in done.stderr
    assert '"loss"' not in done.stdout


def test_a_later_version_of_another_shape_is_refused(folder: Path, tmp_path: Path) -> None:
    for path in folder.glob("*.py"):
        text = path.read_text().replace(
            "def forward(self, pixels, tokens):", "def forward(self, batch):"
        )
        (tmp_path / path.name).write_text(text if path.name == "toylvlm.py" else path.read_text())
    metadata = "regap_toylvlm-1.0.dist-info"
    (tmp_path / metadata).mkdir()
    for path in (folder / metadata).iterdir():
        (tmp_path / metadata / path.name).write_text(path.read_text())
    done = run(tmp_path, "--regap_weight", "0.5")
    assert done.returncode != 0
    assert (
        "toylvlm.Model.forward: expected the parameters (self, pixels, tokens), found"
        in done.stderr
    )


def test_patch_and_revert_are_a_pair(folder: Path) -> None:
    code = (
        "import toylvlm as t, regap_toylvlm as r\n"
        "from regap_plugin import ReGapConfig\n"
        "methods = lambda: [t.Options.parse, t.Model.forward, t.Trainer.run, t.Trainer.log,\n"
        "                   t.Trainer.save]\n"
        "before, patch = methods(), r.ToyLVLM()\n"
        "patch.apply(); patch.apply(); patch.start(ReGapConfig(weight=1.0))\n"
        "assert not any(a is b for a, b in zip(before, methods()))\n"
        "patch.revert()\n"
        "assert methods() == before\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *_importable()])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
