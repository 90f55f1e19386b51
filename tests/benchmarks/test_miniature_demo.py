"""The demo with a fake trainer: what is run, kept, refused, and how a failure is told."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from regap_benchmarks.miniature import demo
from regap_benchmarks.miniature.dataset import DatasetFiles
from regap_benchmarks.miniature.demo import DemoError, DemoSettings, run_demo, training_command

# Takes the same arguments as upstream's train.py and writes the files that it leaves behind.
FAKE_TRAINER = """
import json, pathlib, sys, time

arguments = dict(zip(sys.argv[1::2], sys.argv[2::2]))
if pathlib.Path("refuse").exists() and "--regap_weight" in arguments:
    raise ValueError("Some specified arguments are not used by the HfArgumentParser:"
                     " ['--regap_weight', '0']")
with open("calls.txt", "a") as calls:
    calls.write(arguments["--output_dir"] + "\\n")
weight = float(arguments.get("--regap_weight", -1.0))
log = []
for step in range(1, int(arguments["--max_steps"]) + 1):
    entry = {"step": step, "loss": 1.0 + 1.0 / step}
    if weight >= 0:
        entry.update({"regap/gap": 2.0 - 0.1 * step * (weight > 0), "regap/alpha": 0.5})
        entry["regap/lm_loss"] = entry["loss"]
        entry["loss"] += weight
    log.append(entry)
    print({"loss": entry["loss"], "step": step})
    sys.stdout.flush()
    while pathlib.Path("hang").exists():
        time.sleep(0.02)
if pathlib.Path("fail").exists():
    raise SystemExit("out of luck")
output = pathlib.Path(arguments["--output_dir"])
output.mkdir(parents=True)
(output / "trainer_state.json").write_text(json.dumps({"log_history": log}))
(output / "mm_projector.bin").write_text(str(max(weight, 0.0)))
"""


@pytest.fixture
def script(tmp_path, monkeypatch):
    """Put a fake `train.py` and stand-ins for the parts that need torch and pictures in place."""
    script = tmp_path / "upstream" / "train.py"
    script.parent.mkdir()
    script.write_text(FAKE_TRAINER)

    def write_captions(folder, *, count, seed, with_photographs):
        return DatasetFiles(folder / "captions.json", folder / "images", count)

    monkeypatch.setattr(demo, "_training_script", lambda: script)
    monkeypatch.setattr(demo, "write_captions", write_captions)
    monkeypatch.setattr(demo, "dataset_texts", lambda files: ["a text"])
    monkeypatch.setattr(demo, "write_miniature", lambda folder, texts, **options: None)
    monkeypatch.setattr(demo, "write_plot", lambda report, folder: [])
    monkeypatch.setattr(
        demo,
        "largest_weight_difference",
        lambda first, second: abs(float(first.read_text()) - float(second.read_text())),
    )
    return script


@pytest.fixture
def settings(tmp_path):
    return DemoSettings(output=tmp_path / "out", weight=0.5, steps=6, pictures=4, seed=0)


def _run(settings, **options):
    said = []
    return run_demo(settings, say=said.append, **options), said


def _calls(settings):
    return (settings.output / "calls.txt").read_text().split()


def test_three_runs_are_trained_and_reported(script, settings):
    report, said = _run(settings)
    assert _calls(settings) == ["runs/no-flag", "runs/weight-0", "runs/weight-0.5"]
    assert report.identity.largest_loss_difference == 0.0
    assert report.identity.largest_weight_difference == 0.0
    assert report.effect_on_weights == 0.5
    assert report.samples == 4
    assert [len(run.history) for run in report.runs] == [6, 6, 6]
    assert report.regularised.history[-1]["regap/gap"] == pytest.approx(1.4)
    assert json.loads((settings.output / "report.json").read_text())["samples"] == 4
    assert "# ReGap demo" in (settings.output / "report.md").read_text()
    assert any("step 6/6" in line for line in said)


def test_only_the_flag_sets_the_runs_apart(script, settings):
    report, _ = _run(settings)
    commands = [
        tuple(word.replace(run.name, "NAME") for word in run.command) for run in report.runs
    ]
    plain = commands[0]
    assert commands[1] == (*plain, "--regap_weight", "0")
    assert commands[2] == (*plain, "--regap_weight", "0.5")
    assert "--regap_weight" not in plain


def test_the_command_is_that_of_stage_1():
    command = training_command(Path("train.py"), name="x", steps=7, seed=3)
    assert command[:2] == [sys.executable, "train.py"]
    arguments = dict(zip(command[2::2], command[3::2]))
    assert arguments["--version"] == "plain"
    assert arguments["--tune_mm_mlp_adapter"] == "True"
    assert arguments["--mm_projector_type"] == "mlp2x_gelu"
    assert arguments["--mm_vision_select_layer"] == "-2"
    assert arguments["--max_steps"] == "7"
    assert arguments["--seed"] == "3"
    assert arguments["--output_dir"] == "runs/x"
    # Upstream takes a model whose path contains these letters for an MPT.
    assert "mpt" not in arguments["--model_name_or_path"]


def test_finished_runs_are_not_repeated(script, settings):
    first, _ = _run(settings)
    second, said = _run(settings)
    assert len(_calls(settings)) == 3
    assert sum("finished before" in line for line in said) == 3
    assert [run.seconds for run in second.runs] == [run.seconds for run in first.runs]


def test_an_unfinished_run_starts_again_and_the_others_are_kept(script, settings):
    _run(settings)
    (settings.output / "runs" / "weight-0" / "mm_projector.bin").unlink()
    _run(settings)
    assert _calls(settings)[3:] == ["runs/weight-0"]


def test_a_run_of_another_command_is_repeated(script, settings, monkeypatch):
    _run(settings)
    moved = script.with_name("other.py")
    moved.write_text(FAKE_TRAINER)
    monkeypatch.setattr(demo, "_training_script", lambda: moved)
    _run(settings)
    assert len(_calls(settings)) == 6


def test_other_versions_prepare_and_train_anew(script, settings, monkeypatch):
    _run(settings)
    monkeypatch.setattr(demo, "_versions", lambda: {"torch": "another"})
    _, said = _run(settings)
    assert len(_calls(settings)) == 6
    assert not any("there already" in line for line in said)


def test_overwrite_starts_anew_and_leaves_foreign_files(script, settings):
    _run(settings)
    (settings.output / "note.txt").write_text("mine")
    (settings.output / "calls.txt").unlink()
    report, _ = _run(replace(settings, steps=8), overwrite=True)
    assert len(_calls(settings)) == 3
    assert len(report.plain.history) == 8
    assert (settings.output / "note.txt").read_text() == "mine"


@pytest.mark.parametrize("change", [{"steps": 9}, {"weight": 1.0}, {"seed": 1}, {"pictures": 5}])
def test_a_folder_of_other_settings_is_refused(script, settings, change):
    _run(settings)
    with pytest.raises(DemoError, match=r"expected a demo with .* found one with .*--overwrite"):
        _run(replace(settings, **change))
    assert len(_calls(settings)) == 3


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_of_something_else_is_refused(script, settings, overwrite):
    settings.output.mkdir()
    (settings.output / "thesis.tex").write_text("mine")
    with pytest.raises(DemoError, match=r"found other files\. Choose another"):
        _run(settings, overwrite=overwrite)
    assert [path.name for path in settings.output.iterdir()] == ["thesis.tex"]


def test_a_file_as_output_is_refused(script, settings):
    settings.output.write_text("a file")
    with pytest.raises(DemoError, match="expected a folder, found a file"):
        _run(settings)


def test_a_failed_run_shows_the_end_of_its_log(script, settings):
    settings.output.mkdir()
    _claimed(settings)
    (settings.output / "fail").touch()
    with pytest.raises(DemoError) as raised:
        _run(settings)
    message = str(raised.value)
    assert "found exit status 1" in message
    assert str(settings.output / "runs" / "no-flag.log") in message
    assert "  out of luck" in message
    (settings.output / "fail").unlink()
    _run(settings)


def test_a_refused_flag_points_to_the_activation(script, settings):
    settings.output.mkdir()
    _claimed(settings)
    (settings.output / "refuse").touch()
    with pytest.raises(DemoError, match=r"the plugin is not active .* `regap activate`"):
        _run(settings)


def test_a_run_without_the_gap_is_an_error(script, settings):
    script.write_text(FAKE_TRAINER.replace("regap/gap", "other"))
    with pytest.raises(DemoError, match="expected regap/gap in its log_history, found none"):
        _run(settings)


def test_an_interruption_ends_the_training_process(script, settings, monkeypatch):
    settings.output.mkdir()
    _claimed(settings)
    (settings.output / "hang").touch()
    started = []
    popen = subprocess.Popen

    def watched(*arguments, **options):
        started.append(popen(*arguments, **options))
        return started[-1]

    def interrupt(line):
        if "step 1/" in line:
            raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "Popen", watched)
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_demo(settings, say=interrupt)
    assert [process.returncode for process in started] == [-signal.SIGTERM]
    assert time.monotonic() - begin < 30.0
    (settings.output / "hang").unlink()
    monkeypatch.undo()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": 0.0}, "--weight: expected a finite number above 0, found 0.0"),
        ({"weight": float("nan")}, "--weight: expected a finite number above 0, found nan"),
        ({"steps": 4}, "--steps: expected 5 or more, found 4"),
        ({"pictures": 0}, "--pictures: expected 1 or more, found 0"),
        ({"seed": -1}, "--seed: expected 0 to"),
    ],
)
def test_values_out_of_range_are_refused(settings, change, message):
    with pytest.raises(ValueError, match=message):
        replace(settings, **change)


def test_missing_packages_are_named_with_the_remedy(settings, monkeypatch):
    found = {"torch", "transformers", "PIL"}
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: object() if name in found else None
    )
    with pytest.raises(DemoError, match=r"found no llava, .*`tox run -e demo`") as raised:
        _run(settings)
    assert '"llava-torch==1.2.2.post1"' in str(raised.value)
    assert '"torch"' not in str(raised.value)
    assert not settings.output.exists()


def test_relative_entries_of_the_import_path_stay_what_they_were(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", "here")
    assert demo._child_environment()["PYTHONPATH"] == str(tmp_path / "here")
    assert demo._child_environment()["HF_HUB_OFFLINE"] == "1"


def _claimed(settings):
    (settings.output / "settings.json").write_text(json.dumps(settings.stored()))
