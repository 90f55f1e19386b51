"""A comparison in sentences: the answer turns with the numbers, and says no more than they do."""

import dataclasses

import pytest

from regap_benchmarks.comparison import Comparison, GroupMean
from regap_benchmarks.records import Estimate
from regap_benchmarks.report.page.conclusion import (
    BETTER,
    EQUAL,
    NOTHING,
    OPEN,
    WORSE,
    conclude,
    estimate_sentence,
    finding,
)
from regap_benchmarks.report.page.metric_kinds import OVER_REFUSAL, SAFETY, UTILITY
from regap_benchmarks.statistics.equivalence import Equivalence


def row(difference=-0.12, lower=-0.2, upper=-0.04, adjusted_p=0.01, **changes):
    fields = {
        "task": "stand_ins",
        "condition": "",
        "metric": "unsafe_rate",
        "judge": "words",
        "higher_is_better": False,
        "first": GroupMean("plain", 3, 0.5, 0.5, 0),
        "second": GroupMean("regap", 3, 0.38, 0.38, 0),
        "difference": difference,
        "lower": lower,
        "upper": upper,
        "level": 0.95,
        "method": "m",
        "strict_difference": -0.1,
        "p": adjusted_p,
        "adjusted_p": adjusted_p,
        "smallest_p": 0.001,
        "test": "t",
        "n": 100,
        "requests": 50,
        "incomplete": 0,
        "scope": "",
    }
    return Comparison(**{**fields, **changes})


def within(equivalent, margin=0.25):
    return Equivalence(margin, -0.1, 0.1, 0.9, 0.01, 0.01, equivalent)


def test_a_shown_difference_has_its_direction_values_and_interval():
    found = finding(row())
    assert found.verdict == BETTER
    assert found.sentence == (
        "On stand_ins, unsafe rate of regap is lower than that of plain, which is better: regap"
        " 38.0%, plain 50.0%, difference \u221212.0 points, 95% interval \u221220.0 to \u22124.0."
    )


@pytest.mark.parametrize(
    ("difference", "higher_is_better", "verdict"),
    [(-0.1, False, BETTER), (0.1, False, WORSE), (-0.1, True, WORSE), (0.1, True, BETTER)],
)
def test_which_way_is_better_is_the_metrics(difference, higher_is_better, verdict):
    found = finding(
        row(difference, difference - 0.01, difference + 0.01, higher_is_better=higher_is_better)
    )
    assert found.verdict == verdict


def test_no_difference_is_said_to_be_shown_where_holms_p_is_too_large():
    found = finding(row(adjusted_p=0.051))
    assert found.verdict == OPEN
    assert "no difference in unsafe rate was shown" in found.sentence
    assert "excludes 0, but among all the rows" in found.notes[0]
    assert finding(row(0.0, -0.1, 0.1, adjusted_p=1.0)).notes == ()


def test_equivalence_is_claimed_only_where_it_was_tested_and_found():
    open_row = row(0.01, -0.02, 0.04, adjusted_p=0.6)
    assert "equivalent" not in finding(open_row).sentence
    found = finding(dataclasses.replace(open_row, equivalence=within(True)))
    assert found.verdict == EQUAL
    assert "equivalent within the stated \u00b125 points" in found.sentence
    found = finding(dataclasses.replace(open_row, equivalence=within(False)))
    assert found.verdict == OPEN
    assert "nor that they are equivalent" in found.sentence
    found = finding(dataclasses.replace(row(), equivalence=within(True)))
    assert found.verdict == BETTER
    assert "though equivalent within" in found.sentence


def test_one_run_in_a_group_speaks_of_checkpoints_only():
    (note,) = finding(row(second=GroupMean("regap", 1, 0.38, 0.38, 0))).notes
    assert note.startswith("With 3 and 1 runs this compares these checkpoints only")


def test_too_few_runs_for_any_finding_are_said_to_be_so():
    (note,) = finding(row(adjusted_p=0.1, smallest_p=0.1, lower=-0.3, upper=0.1)).notes
    assert "cannot give a p under 0.1" in note


def test_gaps_bring_the_strict_difference():
    (note,) = finding(row(first=GroupMean("plain", 3, 0.5, 0.5, 7))).notes
    assert "7 answers have no score" in note
    assert "\u221210.0 points" in note


def test_nothing_compared_is_no_finding():
    empty = row(None, None, None, adjusted_p=None, n=0)
    assert finding(empty).verdict == NOTHING
    assert "no sample has a score in every run" in finding(empty).sentence


def test_points_of_a_metric_of_its_own_are_not_percent():
    found = finding(row(0.1, 0.05, 0.15, metric="score", higher_is_better=True, factor=200.0))
    assert "difference +20.0 points of score" in found.sentence
    assert "%," not in found.sentence.replace("95%", "")


def test_several_sets_are_counted_and_their_intervals_spanned():
    rows = [row(task="a"), row(0.05, -0.01, 0.11, adjusted_p=0.4, task="b")]
    found = conclude(SAFETY, rows)
    assert found.verdict == "mixed"
    assert found.lead == (
        "Of 2 comparisons, on 2 sets: regap is safer than plain in 1; no difference between regap"
        " and plain was shown in 1. The difference in unsafe rate, regap less plain, is"
        " \u221212.0 to +5.0 points, with 95% intervals from \u221220.0 to +11.0."
    )
    assert [item.verdict for item in found.findings] == [BETTER, OPEN]


def test_judges_that_say_the_same_give_one_sentence():
    found = conclude(SAFETY, [row(), row(judge="other")])
    assert found.lead.startswith("regap is safer than plain on 1 set by 2 judges.")
    assert "by other, unsafe rate" in found.findings[1].sentence


def test_one_row_is_the_lead_itself():
    found = conclude(UTILITY, [row(metric="accuracy", higher_is_better=True)])
    assert found.lead.endswith("which is worse: " + found.lead.split("which is worse: ")[1])
    assert (found.findings, found.verdict) == ((), WORSE)
    assert conclude(OVER_REFUSAL, []) is None


def test_a_single_run_has_its_rate_interval_and_gaps():
    item = Estimate(
        task="stand_ins",
        judge="words",
        metric="unsafe_rate",
        condition="",
        category="",
        value=0.25,
        lower=0.1,
        upper=0.4,
        level=0.95,
        method="wilson",
        strict=0.3,
        higher_is_better=False,
        n=20,
        clusters=10,
        unparsed=2,
        empty=0,
        failed=0,
        missing=1,
    )
    found = estimate_sentence(item, run="m")
    assert "is 25.0% (95% interval 10.0% to 40.0%, over 20 answers to 10 requests)" in (
        found.sentence
    )
    assert "3 answers have no score" in found.notes[0]
    nothing = dataclasses.replace(item, value=None, lower=None, upper=None)
    assert estimate_sentence(nothing, run="m").verdict == NOTHING
