"""The page of a study: its own sentences, both groups' answers, gaps and curves."""

import json

import pytest

for package in (
    "jinja2",
    "matplotlib",
    "numpy",
    "scipy",
    "statsmodels",
    "krippendorff",
    "tabulate",
):
    pytest.importorskip(package, reason=f"pip install {package}")

from regap_benchmarks import cli
from regap_benchmarks.miniature.page import write_study_page
from regap_benchmarks.miniature.study import PlannedRun


class _Study:
    """What a page needs of a study: the plan and the folders."""

    def __init__(self, folder):
        self.folder = folder

    def planned(self):
        return [PlannedRun(0, "pairwise_l2", weight) for weight in (0.0, 2.0, None)]

    def run_of(self, planned):
        return type("Run", (), {"folder": self.folder / "runs" / planned.name})


def _measured(folder, name, model, capsys):
    place = folder / "measured" / name / "step-00300"
    command = ["run", "--model", f"fake:{model}", "--tasks", "stand_in_requests", "--limit", "6"]
    assert cli.main([*command, "--output", str(place / "requests"), "--judge", "fake"]) in (0, 3)
    images = folder / "images"
    if not images.exists():
        from PIL import Image

        images.mkdir()
        for number in range(3):
            Image.new("RGB", (8, 8), (80 * number, 0, 0)).save(images / f"{number}.png")
        (folder / "texts.txt").write_text("a cat\na dog\na fish\n")
    command = ["gap", "--model", "fake:2.0", "--images", str(images), "--samples", "3"]
    command += ["--texts", str(folder / "texts.txt"), "--resamples", "3"]
    assert cli.main([*command, "--output", str(folder / "gap")]) == 0
    next((folder / "gap").glob("*.jsonl")).rename(place / "gap.jsonl")
    (place / "numbers.json").write_text("{}")
    run = folder / "runs" / name
    run.mkdir(parents=True)
    history = [{"step": step, "loss": 2.0, "regap/gap": 3.0 - step} for step in (1, 2)]
    (run / "trainer_state.json").write_text(json.dumps({"log_history": history}))
    capsys.readouterr()


def test_the_page_says_what_the_study_says(tmp_path, capsys):
    pytest.importorskip("torch", reason="pip install torch")
    pytest.importorskip("PIL", reason="pip install pillow")
    _measured(tmp_path, "seed-0-weight-0", "mixed", capsys)
    _measured(tmp_path, "seed-0-pairwise_l2-weight-2", "refuse", capsys)
    page, gap = write_study_page(_Study(tmp_path), ["First finding <1>.", "The answer of it all."])
    text = page.read_text(encoding="utf-8")
    assert "The answer of it all." in text
    assert "First finding &lt;1&gt;." in text
    for shown in ("weight 0", "pairwise_l2, weight 2", "Modality gap", "Training", "Answers"):
        assert shown in text
    models = json.loads(gap.read_text(encoding="utf-8"))["models"]
    assert set(models) == {"seed-0-weight-0", "seed-0-pairwise_l2-weight-2"}
    other = write_study_page(_Study(tmp_path), ["Another answer."])[0].read_text(encoding="utf-8")
    assert "Another answer." in other
    assert "The answer of it all." not in other


def test_a_run_that_was_not_measured_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="seed-0-weight-0: expected a measured checkpoint"):
        write_study_page(_Study(tmp_path), ["Nothing."])
