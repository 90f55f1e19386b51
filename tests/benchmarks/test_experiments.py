"""Plans that are fixed, correlations that know their clusters, and words that follow from them."""

import json
import random

import pytest

pytest.importorskip("scipy")

from stand_ins.checkpoints import planted

from regap_benchmarks.experiments import gap_and_safety, weights
from regap_benchmarks.experiments.correlation import correlation
from regap_benchmarks.experiments.engine import RECIPES, recipe_named, record, run_experiment
from regap_benchmarks.experiments.plan import PlanError, read_plan
from regap_benchmarks.experiments.result import write_result

PLAN = {
    "experiment": "weights",
    "size": "tiny",
    "question": "How?",
    "seeds": [0, 1],
    "losses": ["pairwise_l2"],
    "weights": [0.5, 2],
    "tests": ["means"],
    "resamples": 100,
}


def _write(path, **changes):
    path.write_text(json.dumps({**PLAN, **changes}))
    return path


def test_the_hash_of_the_file_is_recorded_and_another_plan_refused(tmp_path):
    plan, digest = read_plan(_write(tmp_path / "plan.json"))
    record(tmp_path / "out", plan, digest)
    record(tmp_path / "out", plan, digest)
    assert json.loads((tmp_path / "out" / "plan.json").read_text())["sha256"] == digest
    other, changed = read_plan(_write(tmp_path / "plan.json", weights=[3]))
    assert changed != digest
    with pytest.raises(PlanError, match="A plan is not changed once it runs"):
        record(tmp_path / "out", other, changed)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weigths": [1]}, "weights"),
        ({"seeds": [0.5]}, "seeds: expected a list of int"),
        ({"losses": "pairwise_l2"}, "losses: expected a list of str"),
        ({"weights": ["a"]}, "weights: expected a list of numbers"),
        ({"size": "huge"}, "size: expected one of"),
        ({"conditions": ["blank"]}, '"none" among them'),
    ],
)
def test_a_plan_that_cannot_be_used_is_refused(tmp_path, changes, message):
    with pytest.raises(PlanError, match=message):
        read_plan(_write(tmp_path / "plan.json", **changes))


def test_a_plan_of_another_experiment_or_without_a_field_is_refused(tmp_path):
    path = _write(tmp_path / "plan.json")
    with pytest.raises(PlanError, match="found one of 'weights'"):
        run_experiment(
            "losses", path, output=tmp_path / "o", results=tmp_path / "r", say=lambda line: None
        )
    content = {key: value for key, value in PLAN.items() if key != "seeds"}
    path.write_text(json.dumps(content))
    with pytest.raises(PlanError, match="expected the field 'seeds'"):
        read_plan(path)
    with pytest.raises(PlanError, match="no such file"):
        read_plan(tmp_path / "none.json")
    assert not (tmp_path / "o").exists()


def test_an_unknown_experiment_names_the_nearest():
    with pytest.raises(PlanError, match="gap-and-safety"):
        recipe_named("gap-and-safty")
    assert set(RECIPES) >= {"gap-and-safety", "weights", "losses"}


def test_the_correlation_is_scipys():
    from scipy.stats import spearmanr

    rng = random.Random(0)
    x = [rng.gauss(0, 1) for _ in range(40)]
    y = [value + rng.gauss(0, 1) for value in x]
    found = correlation(x, y, list(range(40)), resamples=200)
    assert found.value == pytest.approx(spearmanr(x, y).statistic)


def test_a_cause_of_both_is_taken_out():
    rng = random.Random(1)
    z = [rng.gauss(0, 1) for _ in range(200)]
    x, y = ([value + rng.gauss(0, 0.3) for value in z] for _ in range(2))
    clusters = [index % 20 for index in range(200)]
    assert correlation(x, y, clusters, resamples=200).value > 0.8
    partial = correlation(x, y, clusters, given=z, resamples=200)
    assert abs(partial.value) < 0.2
    assert partial.lower < 0 < partial.upper


def test_checkpoints_of_one_seed_do_not_count_as_many():
    """Ten seeds, each with a level of its own: the interval must be that of ten, not of 200."""
    rng = random.Random(2)
    x, y, clusters = [], [], []
    for seed in range(10):
        a, b = rng.gauss(0, 1), rng.gauss(0, 1)
        for _ in range(20):
            x.append(a + rng.gauss(0, 0.05))
            y.append(b + rng.gauss(0, 0.05))
            clusters.append(seed)
    by_seed = correlation(x, y, clusters, resamples=300)
    as_if_free = correlation(x, y, list(range(200)), resamples=300)
    assert by_seed.upper - by_seed.lower > 2 * (as_if_free.upper - as_if_free.lower)
    assert by_seed.clusters == 10


def test_what_does_not_vary_has_no_correlation():
    found = correlation([1.0, 1.0, 1.0], [1.0, 2.0, 3.0], [0, 1, 2], resamples=200)
    assert (found.value, found.lower) == (None, None)
    with pytest.raises(ValueError, match="one length"):
        correlation([1.0], [1.0, 2.0], [0], resamples=200)


@pytest.mark.parametrize(
    ("safety", "said"),
    [
        (-0.1, "a larger gap goes with less safety, as the paper says"),
        (0.1, "a larger gap goes with more safety, against what the paper says"),
    ],
)
def test_planted_correlations_are_reported_as_such(tmp_path, safety, said):
    plan, _ = read_plan(_write(tmp_path / "plan.json"))
    checkpoints = planted(safety=safety, weights=(0.5, 1.0, 2.0), seeds=range(6))
    result = gap_and_safety.analyse(plan, checkpoints)
    assert all(said in sentence for sentence in result.sentences)
    assert len(result.sentences) == 4


def test_an_absent_correlation_is_reported_as_such(tmp_path):
    plan, _ = read_plan(_write(tmp_path / "plan.json"))
    checkpoints = planted(safety=0.0, weights=(0.5, 1.0, 2.0), seeds=range(8), noise=0.05, draw=3)
    result = gap_and_safety.analyse(plan, checkpoints)
    assert all("no correlation is shown" in sentence for sentence in result.sentences)


def test_the_front_is_of_those_that_none_beats():
    checkpoints = planted(safety=-0.1, weights=(1.0, 2.0), noise=0.0)
    groups = weights.grouped(checkpoints)
    assert weights.front(groups) == [("pairwise_l2", 2.0)]


@pytest.mark.parametrize("name", ["gap-and-safety", "weights"])
def test_the_result_is_data_figure_and_text(tmp_path, name):
    pytest.importorskip("matplotlib")
    plan, digest = read_plan(_write(tmp_path / "plan.json", experiment=name))
    checkpoints = planted(safety=-0.1, weights=(0.5, 2.0), seeds=(0, 1))
    result = RECIPES[name].analyse(plan, checkpoints)
    write_result(tmp_path / "result", plan, digest, result, {"torch": "x"})
    content = json.loads((tmp_path / "result" / "result.json").read_text())
    assert content["plan_sha256"] == digest
    assert content["findings"] == list(result.sentences)
    page = (tmp_path / "result" / "result.md").read_text()
    assert digest in page
    assert all(sentence in page for sentence in result.sentences)
    assert (tmp_path / "result" / "figure.svg").read_text().startswith("<?xml")
