"""Recipes beside the first two: what they train and derive, and the words that follow."""

import dataclasses
import json

import pytest

pytest.importorskip("scipy")

from stand_ins.checkpoints import planted

from regap_benchmarks.cli import main
from regap_benchmarks.experiments import defences, engine, layers, stages, trained_models
from regap_benchmarks.experiments.arms import PLAIN, Arm, by_arm
from regap_benchmarks.experiments.paper import TRAININGS, commands, missing_paths
from regap_benchmarks.experiments.plan import PlanError, read_plan
from regap_benchmarks.miniature import measuring
from regap_benchmarks.miniature import study as study_module
from regap_benchmarks.miniature.contrasts import contrasts
from regap_benchmarks.miniature.measuring import MeasureSettings
from regap_benchmarks.miniature.study import PlannedRun, Study
from regap_benchmarks.miniature.units import UnitError

PLAN = {
    "experiment": "layers",
    "size": "tiny",
    "question": "How?",
    "seeds": [0, 1],
    "losses": ["pairwise_l2"],
    "weights": [2],
    "tests": ["means"],
    "resamples": 100,
}
LAYER_3 = Arm("pairwise_l2", 2.0, "layer 3")
FAKE_TRAINER = """
import json, pathlib, sys

arguments = dict(zip(sys.argv[1::2], sys.argv[2::2]))
output = pathlib.Path(arguments["--output_dir"])
output.mkdir(parents=True)
whole = arguments["--tune_mm_mlp_adapter"] == "False"
(output / ("model.safetensors" if whole else "mm_projector.bin")).write_text("weights")
(output / "trainer_state.json").write_text(json.dumps({"log_history": []}))
"""


def _plan(tmp_path, **changes):
    path = tmp_path / "plan.json"
    path.write_text(json.dumps({**PLAN, **changes}))
    return read_plan(path)[0]


@pytest.fixture
def study(tmp_path, monkeypatch):
    script = tmp_path / "train.py"
    script.write_text(FAKE_TRAINER)
    for module in (study_module, stages):
        monkeypatch.setattr(module, "training_script", lambda: script)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return lambda plan, more=(), **how: Study(plan.study(tmp_path / "out", **how), more)


def _with_variant(variant, *, safety, weights=(2.0,), draw=1):
    return [
        dataclasses.replace(each, variant=variant)
        for each in planted(safety=safety, weights=weights, draw=draw)
        if each.weight
    ]


def test_each_later_layer_is_a_training_and_the_input_is_the_plans_own(tmp_path, study):
    plan = _plan(tmp_path, options={"layers": [0, 1, 3]})
    more = layers.trainings(plan)
    names = [each.name for each in study(plan, more).planned()]
    assert names[:4] == [
        "seed-0-weight-0",
        "seed-0-pairwise_l2-weight-2",
        "seed-0-pairwise_l2-weight-2-layer-1",
        "seed-0-pairwise_l2-weight-2-layer-3",
    ]
    command = study(plan, more).run_of(more[1]).command
    assert command[-2:] == ("--regap_layer", "3")
    plain = study(plan, more).run_of(PlannedRun(0, "pairwise_l2", 2.0)).command
    assert "--regap_layer" not in plain


@pytest.mark.parametrize("found", [None, [], [4], [1, 1], ["1"], 1])
def test_layers_that_there_are_not_are_refused(tmp_path, found):
    with pytest.raises(PlanError, match="a list of layers from 1 to 3"):
        layers.check(_plan(tmp_path, options={"layers": found}))


def test_a_planted_layer_is_told_as_such_and_is_no_part_of_the_sweep(tmp_path):
    plan = _plan(tmp_path, options={"layers": [3]})
    checkpoints = [*planted(safety=0.0), *_with_variant("layer 3", safety=-0.15)]
    result = layers.analyse(plan, checkpoints)
    told = [each for each in result.sentences if each.startswith(LAYER_3.title)]
    assert any("safety improved in both columns, as the paper claims" in each for each in told)
    at_input = [each for each in result.sentences if "pairwise_l2 at weight 2, against" in each]
    assert any("neither shown nor refuted" in each for each in at_input)
    assert [each.weight for each in contrasts(checkpoints, ["mir"])] == [2.0]
    assert set(by_arm(checkpoints)) == {PLAIN, Arm("pairwise_l2", 2.0), LAYER_3}


def test_an_arm_that_was_not_measured_is_said_to_be_missing(tmp_path):
    plan = _plan(tmp_path, options={"layers": [3]})
    result = layers.analyse(plan, planted(safety=0.0))
    assert any("not measured, so nothing is said" in each for each in result.sentences)


def test_other_numbers_give_other_words(tmp_path):
    plan = _plan(tmp_path, experiment="trained-models")
    found = {}
    for safety in (-0.3, 0.3):
        aligned = [
            dataclasses.replace(each, weight=0.0, variant="mean matched")
            for each in _with_variant("x", safety=safety, weights=(1.0,))
        ]
        found[safety] = trained_models.analyse(plan, [*planted(safety=0.0), *aligned])
    better, worse = (" ".join(found[safety].sentences) for safety in (-0.3, 0.3))
    assert "safety improved in both columns" in better
    assert "safety got worse in both columns" in worse
    assert found[-0.3].rows[0] == found[0.3].rows[0]
    assert found[-0.3].rows[1:] != found[0.3].rows[1:]


def test_every_checkpoint_of_weight_0_is_aligned_by_every_match(tmp_path, study):
    plan = _plan(tmp_path, experiment="trained-models")
    names = [
        unit.name
        for each in trained_models.derived(plan, study(plan), tmp_path)
        for unit in each.units
    ]
    assert names == [
        f"align seed-{seed}-weight-0-{match}"
        for seed in (0, 1)
        for match in ("mean", "mean-and-covariance")
    ]
    with pytest.raises(PlanError, match="mean"):
        trained_models.check(_plan(tmp_path, options={"matches": ["maen"]}))
    with pytest.raises(PlanError, match="align_pairs: expected 2 or more"):
        trained_models.check(_plan(tmp_path, options={"align_pairs": 1}))


def test_stage_2_trains_the_whole_model_from_the_projector_of_stage_1(tmp_path, study):
    plan = _plan(tmp_path, experiment="stages", seeds=[0])
    made = study(plan)
    derived = stages.derived(plan, made, tmp_path / "out")
    units = {unit.name: unit for each in derived for unit in each.units}
    assert [each.numbers.parent.name for each in derived] == [
        "seed-0-then-fine-tuned",
        "seed-0-pairwise_l2-weight-2-in-pretraining-only-then-fine-tuned",
        "seed-0-pairwise_l2-weight-2-in-fine-tuning-only",
        "seed-0-pairwise_l2-weight-2-in-pretraining-and-fine-tuning",
    ]
    said = {}
    for way, weights in (
        ("in-pretraining-only-then-fine-tuned", ("2", "0.0")),
        ("in-fine-tuning-only", ("0", "2")),
        ("in-pretraining-and-fine-tuning", ("2", "2")),
    ):
        name = f"train stage 2 seed-0-pairwise_l2-weight-2-{way}"
        first = "seed-0-pairwise_l2-weight-2" if weights[0] == "2" else "seed-0-weight-0"
        assert f"train {first}" in units[name].requires
        made.folder.mkdir(parents=True, exist_ok=True)
        from regap_benchmarks.miniature.units import Processes

        units[name].run(Processes(), lambda line: None)
        assert units[name].is_done()
        marker = made.folder / "runs" / f"stage-2-seed-0-pairwise_l2-weight-2-{way}.completed.json"
        said[way] = dict(
            zip(*(json.loads(marker.read_text())["command"][start::2] for start in (2, 3)))
        )
        assert said[way]["--tune_mm_mlp_adapter"] == "False"
        assert said[way]["--pretrain_mm_mlp_adapter"] == f"runs/{first}/mm_projector.bin"
        assert float(said[way]["--regap_weight"]) == float(weights[1])
    with pytest.raises(PlanError, match="stage_two"):
        stages.check(_plan(tmp_path, options={"stage_two": {"stpes": 3}}))


def test_defences_are_asked_of_the_plugins_by_name(tmp_path, monkeypatch):
    plan = _plan(tmp_path, experiment="defences", options={"defences": ["shield"]})

    class Without:
        pass

    class Registry:
        def get(self, name):
            if name != "shield":
                raise ValueError(f"unknown defence {name}")
            return "kind of shield"

    class With:
        defences = Registry()

    monkeypatch.setattr(measuring, "load_plugins", Without)
    with pytest.raises(PlanError, match="expected a regap_benchmarks with defences"):
        defences.check(plan)
    monkeypatch.setattr(measuring, "load_plugins", With)
    defences.check(plan)
    assert measuring.defence_kinds(["shield"]) == ["kind of shield"]
    with pytest.raises(PlanError, match="unknown defence sword"):
        defences.check(_plan(tmp_path, options={"defences": ["sword"]}))
    with pytest.raises(PlanError, match="expected a list of names"):
        defences.check(_plan(tmp_path))


def test_a_planted_defence_is_told_with_and_without_the_term(tmp_path):
    plan = _plan(tmp_path, experiment="defences", options={"defences": ["shield"]})
    behind = [
        dataclasses.replace(each, variant="behind shield")
        for each in planted(safety=0.0, picture=0.05, draw=5)
    ]
    result = defences.analyse(plan, [*planted(safety=0.0), *behind])
    title = "weight 0, behind shield, against weight 0: forbidden requests that are not refused"
    assert any(title in each and "shield lowered it" in each for each in result.sentences)
    title = "weight 2, behind shield, against pairwise_l2 at weight 2: forbidden"
    assert any(title in each and "shield lowered it" in each for each in result.sentences)


def test_a_study_is_shared_by_plans_of_other_seeds_losses_and_weights(tmp_path, study):
    first = _plan(tmp_path)
    study(first).claim()
    other = _plan(tmp_path, seeds=[5], losses=["centroid_l2"], weights=[7])
    with pytest.raises(UnitError, match="expected a study of the same"):
        study(other).claim()
    study(other).claim(shared=True)
    study(first).claim()
    with pytest.raises(UnitError, match="expected a study of the same steps"):
        study(_plan(tmp_path, steps=50)).claim(shared=True)


def test_earlier_measurements_keep_their_settings():
    assert set(MeasureSettings().describe()) == {
        "pairs",
        "resamples",
        "captions",
        "questions",
        "conditions",
    }
    assert MeasureSettings(many=True).describe()["many"] is True


def test_the_units_of_one_base_are_those_of_the_whole(tmp_path, study):
    plan = _plan(tmp_path, size="small", options={"layers": [2]})
    whole = study(plan, layers.trainings(plan), bases=tmp_path / "bases")
    parts = [
        engine._of_base(layers.RECIPE, plan, whole, tmp_path, seed)[0].units()
        for seed in plan.seeds
    ]
    names = [unit.name for unit in whole.units()]
    assert sorted(unit.name for part in parts for unit in part) == sorted(names)
    assert not {unit.name for unit in parts[0]} & {unit.name for unit in parts[1]}
    assert not any("language model" in name for name in names)
    command = whole.run_of(whole.planned()[0]).command
    arguments = dict(zip(command[2::2], command[3::2]))
    assert (arguments["--bf16"], arguments["--use_cpu"]) == ("True", "False")


@pytest.mark.parametrize(
    ("changes", "how", "message"),
    [
        ({"size": "small"}, {}, "expected --bases with size small"),
        ({}, {"bases": "x"}, "expected --bases with size small, and only then"),
        ({}, {"only_base": 7}, "--only-base: expected one of"),
        ({"size": "paper"}, {}, "expected its commands to be printed"),
    ],
)
def test_what_a_size_needs_is_asked_before_anything_runs(tmp_path, changes, how, message):
    path = tmp_path / "plan.json"
    path.write_text(json.dumps({**PLAN, "experiment": "weights", **changes}))
    with pytest.raises(PlanError, match=message):
        engine.run_experiment(
            "weights", path, output=tmp_path / "o", results=tmp_path / "r", say=print, **how
        )
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("training", TRAININGS, ids=lambda each: each.name)
def test_the_papers_commands_differ_in_seed_folder_and_flags_alone(tmp_path, training):
    plan = _plan(tmp_path, size="paper", experiment="layers", options={"layers": [0, 16]})
    made = dict(commands(training, plan, layers.trainings(plan)))
    assert len(made) == 6
    assert not any("SEED" in command or "OUTPUT" in command for command in made.values())
    later = made["seed-1-pairwise_l2-weight-2-layer-16"]
    if training.yaml:
        assert "'run.regap.weight=${regap:2}'" in later
        assert later.endswith("run.regap.layer=16")
        assert "run.seed=1" in later
    else:
        assert later.endswith("--regap_weight 2 --regap_loss pairwise_l2 --regap_layer 16")
        assert "--seed 1 " in later
    for path in training.paths[:-1]:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    assert missing_paths(training, tmp_path / "nothing") == list(training.paths)


def test_the_command_prints_the_paper_and_says_what_is_missing(tmp_path, capsys):
    path = tmp_path / "plan.json"
    path.write_text(
        json.dumps(
            {**PLAN, "experiment": "weights", "size": "paper", "options": {"upstream": "llava"}}
        )
    )
    words = ["experiment", "weights", "--config", str(path)]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert out.count("deepspeed llava/train/train_mem.py") == 4
    assert "28 a training (LLaVA's README" in out
    assert main([*words, "--checkout", str(tmp_path)]) == 1
    assert "missing in" in capsys.readouterr().out


def test_the_plans_of_the_results_can_be_read():
    from pathlib import Path

    folder = Path(__file__).parents[2] / "docs" / "results"
    plans = [*folder.glob("*/plan.json"), *(folder / "plans").glob("*.json")]
    assert len(plans) >= 9
    for path in plans:
        plan, digest = read_plan(path)
        assert plan.losses[:2] == ("pairwise_l2", "pairwise_squared_l2"), path
        recipe = engine.recipe_named(plan.experiment)
        if recipe.name != "defences":
            recipe.check(plan)
        result = path.with_name("result.json")
        if result.is_file():
            assert json.loads(result.read_text())["plan_sha256"] == digest, path
