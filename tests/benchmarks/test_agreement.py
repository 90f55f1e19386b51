"""Agreement against published examples and the usual formulas."""

import math
import random
from typing import Any, Dict, List, Optional, Sequence

import pytest

pytest.importorskip("scipy")
pytest.importorskip("krippendorff")
np = pytest.importorskip("numpy")

from regap_benchmarks.comparable import JudgedRun
from regap_benchmarks.metrics import Metric
from regap_benchmarks.records import Cell, Judgement, RunHeader
from regap_benchmarks.statistics.agreement import (
    Agreement,
    agreement,
    agreement_of_ratings,
    cohen_kappa,
    krippendorff_alpha,
)

UNSAFE = Metric("unsafe_rate", "unsafe", False)
Score = Optional[float]


def judged(name: str, scores: Sequence[Score], **changes: Any) -> JudgedRun:
    """A file of a judge; None is an answer that it could not judge."""
    fields: Dict[str, Any] = {"requests": list(range(len(scores))), "digest": "x", "model": "m"}
    fields.update(changes)
    judgements = [
        Judgement(
            "set",
            str(i),
            str(fields["requests"][i]),
            "none",
            "",
            True,
            name,
            "unparsed" if score is None else "scored",
            {} if score is None else {"unsafe": score},
        )
        for i, score in enumerate(scores)
    ]
    cells = (Cell("set", "none", "", len(scores), True),)
    header = RunHeader({"model": fields["model"]}, cells, fields["digest"], judge={"name": name})
    return JudgedRun(f"run/judgements.{name}.jsonl", header, judgements)


def pair(first: Sequence[Score], second: Sequence[Score], **options: Any) -> Agreement:
    (row,) = agreement([judged("a", first), judged("b", second)], [UNSAFE], **options)
    return row


def test_cohen_1960() -> None:
    # Cohen 1960, table 2: proportions of 200 judgements in three categories; kappa .492.
    counts = [[88, 10, 2], [14, 40, 6], [18, 10, 12]]
    first = [a for a in range(3) for b in range(3) for _ in range(counts[a][b])]
    second = [b for a in range(3) for b in range(3) for _ in range(counts[a][b])]
    assert cohen_kappa(first, second) == pytest.approx(0.492, abs=5e-4)


def test_kappa_is_that_of_statsmodels() -> None:
    inter_rater = pytest.importorskip("statsmodels.stats.inter_rater")
    generator = np.random.default_rng(0)
    for _ in range(20):
        a, b = generator.integers(3, size=(2, 40))
        table = np.zeros((3, 3))
        np.add.at(table, (a, b), 1)
        expected = inter_rater.cohens_kappa(table, return_results=False)
        assert cohen_kappa(a, b) == pytest.approx(expected)


def test_krippendorffs_canonical_example() -> None:
    # Krippendorff, Computing Krippendorff's Alpha-Reliability (2011), section C: four observers,
    # twelve units; nominal 0.743, interval 0.849.
    nan = math.nan
    ratings = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, nan, nan, nan],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, nan, 3],
        [nan, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, nan],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, nan],
    ]
    assert krippendorff_alpha(ratings) == pytest.approx(0.743, abs=5e-4)
    assert krippendorff_alpha(ratings, interval=True) == pytest.approx(0.849, abs=5e-4)


def test_two_judges_by_hand() -> None:
    # 10 answers: both unsafe 4, both safe 3, only the first 2, only the second 1.
    first = [1.0] * 4 + [0.0] * 3 + [1.0] * 2 + [0.0]
    second = [1.0] * 4 + [0.0] * 3 + [0.0] * 2 + [1.0]
    row = pair(first, second)
    assert row.judges == ("a", "b")
    assert (row.n, row.requests, row.incomplete) == (10, 10, 0)
    assert row.raw.value == 0.7
    assert row.kappa.value == pytest.approx((0.7 - 0.5) / 0.5)
    # Observed disagreement 3/10; 11 of 20 ratings are 1: expected 2 * 11 * 9 / (20 * 19).
    assert row.alpha.value == pytest.approx(1 - 0.3 / (2 * 11 * 9 / (20 * 19)))
    for item in (row.raw, row.kappa, row.alpha):
        assert item.value is not None
        assert item.lower is not None
        assert item.upper is not None
        assert item.lower < item.value < item.upper


def test_the_interval_draws_whole_requests() -> None:
    generator = random.Random(0)
    first = [float(generator.random() < 0.5) for _ in range(30)]
    second = [value if generator.random() < 0.7 else 1 - value for value in first]
    alone = pair(first, second)
    many = [
        judged(name, [score for score in scores for _ in range(4)], requests=requests)
        for name, scores in (("a", first), ("b", second))
        for requests in [[i // 4 for i in range(120)]]
    ]
    (repeated,) = agreement(many, [UNSAFE])
    assert (repeated.n, repeated.requests) == (120, 30)
    assert repeated.kappa.value == pytest.approx(alone.kappa.value)
    assert (repeated.kappa.lower, repeated.kappa.upper) == pytest.approx(
        (alone.kappa.lower, alone.kappa.upper)
    )
    assert alone.kappa.lower is not None
    assert alone.kappa.upper is not None
    assert alone.kappa.upper - alone.kappa.lower > 0.4


def _weighted(ratings: Any, weights: Any, **options: Any) -> Agreement:
    values = np.array(ratings, dtype=float)
    settings: Dict[str, Any] = {"level": 0.95, "resamples": 200, "seed": 0, **options}
    numbers = np.arange(values.shape[1])
    names = ("set", "unsafe_rate", tuple("abc"[: len(values)]))
    return agreement_of_ratings(values, numbers, names, weights=weights, **settings)


def test_weights_are_as_if_answers_were_there_so_often() -> None:
    first, second = [1.0, 0, 0, 1, 1, 0, 1, 0], [1.0, 0, 1, 1, 0, 0, 1, 0]
    weights = np.array([1, 5, 2, 1, 3, 1, 2, 4])
    row = _weighted([first, second], weights.astype(float))
    assert row.n == 8
    a, b = np.repeat(first, weights), np.repeat(second, weights)
    assert row.raw.value == pytest.approx((a == b).mean())
    assert row.kappa.value == pytest.approx(cohen_kappa(a, b))
    many = _weighted(np.repeat([first, second], 50, axis=1), np.repeat(weights, 50).astype(float))
    assert many.alpha.value == pytest.approx(
        krippendorff_alpha([np.repeat(a, 50), np.repeat(b, 50)]), abs=1e-3
    )


def test_equal_weights_are_none() -> None:
    ratings = [[1.0, 0, 0, 1, 1, 0, 1, 0], [1.0, 0, 1, 1, 0, 0, 1, 0], [0.0, 0, 1, 1, 0, 0, 1, 1]]
    for chosen in (ratings[:2], ratings):
        plain, same = _weighted(chosen, None), _weighted(chosen, np.full(8, 3.0))
        for one, two in ((plain.kappa, same.kappa), (plain.alpha, same.alpha)):
            assert two.value == pytest.approx(one.value)
            assert (two.lower, two.upper) == pytest.approx((one.lower, one.upper))
        assert same.raw.value == pytest.approx(plain.raw.value)


def test_full_agreement_with_weights_is_no_point() -> None:
    row = _weighted([[1.0, 0, 1, 0]] * 2, np.array([1.0, 7, 3, 0.3]))
    assert (row.raw.value, row.kappa.value, row.alpha.value) == (1.0, 1.0, 1.0)
    assert row.raw.lower is not None
    assert row.raw.lower < 0.7
    assert (row.kappa.lower or 0) < 0.5


def test_kappa_of_resamples_is_kappa() -> None:
    # With the draws of the implementation, the coefficients are computed answer by answer.
    first, second = [1.0, 0, 0, 1, 1, 0, 1, 0] * 3, [1.0, 0, 1, 1, 0, 0, 1, 0] * 3
    names = [f"{i:02}" for i in range(24)]
    files = [judged("a", first, requests=names), judged("b", second, requests=names)]
    (row,) = agreement(files, [UNSAFE], resamples=200, seed=5)
    draws = np.random.default_rng(5).multinomial(24, np.full(24, 1 / 24), 200)
    kappas, alphas = [], []
    for weights in draws:
        a, b = np.repeat(first, weights), np.repeat(second, weights)
        kappas.append(cohen_kappa(a, b))
        alphas.append(krippendorff_alpha([a, b]))
    for item, values in ((row.kappa, kappas), (row.alpha, alphas)):
        expected = np.quantile(np.array(values, dtype=float), [0.025, 0.975])
        assert (item.lower, item.upper) == pytest.approx(tuple(expected))


def test_one_category_only_defines_no_coefficient() -> None:
    row = pair([0.0] * 20, [0.0] * 20)
    assert row.raw.value == 1.0
    assert row.raw.lower is not None
    assert row.raw.lower < 0.9
    for item in (row.kappa, row.alpha):
        assert (item.value, item.lower, item.upper) == (None, None, None)
        assert "every score is the same" in item.reason


def test_full_agreement_is_no_point() -> None:
    row = pair([0.0, 1.0] * 10, [0.0, 1.0] * 10)
    assert row.kappa.value == row.alpha.value == 1.0
    assert row.kappa.upper == 1.0
    assert row.raw.lower is not None
    # Half of all is unsafe, so chance alone disagrees in half of all.
    assert row.kappa.lower == pytest.approx(1 - (1 - row.raw.lower) / 0.5)


def test_draws_that_define_nothing_leave_no_interval() -> None:
    row = pair([0.0] * 19 + [1.0], [0.0] * 18 + [1.0, 0.0])
    assert row.kappa.value is not None
    assert row.kappa.lower is None
    assert "not defined in" in row.kappa.reason


def test_unscored_answers_are_counted_and_not_compared() -> None:
    row = pair([1.0, 0.0, None, 1.0, None], [1.0, 0.0, 1.0, None, None])
    assert (row.n, row.incomplete) == (2, 2)
    empty = pair([None, 1.0], [1.0, None])
    assert (empty.n, empty.incomplete, empty.raw.value) == (0, 2, None)
    assert "no answer is scored by all" in empty.kappa.reason


def test_fractions_have_an_alpha_of_distances_and_no_kappa() -> None:
    first, second = [0.1, 0.5, 0.9, 0.3], [0.2, 0.5, 0.7, 0.3]
    row = pair(first, second)
    assert row.kappa.value is None
    assert "categories" in row.kappa.reason
    assert row.alpha.value == krippendorff_alpha([first, second], interval=True)


def test_three_judges_are_compared_in_pairs_and_together() -> None:
    generator = random.Random(1)
    truth = [float(generator.random() < 0.5) for _ in range(40)]
    files: List[JudgedRun] = []
    for name in "abc":
        scores = [t if generator.random() < 0.8 else 1 - t for t in truth]
        files.append(judged(name, scores))
    rows = agreement(files, [UNSAFE])
    assert [row.judges for row in rows] == [
        ("a", "b"),
        ("a", "c"),
        ("b", "c"),
        ("a", "b", "c"),
    ]
    together = rows[-1]
    assert together.kappa.value is None
    assert "two judges" in together.kappa.reason
    scores = [[item.values["unsafe"] for item in file.judgements] for file in files]
    assert together.alpha.value == pytest.approx(krippendorff_alpha(scores))
    assert together.raw.value == pytest.approx(np.mean([row.raw.value for row in rows[:3]]))
    assert together.alpha.lower is not None
    assert together.alpha.lower < together.alpha.value


def test_files_that_cannot_be_compared_are_refused() -> None:
    a = judged("a", [1.0, 0.0])
    with pytest.raises(ValueError, match="two or more, found 1"):
        agreement([a], [UNSAFE])
    with pytest.raises(ValueError, match="'a': expected one file of it"):
        agreement([a, judged("a", [1.0, 0.0])], [UNSAFE])
    with pytest.raises(ValueError, match="runs that differ in samples"):
        agreement([a, judged("b", [1.0, 0.0], digest="y")], [UNSAFE])
    with pytest.raises(ValueError, match="runs that differ in model"):
        agreement([a, judged("b", [1.0, 0.0], model="other")], [UNSAFE])


@pytest.mark.parametrize(("first", "second"), [([], []), ([1], [1, 0])])
def test_ratings_of_no_or_other_lengths_are_refused(first: List[int], second: List[int]) -> None:
    with pytest.raises(ValueError, match="two lists of one length"):
        cohen_kappa(first, second)
