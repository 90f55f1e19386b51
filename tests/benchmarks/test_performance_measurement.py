"""Statistics against values by hand, the environment's record, the result file, the table."""

import json
import math
import platform
import statistics

import pytest

from regap_benchmarks.performance import measurement
from regap_benchmarks.performance.measurement import (
    BenchmarkError,
    check_output,
    describe_environment,
    difference_of_medians,
    difference_of_minima,
    estimate,
    median_ratio,
    table,
    write_result,
)

PAIRS = [(10.0, 11.0), (20.0, 26.0), (40.0, 42.0)]


@pytest.mark.parametrize(
    ("statistic", "expected"),
    [
        (difference_of_medians, 26.0 - 20.0),
        (difference_of_minima, 11.0 - 10.0),
        (median_ratio, 11.0 / 10.0),  # of 1.1, 1.3 and 1.05
    ],
)
def test_statistics_by_hand(statistic, expected):
    assert statistic(PAIRS) == pytest.approx(expected)


def test_a_drift_that_both_share_leaves_the_ratio_alone():
    drifting = [(scale, 1.02 * scale) for scale in (1.0, 3.0, 0.5, 7.0)]
    found = estimate(drifting, median_ratio)
    assert (found.value, found.low, found.high) == pytest.approx((1.02, 1.02, 1.02))


def test_one_pair_gives_a_point():
    found = estimate([(2.0, 3.0)], median_ratio)
    assert (found.value, found.low, found.high) == (1.5, 1.5, 1.5)


def test_the_interval_of_two_pairs_holds_both():
    # Drawn twice from two, a pair is drawn both times in a quarter of the draws: more than 2.5 %.
    found = estimate([(1.0, 2.0), (1.0, 4.0)], median_ratio)
    assert (found.value, found.low, found.high) == (3.0, 2.0, 4.0)


def test_the_interval_of_a_mean_is_near_the_normal_one():
    pairs = [(0.0, float(value)) for value in range(200)]
    found = estimate(pairs, lambda drawn: statistics.fmean(b for _, b in drawn))
    error = statistics.pstdev(range(200)) / math.sqrt(200)
    assert found.low == pytest.approx(found.value - 1.96 * error, abs=0.1 * error)
    assert found.high == pytest.approx(found.value + 1.96 * error, abs=0.1 * error)


def test_the_same_seed_gives_the_same_interval():
    pairs = [(1.0, 1.0 + value / 10) for value in range(30)]
    assert estimate(pairs, median_ratio) == estimate(pairs, median_ratio)


def test_no_pairs_are_refused():
    with pytest.raises(ValueError, match=r"^Pairs: expected one or more, found none\. Measure"):
        estimate([], median_ratio)


def test_the_environment_tells_versions_and_no_host():
    found = describe_environment()
    assert found["python"].endswith(platform.python_version())
    assert found["versions"]["regap-plugin"]
    assert found["device"]
    # An empty node is inside of everything.
    assert not platform.node() or platform.node() not in json.dumps(found)
    assert describe_environment("Some GPU")["device"] == "Some GPU"


def test_what_is_not_installed_has_no_version(monkeypatch):
    monkeypatch.setattr(measurement, "_DISTRIBUTIONS", ("no-such-distribution-of-regap",))
    assert describe_environment()["versions"] == {"no-such-distribution-of-regap": None}


def test_the_result_comes_back_and_lists_of_numbers_take_a_line(tmp_path):
    result = {"name": "a [1,  2] b", "rows": [[1.5, -2e-7], [3]], "words": ["x"], "empty": []}
    write_result(tmp_path / "result.json", result)
    text = (tmp_path / "result.json").read_text()
    assert json.loads(text) == result
    assert "[1.5, -2e-07]" in text


def test_an_output_without_a_folder_is_refused(tmp_path):
    with pytest.raises(BenchmarkError, match=r"expected a file in an existing folder, found none"):
        check_output(tmp_path / "missing" / "result.json")
    with pytest.raises(BenchmarkError, match=r"found a folder\. Make .* or choose another file"):
        check_output(tmp_path)
    check_output(tmp_path / "result.json")
    check_output(None)


def test_an_output_that_cannot_be_written_is_told(tmp_path):
    with pytest.raises(BenchmarkError, match=r"expected a file that can be written"):
        write_result(tmp_path, {})


def test_the_table_aligns_its_columns():
    assert table([["a", "b"], ["long", "1.00"]]) == "a        b\nlong  1.00"
