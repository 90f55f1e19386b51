"""Intervals, corrections and permutation tests against scipy, statsmodels and brute force."""

import itertools
import math
import subprocess
import sys
from typing import List

import pytest

pytest.importorskip("scipy")
np = pytest.importorskip("numpy")
pytest.importorskip("hypothesis")

from hypothesis import given, settings
from hypothesis import strategies as st

from regap_benchmarks.statistics.crossed_difference import (
    crossed_difference,
    hierarchical_bootstrap_interval,
)
from regap_benchmarks.statistics.intervals import (
    benjamini_hochberg,
    cluster_bootstrap_interval,
    clustered_wilson_interval,
    holm,
    mean_interval,
    wilson_interval,
)
from regap_benchmarks.statistics.permutation import permute_answers, permute_runs


@pytest.mark.parametrize(
    ("successes", "n", "lower", "upper"),
    # Newcombe, Stat. Med. 17, 1998, p. 857, table I, method 3.
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_of_newcombes_table(successes: int, n: int, lower: float, upper: float) -> None:
    found = wilson_interval(successes, n)
    assert (found.lower, found.upper) == pytest.approx((lower, upper), abs=5e-5)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))),
    st.floats(0.5, 0.999),
)
def test_wilson_is_that_of_scipy(counts: "tuple[int, int]", level: float) -> None:
    stats = pytest.importorskip("scipy.stats")
    expected = stats.binomtest(*counts).proportion_ci(level, method="wilson")
    found = wilson_interval(*counts, level=level)
    assert (found.lower, found.upper) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert 0 <= found.lower <= counts[0] / counts[1] <= found.upper <= 1
    assert found.lower < found.upper


def test_wilson_is_that_of_statsmodels() -> None:
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    for successes, n in ((0, 5), (3, 10), (200, 200)):
        found = wilson_interval(successes, n, level=0.9)
        expected = proportion.proportion_confint(successes, n, alpha=0.1, method="wilson")
        assert (found.lower, found.upper) == pytest.approx(expected)


def test_the_method_fits_the_values() -> None:
    binary, fractions = [0.0, 1.0, 0.0, 0.0], [i / 50 for i in range(50)]
    assert mean_interval(binary, [1, 2, 3, 4]).method == "wilson"
    assert mean_interval(binary, [1, 1, 2, 2]).method == "clustered wilson"
    assert mean_interval(fractions, range(50)).method == "cluster bootstrap BCa (2000, seed 0)"
    assert mean_interval(fractions[:49], range(49)).method == "clustered wilson"
    assert mean_interval([0.5] * 4, [1, 2, 3, 4]).method == "clustered wilson"


@pytest.mark.parametrize("value", [0.0, 1.0, 0.5])
def test_equal_values_never_give_a_point(value: float) -> None:
    for clusters in (range(20), [i // 2 for i in range(20)], [7] * 20):
        found = mean_interval([value] * 20, list(clusters))
        assert found.lower <= value <= found.upper
        assert found.upper - found.lower > 0.1


def test_equal_pictures_count_as_one_answer() -> None:
    alone = np.array([0, 1, 0, 0, 1, 0, 0, 0, 1, 0] * 4, dtype=float)
    repeated = clustered_wilson_interval(np.repeat(alone, 5), np.repeat(np.arange(40), 5))
    single = clustered_wilson_interval(alone, np.arange(40))
    assert (repeated.lower, repeated.upper) == pytest.approx(
        (single.lower, single.upper), abs=0.005
    )
    naive = wilson_interval(alone.sum() * 5, 200)
    assert repeated.upper - repeated.lower > 1.8 * (naive.upper - naive.lower)


def test_independent_pictures_count_almost_as_many_answers() -> None:
    values = (np.random.default_rng(0).random(1000) < 0.3).astype(float)
    clustered = clustered_wilson_interval(values, np.repeat(np.arange(200), 5))
    naive = wilson_interval(values.sum(), 1000)
    assert clustered.upper - clustered.lower == pytest.approx(naive.upper - naive.lower, rel=0.15)


def test_the_clusters_variance_is_that_of_statsmodels() -> None:
    api = pytest.importorskip("statsmodels.api")
    generator = np.random.default_rng(3)
    clusters = np.sort(generator.integers(60, size=500))
    values = (generator.random(500) < 0.2 + 0.6 * (clusters % 3 == 0)).astype(float)
    fitted = api.OLS(values, np.ones(500)).fit(
        cov_type="cluster",
        cov_kwds={"groups": clusters, "df_correction": False, "use_correction": False},
    )
    count = len(np.unique(clusters))
    variance = fitted.bse[0] ** 2 * count / (count - 1)
    stats = pytest.importorskip("scipy.stats")
    mean, quantile = values.mean(), stats.t.ppf(0.975, count - 1)
    effective = mean * (1 - mean) / variance
    square = quantile**2 / effective
    centre = (mean + square / 2) / (1 + square)
    found = clustered_wilson_interval(values, clusters)
    assert (found.lower + found.upper) / 2 == pytest.approx(centre)
    half = quantile / (1 + square) * math.sqrt(variance + square / (4 * effective))
    assert (found.upper - found.lower) / 2 == pytest.approx(half)


@pytest.mark.parametrize("accelerated", [True, False])
def test_the_bootstrap_is_that_of_scipy(accelerated: bool) -> None:
    stats = pytest.importorskip("scipy.stats")
    values = np.random.default_rng(1).beta(0.5, 2, 40)
    found = cluster_bootstrap_interval(
        values, np.arange(40), resamples=20_000, accelerated=accelerated
    )
    expected = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=20_000,
        method="BCa" if accelerated else "percentile",
        random_state=np.random.default_rng(2),
    ).confidence_interval
    assert (found.lower, found.upper) == pytest.approx((expected.low, expected.high), abs=0.004)


def test_the_bootstrap_draws_clusters() -> None:
    values = np.random.default_rng(1).beta(0.5, 2, 40)
    single = cluster_bootstrap_interval(values, np.arange(40))
    repeated = cluster_bootstrap_interval(np.repeat(values, 5), np.repeat(np.arange(40), 5))
    assert (repeated.lower, repeated.upper) == pytest.approx((single.lower, single.upper))


@pytest.mark.parametrize(
    ("values", "clusters", "message"),
    [
        ([], [], "1 or more"),
        ([0.0, 1.0], [1], "one length"),
        ([0.5, 1.5], [1, 2], "from 0 to 1, found 0.5 to 1.5"),
        ([0.5, math.nan], [1, 2], "from 0 to 1"),
    ],
)
def test_values_that_are_no_fractions_are_refused(
    values: List[float], clusters: List[int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        mean_interval(values, clusters)


def test_other_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="found 3 of 2"):
        wilson_interval(3, 2)
    with pytest.raises(ValueError, match="between 0 and 1, found 95"):
        wilson_interval(1, 2, level=95)
    with pytest.raises(ValueError, match="100 or more, found 10"):
        mean_interval([i / 60 for i in range(60)], range(60), resamples=10)
    with pytest.raises(ValueError, match="two or more, found 1"):
        permute_runs([0.1], [0.2, 0.3])
    with pytest.raises(ValueError, match="Compare the same requests"):
        permute_answers([1, 0], [[1, 0, 1]])
    with pytest.raises(ValueError, match="Compare the same requests"):
        crossed_difference([[1, 0]], [[1, 0, 1]], [1, 1])


def test_corrections_by_hand() -> None:
    pytest.importorskip("statsmodels")
    # Holm 1979: smallest times 4, next times 3, and so on, never decreasing.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    # Times 4 over its rank, never increasing from the largest down.
    assert benjamini_hochberg([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.02, 0.04, 0.04, 0.02])
    assert holm([]) == []
    with pytest.raises(ValueError, match="from 0 to 1"):
        holm([0.1, math.nan])


def test_permuted_runs_by_brute_force() -> None:
    stats = pytest.importorskip("scipy.stats")
    first, second = [0.1, 0.2, 0.15, 0.4], [0.35, 0.5, 0.3]
    pool = first + second

    def statistic(a: List[float], b: List[float]) -> float:
        return abs(float(stats.ttest_ind(a, b, equal_var=False).statistic))

    observed = statistic(first, second)
    splits = [set(split) for split in itertools.combinations(range(7), 4)]
    extreme = 0
    for split in splits:
        a = [pool[i] for i in split]
        b = [pool[i] for i in range(7) if i not in split]
        extreme += statistic(a, b) >= observed - 1e-12
    found = permute_runs(first, second)
    assert found.p == pytest.approx(extreme / len(splits))
    assert found.smallest_p == pytest.approx(1 / 35)


def test_permuted_runs_of_equal_sizes_count_both_orders() -> None:
    found = permute_runs([0.1, 0.2, 0.3], [0.7, 0.8, 0.9])
    assert found.p == found.smallest_p == pytest.approx(2 / 20)
    assert permute_runs([0.5, 0.5], [0.5, 0.5]).p == 1.0


def test_many_runs_are_sampled_and_never_give_zero() -> None:
    generator = np.random.default_rng(0)
    first, second = generator.normal(0, 1, 12), generator.normal(9, 1, 12)
    found = permute_runs(first, second, resamples=500)
    assert found.p == found.smallest_p == pytest.approx(1 / 500)
    assert found.p == permute_runs(first, second, resamples=500).p


def test_permuted_answers_by_brute_force() -> None:
    single, others = [1.0, 0.0, 2.0, 1.0], [[0.0, 0.0, 1.0, 2.0], [0.0, 1.0, 0.0, 2.0]]
    answers = np.array([single, *others])

    def distance(places: "tuple[int, ...]") -> float:
        alone = sum(answers[place, i] for i, place in enumerate(places))
        return abs(float((answers.sum() - alone) / 2 - alone))

    splits = list(itertools.product(range(3), repeat=4))
    extreme = sum(distance(places) >= distance((0, 0, 0, 0)) - 1e-12 for places in splits)
    found = permute_answers(single, others)
    assert found.p == pytest.approx(extreme / len(splits))
    assert found.smallest_p == pytest.approx(1 / 81)


def test_permuted_answers_of_two_runs_are_the_sign_test() -> None:
    stats = pytest.importorskip("scipy.stats")
    few = permute_answers([1.0] * 9 + [0.0] * 7, [[0.0] * 9 + [1.0] * 2 + [0.0] * 5])
    assert few.p == pytest.approx(stats.binomtest(2, 11).pvalue)
    many = permute_answers([1.0] * 40 + [0.0] * 25, [[0.0] * 40 + [1.0] * 25], resamples=20_000)
    expected = stats.binomtest(25, 65).pvalue
    assert many.p == pytest.approx(expected, abs=4 * math.sqrt(expected / 20_000))
    assert permute_answers([1.0, 0.0], [[1.0, 0.0]]).p == 1.0
    # The observed one counts among the sampled: never 0.
    clear = permute_answers([1.0] * 60, [[0.0] * 60], resamples=500)
    assert clear.p == clear.smallest_p == 1 / 500


def test_one_run_each_is_newcombes_paired_interval() -> None:
    # Large numbers: all good intervals of a paired difference meet the normal one.
    both, only_first, only_second, neither = 300, 200, 100, 400
    first = np.repeat([1.0, 1.0, 0.0, 0.0], [both, only_first, only_second, neither])
    second = np.repeat([1.0, 0.0, 1.0, 0.0], [both, only_first, only_second, neither])
    found = crossed_difference([first], [second], np.ones(1000))
    assert not found.over_runs
    assert found.value == pytest.approx(-0.1)
    error = math.sqrt(0.3 - 0.1**2) / math.sqrt(1000)
    assert found.standard_error == pytest.approx(error, rel=1e-3)
    assert found.upper - found.lower == pytest.approx(2 * 1.96 * error, rel=0.02)


def test_runs_that_differ_give_welchs_test() -> None:
    stats = pytest.importorskip("scipy.stats")
    # Every request is answered alike within a run: requests add nothing to the variance.
    first, second = [0.2, 0.5, 0.35], [0.5, 0.9, 0.6, 0.7]
    tables = [np.outer(means, np.ones(50)) for means in (first, second)]
    found = crossed_difference(*tables, np.ones(50), binary=False)
    welch = stats.ttest_ind(second, first, equal_var=False)
    assert found.over_runs
    assert found.degrees == pytest.approx(welch.df)
    assert found.p == pytest.approx(welch.pvalue)


def test_groups_without_any_unsafe_answer_leave_room_for_a_difference() -> None:
    zeros = np.zeros((3, 20))
    found = crossed_difference(zeros, zeros, np.ones(20))
    assert (found.value, found.p) == (0.0, 1.0)
    assert found.lower == pytest.approx(-found.upper)
    assert 0.15 < found.upper < 0.35


def test_swapping_groups_turns_the_difference_around() -> None:
    generator = np.random.default_rng(0)
    first = (generator.random((3, 40)) < 0.2).astype(float)
    second = (generator.random((4, 40)) < 0.5).astype(float)
    one = crossed_difference(first, second, np.ones(40))
    two = crossed_difference(second, first, np.ones(40))
    assert (one.value, one.lower, one.upper) == pytest.approx((-two.value, -two.upper, -two.lower))
    assert one.p == pytest.approx(two.p)


def test_the_hierarchical_bootstrap_by_its_variance() -> None:
    # Runs alone vary: the variance of a resampled mean of k is that of the k over k.
    means = np.array([0.2, 0.5, 0.4, 0.9])
    table = np.outer(means, np.ones(10))
    found = hierarchical_bootstrap_interval(
        table, np.zeros((2, 10)), np.ones(10), level=0.6827, resamples=20_000
    )
    expected = 2 * math.sqrt(means.var() / 4)
    assert found.upper - found.lower == pytest.approx(expected, rel=0.1)


def test_importing_is_light() -> None:
    names = "statistics.intervals, statistics.agreement, estimation, comparison, report.tables,"
    names += " report.lm_eval"
    imports = "; ".join(f"import regap_benchmarks.{name}" for name in names.split(", "))
    code = f"{imports}; import sys; print('numpy' in sys.modules, 'scipy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
