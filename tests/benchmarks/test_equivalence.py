"""Equivalence within a margin: the test, its error measured, and metrics that are no means."""

import dataclasses
import math
from typing import Any, List, Sequence, Tuple

import pytest

stats = pytest.importorskip("scipy.stats")
pytest.importorskip("statsmodels")
np = pytest.importorskip("numpy")

from regap_benchmarks.comparable import JudgedRun
from regap_benchmarks.comparison import Comparison, compare
from regap_benchmarks.metrics import ACCURACY, Metric
from regap_benchmarks.performance.equivalence_error import Setting, claimed
from regap_benchmarks.records import SCORED, UNPARSED, Cell, Judgement, RunHeader
from regap_benchmarks.report.tables import comparison_table, text
from regap_benchmarks.statistics.crossed_difference import crossed_difference, crossed_variance
from regap_benchmarks.statistics.equivalence import Margins, adjust, equivalence, margins
from regap_benchmarks.statistics.statistic_difference import (
    Answers,
    statistic_difference,
    swap_answers,
)

F1 = Metric("f1", "said_yes", True, statistic="f1", official=True)
ACCURACY_PLUS = Metric("accuracy_plus", "correct", True, statistic="all_of_request")


def run(name: str, rows: Sequence[Any], per_request: int = 1, status: str = SCORED) -> JudgedRun:
    """A run over one task; each row is the values of an answer."""
    judgements = [
        Judgement(
            "set", str(i), str(i // per_request), "own", "", None, "set", status, dict(values)
        )
        for i, values in enumerate(rows)
    ]
    settings = {"model": f"fake:{name}"}
    header = RunHeader(
        settings, (Cell("set", "own", "", len(rows)),), "x" * 64, judge={"name": "set"}
    )
    return JudgedRun(name, header, judgements)


def correct(values: Sequence[float]) -> List[Any]:
    return [{"correct": float(value)} for value in values]


def one_row(first: Sequence[JudgedRun], second: Sequence[JudgedRun], **options: Any) -> Comparison:
    metric = options.pop("metric", ACCURACY)
    (row,) = compare({"plain": first, "regap": second}, [metric], **options)
    return row


def of_normal(value: float, error: float) -> Any:
    def interval_at(level: float) -> Tuple[float, float]:
        half = stats.norm.ppf((1 + level) / 2) * error
        return value - half, value + half

    return interval_at


@pytest.mark.parametrize(("value", "error"), [(0.0, 0.01), (0.01, 0.01), (-0.02, 0.005)])
def test_p_is_the_larger_of_the_two_one_sided_tests(value: float, error: float) -> None:
    found = equivalence(of_normal(value, error), 0.03)
    expected = max(stats.norm.sf((0.03 - value) / error), stats.norm.sf((0.03 + value) / error))
    assert found.p == pytest.approx(expected, rel=1e-6)
    assert found.level == pytest.approx(0.9)
    # The interval at 90 % lies within the margin just where p is at most 5 %.
    assert (found.lower > -0.03 and found.upper < 0.03) == (found.p < 0.05)


def test_a_difference_as_large_as_the_margin_is_never_equivalent() -> None:
    assert equivalence(of_normal(0.03, 1e-9), 0.03).p == 1.0
    assert equivalence(of_normal(-0.5, 0.1), 0.03).p == 1.0
    assert equivalence(of_normal(0.0, 0.0), 0.03).p <= 1e-6


def test_many_rows_are_adjusted_together() -> None:
    found = [equivalence(of_normal(0.0, error), 0.03) for error in (0.015, 0.0175, 0.03)]
    assert [item.p for item in found] == pytest.approx([0.0228, 0.0432, 0.1587], abs=1e-4)
    adjusted = adjust(found)
    assert [item.adjusted_p for item in adjusted] == pytest.approx(
        [3 * 0.02275, 2 * 0.04324, 0.15866], abs=1e-4
    )
    # The first would be claimed alone, and is not among three.
    assert [item.equivalent for item in adjusted] == [False, False, False]
    assert adjust(found[:1])[0].equivalent


@pytest.mark.parametrize("text", ["", "0", "-1", "x", "1,", "=2", "mme=", "inf", "nan"])
def test_a_margin_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="--margin: expected points above 0"):
        margins(text)


def test_margins_by_task_and_metric() -> None:
    found = margins("1,mme=20,mme.cognition=10")
    assert found.of("gqa", "accuracy", None) == pytest.approx(0.01)
    assert found.of("mme", "perception", 100) == pytest.approx(0.2)
    assert found.of("mme", "cognition", 100) == pytest.approx(0.1)
    assert margins("mme=20").of("gqa", "accuracy", None) is None
    assert Margins(None, {}).of("gqa", "accuracy", None) is None
    with pytest.raises(ValueError, match="expected a margin above 0"):
        equivalence(of_normal(0.0, 0.1), 0.0)


def test_the_measured_error_of_the_first_kind() -> None:
    """Of 200 data sets at most 5 % and three standard errors of that share claim what is not so.

    And where there is no difference, most claim it. `docs/measurements/equivalence.json` has more.
    """
    setting = Setting(runs=3, requests=300, spread=(0.1, 0.1), rate=0.8, margin=0.08)
    at_margin = claimed(setting, setting.margin, sets=200, seed=7)
    assert 0 < at_margin <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 200)
    assert claimed(setting, 0.0, sets=60, seed=8) > 0.6


def test_compare_says_equivalent_or_not_shown() -> None:
    generator = np.random.default_rng(1)
    base = generator.random(2000) < 0.8

    def flipped(share: float) -> List[Any]:
        return correct(base ^ (generator.random(2000) < share))

    first = [run(f"a{i}", flipped(0.02)) for i in range(3)]
    second = [run(f"b{i}", flipped(0.02)) for i in range(3)]
    wide = one_row(first, second, margins=margins("3"))
    narrow = one_row(first, second, margins=margins("0.1"))
    assert wide.equivalence is not None
    assert narrow.equivalence is not None
    assert wide.equivalence.equivalent
    assert narrow.equivalence.equivalent is False
    # The shown interval is the 90 % one of the same method, within the 95 % one.
    assert wide.lower is not None
    assert wide.lower < wide.equivalence.lower < wide.equivalence.upper < (wide.upper or 0)
    shown = text(comparison_table([wide]))
    assert "within ±3.0" in shown
    assert "not shown" in text(comparison_table([narrow]))
    assert one_row(first, second).equivalence is None
    assert "Equivalent" not in text(comparison_table([one_row(first, second)]))


def test_few_answers_show_nothing() -> None:
    """No difference at all in 20 answers is no equivalence within a point."""
    row = one_row(
        [run("a", correct([1.0] * 20))], [run("b", correct([1.0] * 20))], margins=margins("1")
    )
    assert row.p == 1.0
    assert row.equivalence is not None
    assert row.equivalence.equivalent is False
    assert "these checkpoints only" in row.scope


def test_whole_requests_are_compared_as_requests() -> None:
    """acc+ is the accuracy of requests both of whose answers are right: the same row."""
    generator = np.random.default_rng(3)
    tables = [(generator.random((40, 2)) < 0.8).astype(float) for _ in range(4)]
    pairs = [run(f"p{i}", correct(t.ravel()), 2) for i, t in enumerate(tables)]
    whole = [run(f"w{i}", correct(t.min(axis=1))) for i, t in enumerate(tables)]
    one = one_row(pairs[:2], pairs[2:], metric=ACCURACY_PLUS)
    two = one_row(whole[:2], whole[2:])
    assert (one.difference, one.lower, one.upper, one.p) == (
        two.difference,
        two.lower,
        two.upper,
        two.p,
    )
    assert one.first.mean == pytest.approx(
        float(tables[0].min(1).mean() + tables[1].min(1).mean()) / 2
    )
    assert (one.n, one.requests) == (80, 40)


def yes_no(n: int, seed: int, skill: float) -> List[Any]:
    generator = np.random.default_rng(seed)
    true = np.arange(n) % 2
    said = np.where(generator.random(n) < skill, true, 1 - true)
    return [{"said_yes": float(s), "is_yes": float(t)} for s, t in zip(said, true)]


def test_f1_is_compared_as_f1() -> None:
    first = [run(f"a{i}", yes_no(400, i, 0.8)) for i in range(3)]
    second = [run(f"b{i}", yes_no(400, 10 + i, 0.9)) for i in range(3)]

    def f1(judged: JudgedRun) -> float:
        pairs = [(j.values["said_yes"], j.values["is_yes"]) for j in judged.judgements]
        tp, fp, fn = (pairs.count(p) for p in ((1.0, 1.0), (1.0, 0.0), (0.0, 1.0)))
        return 2 * tp / (2 * tp + fp + fn)

    row = one_row(first, second, metric=F1, margins=margins("20"))
    means = [sum(map(f1, group)) / 3 for group in (first, second)]
    assert (row.first.mean, row.second.mean) == pytest.approx(means)
    assert row.difference == pytest.approx(means[1] - means[0])
    assert row.lower is not None
    assert row.upper is not None
    assert 0 < row.lower < row.difference < row.upper < 0.25
    assert row.method == "jackknife over runs and requests"
    assert row.test.startswith("larger p of permutation of runs")
    assert row.strict_difference is None
    assert row.equivalence is not None
    assert row.equivalence.equivalent


def test_the_jackknife_of_a_mean_is_the_variance_of_the_mean() -> None:
    values = np.random.default_rng(2).random((4, 60))
    answers = Answers({"x": values}, np.arange(60), np.zeros(60, dtype=np.int64))
    found = statistic_difference(answers, 2, "mean", "x")
    assert found is not None
    variance, degrees, over_runs = crossed_variance(values[:2], values[2:])
    assert found.standard_error == pytest.approx(math.sqrt(variance))
    assert (found.degrees, found.over_runs) == (pytest.approx(degrees), over_runs)
    crossed = crossed_difference(values[:2], values[2:], np.ones(60), binary=False)
    assert found.value == pytest.approx(crossed.value)
    assert found.standard_error == pytest.approx(crossed.standard_error)
    assert found.p == pytest.approx(crossed.p)


def test_the_jackknifes_error_is_that_of_drawing_requests() -> None:
    """For one run each, against 2000 draws of requests."""
    first, second = yes_no(500, 1, 0.8), yes_no(500, 2, 0.85)
    columns = {
        key: np.array([[row[key] for row in rows] for rows in (first, second)])
        for key in ("said_yes", "is_yes")
    }
    answers = Answers(columns, np.arange(500), np.zeros(500, dtype=np.int64))
    found = statistic_difference(answers, 1, "f1", "said_yes")
    assert found is not None
    generator = np.random.default_rng(0)
    draws = []
    for _ in range(2000):
        rows = generator.integers(500, size=500)
        said, true = columns["said_yes"][:, rows], columns["is_yes"][:, rows]
        f1 = 2 * (said * true).sum(1) / (said.sum(1) + true.sum(1))
        draws.append(f1[1] - f1[0])
    assert found.standard_error == pytest.approx(np.std(draws), rel=0.1)


def test_the_permutation_of_one_run_each() -> None:
    """Of a mean it is that of `permute_answers`, up to the draws."""
    from regap_benchmarks.statistics.permutation import permute_answers

    generator = np.random.default_rng(4)
    values = (generator.random((2, 80)) < [[0.6], [0.75]]).astype(float)
    answers = Answers({"x": values}, np.arange(80), np.zeros(80, dtype=np.int64))
    ours = swap_answers(answers, 0, "mean", "x", resamples=2000, seed=0)
    other = permute_answers(values[0], values[1:], resamples=20_000, seed=1)
    assert ours.p == pytest.approx(other.p, abs=0.04)
    same = Answers({"x": values[[0, 0]]}, np.arange(80), np.zeros(80, dtype=np.int64))
    assert swap_answers(same, 0, "mean", "x", resamples=200, seed=0).p == 1.0
    row = one_row([run("a", yes_no(100, 1, 0.9))], [run("b", yes_no(100, 2, 0.5))], metric=F1)
    assert row.test.startswith("permutation of answers (2000")
    assert row.p is not None
    assert row.p < 0.01
    assert "these checkpoints only" in row.scope


def test_an_undefined_statistic_is_no_number() -> None:
    never = [{"said_yes": 0.0, "is_yes": 0.0}] * 20
    row = one_row([run("a", never)], [run("b", never)], metric=F1, margins=margins("1"))
    assert (row.difference, row.p, row.equivalence, row.first.mean) == (None, None, None, None)
    assert "undefined for some run" in row.scope


def test_the_official_rule_counts_what_could_not_be_read() -> None:
    official = dataclasses.replace(ACCURACY, official=True)
    first = [run("a", correct([1, 0, 1, 1] * 5), status=UNPARSED)]
    second = [run("b", correct([1, 1, 1, 1] * 5))]
    row = one_row(first, second, metric=official)
    assert (row.n, row.first.mean, row.difference) == (20, 0.75, 0.25)
    assert one_row(first, second).n == 0
