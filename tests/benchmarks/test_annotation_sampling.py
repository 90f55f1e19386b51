"""Strata, how many of each are drawn, and that weights give back the runs."""

from collections import Counter

import pytest
from stand_ins.records import response, sample
from stand_ins.runs_to_annotate import RuleJudge, by_text, unsafe, write_run

from regap_benchmarks.annotation.candidates import candidates
from regap_benchmarks.annotation.sampling import allocate, draw
from regap_benchmarks.judges.judge import Verdict
from regap_benchmarks.records import UNPARSED

ONE = RuleJudge("one", by_text({"Yes": True, "No": False, "Word": False}))
TWO = RuleJudge("two", by_text({"Yes": True, "No": False, "Word": True}))


def _run(path, texts, judges=(ONE, TWO), harmful=True, **settings):
    answers = [
        response(sample(number, harmful=harmful), text, finish="error" if text == "!" else "stop")
        for number, text in enumerate(texts)
    ]
    return write_run(path, answers, judges, **settings)


def _counts(found):
    return Counter(each.stratum.verdicts for each in found)


def test_strata_are_what_the_judges_say_together(tmp_path):
    folder = _run(tmp_path / "run", ["Yes"] * 5 + ["No"] * 4 + ["Word"] * 3)
    assert _counts(candidates(0, folder)) == {"yes": 5, "no": 4, "differ": 3}


def test_empty_and_failed_answers_cannot_be_labelled(tmp_path):
    folder = _run(tmp_path / "run", ["Yes", "", "  ", "!", "No"])
    assert _counts(candidates(0, folder)) == {"yes": 1, "no": 1}


def test_a_judge_without_a_verdict_is_no_agreement(tmp_path):
    silent = RuleJudge("silent", lambda item: Verdict(status=UNPARSED))
    some = RuleJudge(
        "some",
        lambda item: Verdict(status=UNPARSED) if item.text == "No" else unsafe(True),
    )
    found = candidates(0, _run(tmp_path / "one", ["Yes", "No"], [silent]))
    assert _counts(found) == {"no verdict": 2}
    found = candidates(0, _run(tmp_path / "two", ["Yes", "No"], [ONE, some]))
    assert _counts(found) == {"yes": 1, "differ": 1}


def test_of_harmless_requests_the_question_is_whether_they_were_refused(tmp_path):
    folder = _run(tmp_path / "run", ["Yes", "No", "No"], harmful=False)
    assert _counts(candidates(0, folder)) == {"no": 1, "yes": 2}


def test_judgements_of_other_answers_are_refused(tmp_path):
    folder = _run(tmp_path / "run", ["Yes", "No"])
    text = folder.responses.read_text().replace('"text": "No"', '"text": "Word"')
    folder.responses.write_text(text)
    with pytest.raises(ValueError, match="has changed or gone"):
        candidates(0, folder)


@pytest.mark.parametrize(
    ("sizes", "number", "given"),
    [
        ([100, 100], 10, [5, 5]),
        ([400, 100], 30, [20, 10]),  # as the roots, 20 to 10
        ([10_000, 100, 1], 34, [30, 3, 1]),
        ([5, 5], 99, [5, 5]),
        ([1000, 3], 20, [18, 2]),
    ],
)
def test_as_many_as_the_roots_of_the_sizes(sizes, number, given):
    assert allocate(sizes, number) == given


@pytest.mark.parametrize("number", range(12, 60, 7))
def test_all_are_drawn_and_none_twice(number):
    sizes = [1, 2, 3, 40, 500, 7]
    given = allocate(sizes, number)
    assert sum(given) == min(number, sum(sizes))
    assert all(min(size, 2) <= share <= size for size, share in zip(sizes, given))


def test_too_small_a_sample_is_refused():
    with pytest.raises(ValueError, match=r"--sample: expected 5 answers or more.*found 4"):
        allocate([10, 1, 9], 4)


def test_weights_give_the_runs_back(tmp_path):
    texts = ["Yes"] * 40 + ["No"] * 150 + ["Word"] * 10
    found = candidates(0, _run(tmp_path / "run", texts))
    sampled = draw(found, 40, seed=3)
    drawn = Counter(each.stratum for each in sampled.answers)
    assert len(sampled.answers) == 40
    assert len({each.response.sample.id for each in sampled.answers}) == 40
    weights = {stratum: sampled.populations[stratum] / count for stratum, count in drawn.items()}
    total = sum(weights[each.stratum] for each in sampled.answers)
    assert total == pytest.approx(200)
    yes = sum(weights[each.stratum] for each in sampled.answers if each.response.text == "Yes")
    assert yes == pytest.approx(40)
    # At random it would be two of them.
    assert drawn[next(each for each in drawn if each.verdicts == "differ")] >= 4
