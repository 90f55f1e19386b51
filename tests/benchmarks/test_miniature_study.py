"""A study with a fake trainer: what is planned, run, kept and refused; the cache of its bases."""

import dataclasses
import json
import sys
from pathlib import Path

import pytest

from regap_benchmarks.miniature import study as study_module
from regap_benchmarks.miniature import upstream_training
from regap_benchmarks.miniature.cache import cache_folder, found_of, key_of, make_cached, place_of
from regap_benchmarks.miniature.study import Study, StudySettings
from regap_benchmarks.miniature.trainer_log import alphas, compare_runs, gap_curve, read_history
from regap_benchmarks.miniature.units import Processes, UnitError
from regap_benchmarks.miniature.upstream_training import StageOne, UpstreamRun

# Takes the same arguments as upstream's train.py and writes the files that it leaves behind.
FAKE_TRAINER = """
import json, pathlib, sys

arguments = dict(zip(sys.argv[1::2], sys.argv[2::2]))
if pathlib.Path("refuse").exists() and "--regap_weight" in arguments:
    raise ValueError("Some specified arguments are not used by the HfArgumentParser:"
                     " ['--regap_weight', '0']")
log = [{"step": step, "loss": 1.0 / step} for step in range(1, int(arguments["--max_steps"]) + 1)]
for entry in log:
    print(entry and {"loss": entry["loss"]})
if pathlib.Path("fail").exists():
    raise SystemExit("out of luck")
output = pathlib.Path(arguments["--output_dir"])
for folder in (output, output / "checkpoint-3"):
    folder.mkdir(parents=True)
    (folder / "mm_projector.bin").write_text("weights")
(output / "trainer_state.json").write_text(json.dumps({"log_history": log}))
"""


@pytest.fixture
def settings(tmp_path):
    return StudySettings(output=tmp_path / "out", seeds=(0, 4), weights=(0.5, 2.0), steps=6)


@pytest.fixture
def study(tmp_path, monkeypatch, settings):
    script = tmp_path / "train.py"
    script.write_text(FAKE_TRAINER)
    monkeypatch.setattr(study_module, "training_script", lambda: script)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Study(settings)


def _train(study, planned=None):
    study.claim()
    run = study.run_of(planned or study.planned()[0])
    said = []
    run.train(Processes(), said.append)
    return run, said


def test_weight_0_once_for_each_seed_and_no_flag_once(study):
    names = [planned.name for planned in study.planned()]
    assert names == [
        "seed-0-weight-0",
        "seed-0-pairwise_l2-weight-0.5",
        "seed-0-pairwise_l2-weight-2",
        "seed-0-no-flag",
        "seed-4-weight-0",
        "seed-4-pairwise_l2-weight-0.5",
        "seed-4-pairwise_l2-weight-2",
    ]


def test_only_the_flags_set_the_runs_of_a_seed_apart(study):
    runs = {
        planned.name: [word.replace(planned.name, "NAME") for word in study.run_of(planned).command]
        for planned in study.planned()
        if planned.seed == 0
    }
    plain = runs["seed-0-no-flag"]
    assert not any("regap" in word for word in plain if word.startswith("--"))
    for weight in ("0", "0.5", "2"):
        name = f"seed-0-pairwise_l2-weight-{weight}" if weight != "0" else "seed-0-weight-0"
        flags = runs[name][len(plain) :]
        assert runs[name][: len(plain)] == plain
        assert flags == ["--regap_weight", repr(float(weight)), "--regap_loss", "pairwise_l2"]


def test_the_command_is_that_of_stage_1():
    stage = StageOne("x", "base", "/tower", "mm_projector.bin", "data", seed=3, steps=7)
    command = stage.command(Path("train.py"))
    assert command[:2] == [sys.executable, "train.py"]
    arguments = dict(zip(command[2::2], command[3::2]))
    assert arguments["--version"] == "plain"
    assert arguments["--tune_mm_mlp_adapter"] == "True"
    assert arguments["--mm_projector_type"] == "mlp2x_gelu"
    assert arguments["--mm_vision_select_layer"] == "-2"
    assert arguments["--max_steps"] == "7"
    assert arguments["--seed"] == "3"
    assert arguments["--output_dir"] == "runs/x"


def test_a_finished_training_is_kept_and_another_one_is_not(study, settings, monkeypatch):
    run, said = _train(study)
    assert run.is_done()
    assert list(run.checkpoints()) == [3, 6]
    assert any("step 6/6" in line for line in said)
    longer = Study(dataclasses.replace(settings, steps=7))
    assert not longer.run_of(longer.planned()[0]).is_done()
    monkeypatch.setattr(upstream_training, "versions", lambda: {"torch": "another"})
    assert not run.is_done()


def test_a_training_without_its_weights_begins_anew(study):
    run, _ = _train(study)
    (run.folder / "mm_projector.bin").unlink()
    assert not run.is_done()


def test_a_failed_training_shows_the_end_of_its_log(study):
    study.claim()
    (study.folder / "fail").touch()
    with pytest.raises(UnitError, match="found exit status 1") as raised:
        _train(study)
    assert "  out of luck" in str(raised.value)
    assert not study.run_of(study.planned()[0]).is_done()


def test_a_refused_flag_points_to_the_activation(study):
    study.claim()
    (study.folder / "refuse").touch()
    with pytest.raises(UnitError, match=r"the plugin is not active .* `regap activate`"):
        _train(study)


def test_a_folder_of_another_study_or_of_something_else_is_refused(study, settings, tmp_path):
    study.claim()
    study.claim()
    with pytest.raises(UnitError, match="expected a study of the same steps"):
        Study(dataclasses.replace(settings, steps=9)).claim()
    Study(dataclasses.replace(settings, steps=9)).claim(overwrite=True)
    other = tmp_path / "thesis"
    other.mkdir()
    (other / "thesis.tex").write_text("mine")
    with pytest.raises(UnitError, match="found other files"):
        Study(dataclasses.replace(settings, output=other)).claim(overwrite=True)
    assert (other / "thesis.tex").read_text() == "mine"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": ()}, "--seeds: expected one seed or more"),
        ({"seeds": (1, 1)}, "--seeds: expected each once"),
        ({"seeds": (-1,)}, "--seeds: expected 0 to"),
        ({"weights": (0.0,)}, "--weights: expected finite numbers above 0"),
        ({"weights": (float("nan"),)}, "--weights: expected finite"),
        ({"losses": ()}, "--losses: expected one formula"),
        ({"steps": 4}, "--steps: expected 5 or more"),
        ({"pictures": 3}, "--pictures: expected 16 or more"),
    ],
)
def test_values_out_of_range_are_refused(settings, change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(settings, **change)


def test_missing_packages_are_named_with_the_remedy(monkeypatch, settings):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "llava" else 1)
    with pytest.raises(UnitError, match=r"found no llava\. Run `tox run -e demo`") as raised:
        Study(settings)
    assert '"llava-torch==1.2.2.post1"' in str(raised.value)


def test_the_cache_is_made_once_and_keyed_by_what_decides_it(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    built = []

    def build(folder):
        built.append(folder)
        (folder / "weights").write_text(str(len(built)))
        return {"accuracy": 0.5}

    first = make_cached("tower", {"seed": 0, "steps": 2}, build)
    assert make_cached("tower", {"steps": 2, "seed": 0}, build) == first
    assert len(built) == 1
    assert found_of(first) == {"accuracy": 0.5}
    assert make_cached("tower", {"seed": 1, "steps": 2}, build) != first
    make_cached("tower", {"seed": 0, "steps": 2}, build, rebuild=True)
    assert (first / "weights").read_text() == "3"
    assert key_of({"seed": 0}) != key_of({"seed": 0.5})


def test_what_is_interrupted_leaves_nothing_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def build(folder):
        (folder / "half").touch()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_cached("tower", {}, build)
    assert not place_of("tower", {}).exists()
    assert list(cache_folder().iterdir()) == []


def test_a_relative_cache_home_is_ignored(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    assert cache_folder() == Path.home() / ".cache" / "regap" / "miniature"


def test_logs_are_compared_step_by_step(tmp_path):
    path = tmp_path / "trainer_state.json"
    entries = [
        {"step": 1, "loss": 2.0, "regap/gap": 5.0},
        {"step": 2, "loss": 1.5, "regap/gap": 4.0, "regap/alpha": 0.3},
        {"step": 2, "train_runtime": 3.0},
    ]
    path.write_text(json.dumps({"log_history": entries}))
    history = read_history(path)
    assert gap_curve(history) == ((1, 5.0), (2, 4.0))
    assert alphas(history) == (0.3,)
    same = compare_runs(history, history, largest_weight_difference=0.0)
    assert (same.same_losses, same.same_weights) == (True, True)
    other = ({**history[0]}, {**history[1], "loss": float("nan")})
    assert not compare_runs(history, other, largest_weight_difference=0.0).same_losses
    with pytest.raises(ValueError, match="expected the same steps"):
        compare_runs(history, history[:1], largest_weight_difference=0.0)
    path.write_text("{}")
    with pytest.raises(ValueError, match="expected the trainer's state"):
        read_history(path)


def test_another_study_run_has_another_name():
    stage = StageOne("x", "base", "/tower", "p", "data", seed=0, steps=7)
    run = UpstreamRun(Path("study"), stage, Path("train.py"))
    assert run.folder == Path("study/runs/x")
    assert not run.is_done()
