"""ScienceQA: the 2023 prediction files, the rule's edges, missing and repeated answers."""

import pytest

pytest.importorskip("statsmodels", reason="estimates need the extra eval")

from stand_ins.answer_files import (
    DATA,
    expected_scores,
    needs_data,
    run_whole_way,
    score_file,
    whole,
    write_answers,
    write_lines,
)
from stand_ins.choice_files import write_scienceqa

from regap_benchmarks.plugins import load_plugins
from regap_benchmarks.records import Response, Sample
from regap_benchmarks.utility.scienceqa import SUFFIX, choice_of, letter_of

FILES = ["test_sqa_llava_13b_v0", "test_sqa_llava_lcs_558k_sqa_12e_vicuna_v1_3_13b"]


@needs_data
@pytest.mark.parametrize("name", FILES)
def test_the_prediction_files_of_2023(name):
    oracle = expected_scores()[f"scienceqa/{name}"]
    score = score_file("scienceqa", DATA / "scienceqa" / "answers" / f"{name}.json.gz", DATA)
    found = score.official["as given"]
    assert found["acc"] == oracle["acc"]
    assert found["img_acc"] == oracle["img_acc"]
    assert (found["correct"], found["count"]) == (oracle["correct"], oracle["total"])
    estimates = whole(score)
    assert estimates["accuracy"].value * 100 == pytest.approx(oracle["acc"], rel=1e-14)
    assert estimates["image_accuracy"].value * 100 == pytest.approx(oracle["img_acc"], rel=1e-14)
    assert score.counts["missing"] == 0


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("A", "A"),
        ("E", "E"),
        ("F", None),
        ("a", None),
        ("", None),
        ("AB", None),
        ("A.", None),
        ("A. ", "A"),
        ("A. cat", "A"),
        ("A.cat", None),
        ("F. cat", None),
        (" A", None),
        ("A\n", None),
        ("The answer is B.", "B"),
        ("So. The answer is B!", "B"),
        ("The answer is B", None),
        ("The answer is B\n", None),
        ("the answer is B.", None),
        ("The answer is B. The answer is B.", None),
        ("The answer is B. The answer is C.", None),
        ("The answer is b.", None),
        ("A. no, The answer is B.", "A"),
        ("\u00c1. cat", None),
    ],
)
def test_the_letter_that_the_rule_reads(text, letter):
    assert letter_of(text) == letter


def test_a_letter_without_a_choice_is_none():
    assert choice_of("C", 3) == "C"
    assert choice_of("C", 2) is None
    assert choice_of("The answer is Z.", 5) is None


def test_the_numbers_of_upstreams_script(tmp_path):
    write_scienceqa(tmp_path)
    path = tmp_path / "answers.jsonl"
    write_lines(
        path,
        [
            {"question_id": "1", "prompt": "<image>\nQ", "text": "A"},
            {"question_id": "2", "prompt": "<image>\nQ", "text": "perhaps B"},
            {"question_id": "3", "prompt": "Q", "text": "C. c2"},
            {"question_id": "4", "prompt": "Q", "text": ""},
        ],
    )
    score = score_file("scienceqa", path, tmp_path)
    assert score.counts["unparsed"] == 1
    assert score.counts["empty"] == 1
    estimates = whole(score)
    assert estimates["accuracy"].value == 0.5
    assert estimates["image_accuracy"].value == 0.5
    assert estimates["parsed_accuracy"].value == 1
    assert estimates["parsed_accuracy"].strict == 0.5


def test_a_missing_answer_is_wrong_and_upstream_knows_no_prompt_of_it(tmp_path):
    write_scienceqa(tmp_path)
    path = write_answers(tmp_path / "answers.jsonl", [("1", "A"), ("3", "C")])
    score = score_file("scienceqa", path, tmp_path)
    assert score.official["as given"] == {"acc": 50.0, "img_acc": 100.0, "correct": 2, "count": 4}
    assert score.counts["missing"] == 2


def test_the_last_of_several_answers_counts_and_unknown_ones_are_passed_over(tmp_path):
    write_scienceqa(tmp_path)
    pairs = [("1", "B"), ("2", "B"), ("3", "C"), ("4", "B"), ("1", "A"), ("x", "A")]
    path = write_answers(tmp_path / "answers.jsonl", pairs)
    score = score_file("scienceqa", path, tmp_path)
    assert all(item.values["correct"] == 1 for item in score.judgements)
    assert score.counts["repeated"] == 1
    assert score.counts["unknown"] == 1
    assert len(score.notes) == 2


def test_a_prompt_that_disagrees_with_the_question_file_is_noted(tmp_path):
    write_scienceqa(tmp_path)
    path = write_answers(tmp_path / "answers.jsonl", [("1", "A")])
    text = path.read_text(encoding="utf-8").replace('"prompt": ""', '"prompt": "no picture"')
    path.write_text(text, encoding="utf-8")
    score = score_file("scienceqa", path, tmp_path)
    assert "disagree with the question file" in score.notes[0]
    assert "image_correct" not in score.judgements[0].values


def test_the_prompt_is_llavas(tmp_path):
    write_scienceqa(tmp_path)
    samples = list(load_plugins().benchmarks.get("scienceqa").samples(tmp_path))
    assert samples[0].prompt == "Question 1?\nA. c0\nB. c1" + SUFFIX
    assert [item.category for item in samples] == ["image", "image", "text", "text"]


def test_a_run_without_pictures_keeps_the_questions_that_have_one():
    scorer = load_plugins().benchmarks.get("scienceqa").scorer()
    sample = Sample(
        "scienceqa", "1", "1", "?", category="image", references=("A",), metadata={"choices": 2}
    )
    (verdict,) = scorer.judge([Response(sample, "A", "stop", rendered_prompt="USER: ?")])
    assert verdict.values["image_correct"] == 1


def test_the_whole_way_on_stand_in_data(tmp_path, capsys):
    write_scienceqa(tmp_path / "data")
    results, _ = run_whole_way("scienceqa", tmp_path / "data", tmp_path / "run", capsys)
    assert 0 <= results["accuracy,none"] <= 1


@needs_data
def test_the_official_question_file():
    samples = list(load_plugins().benchmarks.get("scienceqa").samples(DATA))
    assert len(samples) == 4241
    assert sum(item.category == "image" for item in samples) == 2017
