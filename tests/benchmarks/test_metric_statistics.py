"""Statistics that are no means: against their definitions, and their intervals."""

import pytest

pytest.importorskip("scipy", reason="estimates need the extra eval")

import numpy as np

from regap_benchmarks.estimation import estimate
from regap_benchmarks.metrics import Metric
from regap_benchmarks.records import Cell, Judgement, RunHeader
from regap_benchmarks.statistics.intervals import statistic_interval
from regap_benchmarks.statistics.metric_statistics import Groups, statistic


def _groups(requests):
    requests = np.asarray(requests)
    return Groups(requests, np.zeros_like(requests))


def _yes_no(seed, n=200):
    rng = np.random.default_rng(seed)
    return {
        "said_yes": (rng.random(n) < 0.6).astype(float),
        "is_yes": (rng.random(n) < 0.5).astype(float),
    }


@pytest.mark.parametrize("seed", range(5))
def test_precision_recall_and_f1_by_counting(seed):
    columns = _yes_no(seed)
    pairs = list(zip(columns["said_yes"], columns["is_yes"]))
    hits = sum(said and true for said, true in pairs)
    precision = hits / sum(said for said, _ in pairs)
    recall = hits / sum(true for _, true in pairs)
    expected = {
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / (precision + recall),
    }
    groups = _groups(range(len(pairs)))
    found = {name: statistic(name)(columns, "said_yes", groups) for name in expected}
    assert found == pytest.approx(expected)


def test_without_a_yes_they_are_undefined_and_not_zero():
    columns = {"said_yes": np.zeros(3), "is_yes": np.zeros(3)}
    for name in ("precision", "recall", "f1"):
        assert np.isnan(statistic(name)(columns, "said_yes", _groups(range(3))))


def test_all_of_a_request_must_be_right():
    columns = {"correct": np.array([1.0, 1.0, 0.0, 1.0, 1.0])}
    groups = _groups([7, 7, 3, 3, 9])
    assert statistic("all_of_request")(columns, "correct", groups) == pytest.approx(2 / 3)


def test_the_ratio_to_the_reference():
    columns = {"score": np.array([0.4, 0.6]), "reference": np.array([0.8, 1.0])}
    groups = _groups([0, 1])
    assert statistic("ratio_to_reference")(columns, "score", groups) == pytest.approx(0.5 / 0.9)


def _in_two_categories():
    """Categories 0 and 5, of two requests each."""
    groups = Groups(np.array([1, 1, 2, 3, 3, 4]), np.array([0, 0, 0, 5, 5, 5]))
    columns = {
        "said_yes": np.array([1.0, 1.0, 0.0, 1.0, 0.0, 1.0]),
        "is_yes": np.array([1.0, 0.0, 0.0, 1.0, 1.0, 1.0]),
        "correct": np.array([1.0, 0.0, 1.0, 1.0, 1.0, 1.0]),
    }
    return columns, groups


def test_the_mean_of_the_categories_f1_is_not_the_f1_of_all():
    columns, groups = _in_two_categories()
    found = statistic("mean_f1_of_categories")(columns, "said_yes", groups)
    assert found == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert found != pytest.approx(statistic("f1")(columns, "said_yes", groups))
    nothing = {**columns, "said_yes": np.zeros(6), "is_yes": np.array([0.0] * 3 + [1.0] * 3)}
    assert np.isnan(statistic("mean_f1_of_categories")(nothing, "said_yes", groups))


def test_the_sum_over_categories_of_the_mean_and_of_what_is_all_right():
    columns, groups = _in_two_categories()
    found = statistic("sum_of_categories")(columns, "correct", groups)
    assert found == pytest.approx((2 / 3 + 1 / 2) + (1 + 1))


def test_an_unknown_statistic_is_told_the_nearest():
    with pytest.raises(ValueError, match="Did you mean 'precision'"):
        statistic("precison")


def _mean_interval(values, clusters, **options):
    return statistic_interval(
        lambda rows, numbers: float(values[rows].mean()), np.asarray(clusters), **options
    )


def test_whole_clusters_are_drawn_and_come_under_numbers_of_their_own():
    clusters = np.array([5, 2, 5, 9, 2, 2])
    sizes = {5: 2, 2: 3, 9: 1}
    seen = []

    def watch(rows, numbers):
        for number in range(3):
            (cluster,) = set(clusters[rows[numbers == number]])
            assert (numbers == number).sum() == sizes[cluster]
            assert len(set(rows[numbers == number])) == sizes[cluster]
            seen.append(cluster)
        return float(len(rows))

    statistic_interval(watch, clusters, resamples=300)
    shares = [seen.count(cluster) / len(seen) for cluster in sizes]
    assert shares == pytest.approx([1 / 3] * 3, abs=0.06)


def test_a_mean_of_independent_values_has_the_interval_of_the_textbook():
    rng = np.random.default_rng(3)
    values = rng.random(400)
    found = _mean_interval(values, range(400))
    half = 1.96 * values.std() / 20
    assert found.lower == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert found.upper == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_draws_that_say_nothing_give_no_interval():
    assert _mean_interval(np.ones(30), range(30)) is None
    never = statistic_interval(lambda rows, numbers: float("nan"), np.arange(30))
    assert never is None


def _judgements(values, statuses=None):
    statuses = statuses or ["scored"] * len(values)
    return [
        Judgement("t", str(n), f"r{n}", "own", "", None, "t", status, value)
        for n, (value, status) in enumerate(zip(values, statuses))
    ]


def test_an_official_rule_counts_what_it_gives_a_value_and_shows_the_gap():
    """POPE's rule takes an answer that says neither for a yes."""
    header = RunHeader({}, (Cell("t", "own", "", 4),), "0")
    values = [
        {"said_yes": 1.0, "is_yes": 1.0, "right": 1.0},
        {"said_yes": 0.0, "is_yes": 1.0, "right": 0.0},
        {"said_yes": 1.0, "is_yes": 0.0},
    ]
    judgements = _judgements(values, ["scored", "scored", "unparsed"])
    metrics = [
        Metric("f1", "said_yes", True, statistic="f1", official=True),
        Metric("accuracy", "right", True),
    ]
    rows = estimate(header, judgements, metrics)
    f1, accuracy = (row for row in rows if row.condition == "")
    assert (f1.value, f1.n, f1.unparsed, f1.missing) == (pytest.approx(0.5), 3, 1, 1)
    assert f1.strict is None
    assert (accuracy.value, accuracy.n, accuracy.unparsed) == (0.5, 2, 1)
    assert accuracy.strict == 0.25
