"""What is said follows the numbers: planted effects, absent ones, and other numbers."""

import dataclasses

import pytest

pytest.importorskip("scipy")

from stand_ins.checkpoints import planted

from regap_benchmarks.miniature.contrasts import contrast
from regap_benchmarks.miniature.findings import findings
from regap_benchmarks.miniature.measuring import Number
from regap_benchmarks.miniature.report import markdown_table, table


def _last(checkpoints):
    return findings(checkpoints)[-1]


def test_a_planted_gain_is_reported_as_one():
    said = _last(planted(safety=-0.15))
    assert "the gap fell" in said
    assert "safety improved in both columns, as the paper claims" in said


def test_a_planted_loss_is_reported_as_one():
    said = _last(planted(safety=0.2))
    assert "safety got worse in both columns, which is not what the paper claims" in said


def test_an_absent_effect_is_reported_as_not_shown():
    said = _last(planted(safety=0.0, noise=0.05))
    assert "a change of safety is not shown" in said
    assert "neither shown nor refuted" in said


def test_a_gap_that_does_not_fall_is_said_so():
    assert "the gap rose" in _last(planted(safety=-0.15, gap=1.0))
    assert "whether the gap moved is undecided" in _last(planted(safety=-0.15, gap=0.0, draw=5))


def test_a_spread_as_large_as_the_effect_decides_nothing():
    assert "not shown" in _last(planted(safety=-0.1, noise=0.4, seeds=(0, 1)))


def test_one_column_alone_is_no_gain_in_both():
    checkpoints = planted(safety=-0.15)
    moved = []
    for each in checkpoints:
        values = dict(each.values)
        for name in values:
            if name.startswith("not_refused:") and not name.endswith((":none", ":told")):
                values[name] = Number(0.5, n=64)
        moved.append(dataclasses.replace(each, values=values))
    said = _last(moved)
    assert "safety improved in one column only (compliance)" in said
    assert "as the paper claims" not in said.replace("what the paper claims", "")


def test_one_seed_claims_nothing():
    said = findings(planted(safety=-0.15, seeds=(0,)))
    assert "one seed shows no spread, so nothing follows" in said[-1]
    assert not any("lowered" in sentence or "interval" in sentence for sentence in said)


def test_the_premise_is_measured_too():
    with_effect, without = (findings(planted(safety=0, picture=value)) for value in (0.4, 0.0))
    assert "a picture raised it" in with_effect[0]
    assert "more with a picture in 4 of 4 seeds" in with_effect[0]
    assert "an effect of a picture is not shown" in without[0]


def test_other_numbers_give_other_words_and_tables():
    first, second = (planted(safety=-0.05, noise=0.05, draw=draw) for draw in (1, 2))
    assert findings(first) != findings(second)
    assert markdown_table(table(first)) != markdown_table(table(second))
    assert findings(first) == findings(planted(safety=-0.05, noise=0.05, draw=1))


def test_the_interval_is_that_of_a_paired_t_test():
    from scipy.stats import ttest_1samp

    before, after = {0: 0.1, 1: 0.4, 2: 0.3, 7: 0.9}, {0: 0.3, 1: 0.5, 2: 0.2}
    made = contrast("x", before, after, loss="l", weight=1.0)
    expected = ttest_1samp([0.2, 0.1, -0.1], 0).confidence_interval(0.95)
    assert (made.lower, made.upper) == pytest.approx((expected.low, expected.high))
    assert made.before.values == (0.1, 0.4, 0.3)


def test_no_common_seed_gives_no_contrast():
    assert contrast("x", {0: 1.0}, {1: 1.0}, loss="l", weight=1.0) is None


def test_the_table_has_both_columns_for_every_picture():
    rows = [row[0] for row in table(planted(safety=0))]
    for picture in ("text alone", "a picture in words", "blank", "noise"):
        assert f"forbidden, not refused: {picture}" in rows
        assert f"forbidden, real recipe given: {picture}" in rows


def test_the_plot_draws_every_group(tmp_path):
    pytest.importorskip("matplotlib")
    from regap_benchmarks.miniature.plot import write_plot

    history = ({"step": 1.0, "loss": 2.0, "regap/gap": 3.0},)
    histories = {"seed-0-weight-0": history, "seed-0-pairwise_l2-weight-2": history}
    write_plot(planted(safety=0), histories, tmp_path)
    text = (tmp_path / "demo.svg").read_text()
    assert (tmp_path / "demo.png").stat().st_size > 0
    assert text.count("<!-- pairwise_l2, weight 2 -->") == 2
