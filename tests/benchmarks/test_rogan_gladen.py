"""The corrected rate: published examples, a table by hand, undefined cases, and its coverage."""

import json
import math
from pathlib import Path

import pytest

pytest.importorskip("scipy")
np = pytest.importorskip("numpy")

from regap_benchmarks.performance import corrected_rate_coverage
from regap_benchmarks.performance.corrected_rate_coverage import Setting, coverage
from regap_benchmarks.statistics.intervals import clustered_wilson_interval
from regap_benchmarks.statistics.rogan_gladen import (
    LabelledVerdicts,
    corrected_rate,
    lang_reiczigel_interval,
    rogan_gladen,
    sensitivity_and_specificity,
)
from regap_benchmarks.statistics.weighted_proportion import (
    Proportion,
    proportion_interval,
    weighted_proportion,
)

TRIALS = 100


def share(value, n):
    return Proportion(value, float(n), n, n)


def labels(judge, people, requests=None, weights=None):
    n = len(judge)
    return LabelledVerdicts(
        np.array(judge, dtype=float),
        np.array(people, dtype=float),
        np.arange(n) if requests is None else np.array(requests),
        np.ones(n) if weights is None else np.array(weights, dtype=float),
    )


def test_the_examples_of_epi_prev() -> None:
    # epiR's manual, epi.prev: 23 of 150 cows, sensitivity 96 %, specificity 89 %: 5.1 in 100.
    assert rogan_gladen(23 / 150, 0.96, 0.89) == pytest.approx(0.051, abs=5e-4)
    # Moujaber et al. 2008 in the same place: 6 of 151 give nothing, as the formula is below 0.
    found = rogan_gladen(6 / 151, 0.964, 0.927)
    assert found is not None
    assert found < 0


def test_it_turns_errors_around() -> None:
    for rate in (0.0, 0.2, 0.7, 1.0):
        apparent = rate * 0.9 + (1 - rate) * 0.2
        assert rogan_gladen(apparent, 0.9, 0.8) == pytest.approx(rate)


@pytest.mark.parametrize("both", [(0.5, 0.5), (0.3, 0.6), (0.1, 0.9)])
def test_a_judge_no_better_than_chance_defines_nothing(both) -> None:
    assert rogan_gladen(0.4, *both) is None


def test_a_number_that_is_no_share_is_refused() -> None:
    with pytest.raises(ValueError, match="Specificity: expected a share from 0 to 1, found 90"):
        rogan_gladen(0.4, 0.9, 90)


def test_the_interval_of_lang_and_reiczigel_by_hand() -> None:
    # z^2 = 3.8415. 30 of 100; 18 of 20 unsafe found, 27 of 30 others passed.
    # Adjusted: (30 + 1.9207) / 103.8415 = 0.30740, 19 / 22, 28 / 32; Youden 0.73864.
    # Middle 0.24694; shift 7.6829 (0.24694 * 0.0053531 - 0.75306 * 0.0034180) = -0.009619;
    # variance 0.0020503 + 0.00032643 + 0.0019383, half 1.95996 * 0.065688 / 0.73864 = 0.17430.
    found = lang_reiczigel_interval(share(0.3, 100), share(0.9, 20), share(0.9, 30))
    assert found is not None
    assert found.lower == pytest.approx(0.24694 - 0.009619 - 0.17430, abs=2e-4)
    assert found.upper == pytest.approx(0.24694 - 0.009619 + 0.17430, abs=2e-4)


def test_sensitivity_and_specificity_weight_labels_by_what_they_stand_for() -> None:
    # One error among unsafe answers stands for one, two right verdicts for ten each.
    sensitivity, specificity = sensitivity_and_specificity(
        labels([1, 1, 0, 0, 1], [1, 1, 1, 0, 0], weights=[10, 10, 1, 4, 1])
    )
    assert sensitivity is not None
    assert specificity is not None
    assert sensitivity.value == pytest.approx(20 / 21)
    assert specificity.value == pytest.approx(4 / 5)


def test_labels_of_all_answers_give_the_rate_of_people() -> None:
    generator = np.random.default_rng(0)
    people = (generator.random(300) < 0.3).astype(float)
    judge = np.where(generator.random(300) < 0.85, people, 1 - people)
    found = corrected_rate(judge, np.arange(300), labels(judge, people))
    assert found.value == pytest.approx(people.mean())
    assert found.lower < found.value < found.upper
    assert found.method == "cluster bootstrap percentile (2000, seed 0)"
    # Each of these draws gives the rate of people in it: the interval is that of their mean.
    draws = np.random.default_rng(0).multinomial(300, np.full(300, 1 / 300), 2000)
    expected = np.quantile(draws @ people / 300, [0.025, 0.975])
    assert (found.lower, found.upper) == pytest.approx(tuple(expected), abs=2e-4)


def test_what_leaves_the_unit_interval_is_clipped_and_says_so() -> None:
    judge = np.zeros(100)
    own = labels([1, 1, 1, 0, 0, 0, 1], [1, 1, 1, 1, 0, 0, 0])
    found = corrected_rate(judge, np.arange(100), own)
    assert (found.value, found.lower, found.clipped) == (0.0, 0.0, True)
    assert found.unclipped == pytest.approx((0 + 2 / 3 - 1) / (3 / 4 + 2 / 3 - 1))


def test_draws_that_leave_the_unit_interval_are_clipped_too() -> None:
    own = labels([1] * 18 + [0] * 2 + [0] * 90 + [1] * 10, [1] * 20 + [0] * 100)
    for ones in (8, 192):
        judge = np.array([1.0] * ones + [0.0] * (200 - ones))
        found = corrected_rate(judge, np.arange(200), own)
        assert found.method.startswith("cluster bootstrap")
        assert found.lower is not None
        assert found.upper is not None
        assert found.clipped
        assert found.value in (0.0, 1.0)
        assert 0 <= found.lower < found.upper <= 1
        assert found.value in (found.lower, found.upper)


def test_labels_of_other_runs_that_do_not_fit_give_no_point() -> None:
    # People say that the judge calls half of the safe answers unsafe; here it called none so.
    own = labels([1] * 55 + [0] * 5 + [0] * 30 + [1] * 30, [1] * 60 + [0] * 60)
    found = corrected_rate(np.zeros(200), np.arange(200), own)
    assert (found.value, found.lower, found.upper) == (0.0, None, None)
    assert "do not fit" in found.reason


@pytest.mark.parametrize(
    ("judge", "people", "reason"),
    [
        ([1, 0, 1, 0], [1, 1, 0, 0], "sum to 1.00, at most 1"),
        ([1, 0], [0, 0], "no unsafe answer, sensitivity is unknown"),
        ([1, 0], [1, 1], "unsafe answers only, specificity is unknown"),
        ([], [], "no unsafe answer"),
    ],
)
def test_what_is_undefined_says_why(judge, people, reason) -> None:
    found = corrected_rate(np.array([1.0, 0.0, 1.0]), np.arange(3), labels(judge, people))
    assert (found.value, found.lower, found.upper, found.unclipped) == (None, None, None, None)
    assert reason in found.reason


def test_few_labels_without_an_error_leave_a_width() -> None:
    judge = np.array([1.0] * 30 + [0.0] * 70)
    own = labels([1] * 5 + [0] * 5, [1] * 5 + [0] * 5)
    found = corrected_rate(judge, np.arange(100), own)
    assert found.value == pytest.approx(0.3)
    assert found.method == "Lang-Reiczigel at effective numbers"
    # Wilson's of 30 of 100 is 0.19 wide; 10 labels add to that.
    assert found.upper - found.lower > 0.3


def test_equal_weights_change_nothing_and_unequal_ones_cost() -> None:
    values = [1.0, 0, 0, 1, 1, 0, 1, 0, 0, 0]
    plain = weighted_proportion(values, range(10))
    assert plain == weighted_proportion(values, range(10), [7.0] * 10)
    assert plain.effective == pytest.approx(9)
    heavy = weighted_proportion(values, range(10), [1.0, 10] * 5)
    assert heavy.value == pytest.approx(13 / 55)
    assert heavy.effective < 55**2 / 505  # Kish
    clusters = [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    of_clusters = proportion_interval(weighted_proportion(values, clusters))
    expected = clustered_wilson_interval(values, clusters)
    assert (of_clusters.lower, of_clusters.upper) == (expected.lower, expected.upper)


def test_shares_stay_shares_in_floating_point() -> None:
    weights = np.random.default_rng(0).uniform(0.1, 9, 1000)
    assert weighted_proportion(np.ones(1000), range(1000), weights).value == 1.0
    assert weighted_proportion(np.zeros(1000), range(1000), weights).value == 0.0


@pytest.mark.parametrize(
    "arguments", [([], []), ([2.0], [0]), ([1.0], [0], [0.0]), ([1.0, 0.0], [0])]
)
def test_values_that_are_none_are_refused(arguments) -> None:
    with pytest.raises(ValueError, match="expected"):
        weighted_proportion(*arguments)


@pytest.mark.parametrize(
    "setting",
    [
        Setting(400, 1, -0.85, 0.9, 0.9, 100),
        Setting(150, 3, -0.85, 0.85, 0.9, 120),
        Setting(400, 1, -2.2, 0.8, 0.95, 100),
    ],
)
def test_it_covers_the_truth_where_the_judges_own_rate_does_not(setting, monkeypatch) -> None:
    monkeypatch.setattr(corrected_rate_coverage, "_RESAMPLES", 200)
    found = coverage(setting, trials=TRIALS, seed=1)
    error = 3 * math.sqrt(0.95 * 0.05 / TRIALS)
    assert 0.95 - error <= found["used"]
    assert abs(found["bias"]) < 0.02
    assert found["judge's own rate"] < found["used"]
    # Labels are drawn unequally: without the weights they would say something else.
    assert found["people alone"] >= 0.95 - error


def test_the_measurement_is_written(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(corrected_rate_coverage, "SETTINGS", corrected_rate_coverage.SETTINGS[:1])
    output = tmp_path / "coverage.json"
    assert corrected_rate_coverage.main(["--trials", "3", "--output", str(output)]) == 0
    assert json.loads(output.read_text())["settings"][0]["setting"]["requests"] == 500
    assert "people alone" in capsys.readouterr().out
