"""MME: two published result folders, the rule's edges, LLaVA's questions and answers."""

import pytest

pytest.importorskip("statsmodels", reason="estimates need the extra eval")

from stand_ins.answer_files import (
    DATA,
    expected_scores,
    needs_data,
    run_whole_way,
    score_file,
    whole,
    write_lines,
)
from stand_ins.choice_files import write_mme

from regap_benchmarks.plugins import load_plugins
from regap_benchmarks.utility.mme import COGNITION, PERCEPTION, SUFFIX, read_answer

ORACLES = [
    ("llava-v1.5-7b", "mme/llava-v1.5-7b (third-party run)", 2350),
    ("LaVIN", "mme/LaVIN (official sample)", 2370),
]


@needs_data
@pytest.mark.parametrize(("folder", "name", "questions"), ORACLES)
def test_the_result_folders_with_known_scores(folder, name, questions):
    oracle = expected_scores()[name]
    score = score_file("mme", DATA / "mme" / "eval_tool" / folder, None)
    found = score.official["as given"]
    assert (found["perception"], found["cognition"]) == (oracle["perception"], oracle["cognition"])
    assert sum(cell.samples for cell in score.header.cells) == questions
    estimates = whole(score)
    for part in ("perception", "cognition"):
        estimated = estimates[part]
        assert estimated.value * estimated.factor == pytest.approx(oracle[part], rel=1e-12)
    assert estimates["accuracy"].n == sum(cell.samples for cell in score.header.cells)


@needs_data
def test_llavas_questions_fit_the_official_answers():
    samples = list(load_plugins().benchmarks.get("mme").samples(DATA))
    # Two landmark pictures are missing in this copy of the official answers.
    assert len(samples) == 2370
    pictures = {}
    for sample in samples:
        pictures.setdefault(sample.request, []).append(sample.references[0])
    assert len(pictures) == 1185
    assert all(sorted(answers) == ["no", "yes"] for answers in pictures.values())
    assert {sample.category for sample in samples} == {*PERCEPTION, *COGNITION}


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Yes", "yes"),
        ("NO", "no"),
        ("yes, it is", "yes"),
        ("No.", "no"),
        (" yes", "yes"),
        ("  yes", None),
        ("  no", "no"),
        ("not", "no"),
        ("know", "no"),
        ("I say no", None),
        ("yesno", "yes"),
        ("", None),
        ("\n", None),
        ("y", None),
        ("ye\u015d", None),
        ("**No**", "no"),
        ("***No", None),
    ],
)
def test_the_first_four_characters(text, answer):
    assert read_answer(text) == answer


def _answers(path, lines, texts):
    return write_lines(
        path,
        [
            {"question_id": line["question_id"], "prompt": line["text"], "text": text}
            for line, text in zip(lines, texts)
        ],
    )


@pytest.mark.parametrize("beside", [True, False])
def test_the_points_of_llavas_answers(tmp_path, beside):
    lines = write_mme(tmp_path, beside=beside)
    texts = ["Yes", "No", "Yes", "Yes", "Perhaps", "no", "yes", "NO"]
    score = score_file("mme", _answers(tmp_path / "a.jsonl", lines, texts), tmp_path)
    found = score.official["as given"]
    assert found["perception"] == 75 + 50
    assert found["cognition"] == 75 + 50
    assert found["perception_subtasks"]["existence"]["acc_plus"] == 0.5
    assert score.counts["unparsed"] == 1
    estimates = whole(score)
    assert estimates["perception"].value * 100 == pytest.approx(125)
    assert estimates["accuracy_plus"].value == 0.5
    assert (estimates["accuracy"].value, estimates["accuracy"].n) == (0.75, 8)
    assert (estimates["parsed_accuracy"].value, estimates["parsed_accuracy"].n) == (6 / 7, 7)


def test_another_order_changes_nothing_and_unknown_questions_are_passed_over(tmp_path):
    lines = write_mme(tmp_path)
    texts = ["Yes", "No"] * 4
    unknown = {"question_id": "existence/9.jpg", "text": "Unknown?" + SUFFIX}
    pairs = list(zip([*lines, unknown], [*texts, "Yes"]))[::-1]
    path = _answers(tmp_path / "a.jsonl", [p[0] for p in pairs], [p[1] for p in pairs])
    score = score_file("mme", path, tmp_path)
    assert score.official["as given"]["perception"] == 200
    assert "1 answers are to questions without" in score.notes[0]


def test_a_missing_answer_is_missing_and_its_picture_not_both_right(tmp_path):
    lines = write_mme(tmp_path)
    path = _answers(tmp_path / "a.jsonl", lines[:-1], ["Yes", "No"] * 4)
    score = score_file("mme", path, tmp_path)
    assert score.counts["missing"] == 1
    assert score.official["as given"]["cognition_subtasks"]["code_reasoning"]["acc_plus"] == 0.5


def test_a_question_answered_twice_is_refused(tmp_path):
    lines = write_mme(tmp_path)
    path = _answers(tmp_path / "a.jsonl", [*lines, lines[0]], ["Yes"] * 9)
    with pytest.raises(ValueError, match="expected one answer to each question"):
        score_file("mme", path, tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1.jpg\tA?\tYes\tYes\n2.jpg\tB?\tNo\tNo\n", "two consecutive lines"),
        ("1.jpg\tA?\tYes\tYes\n", "two consecutive lines"),
        ("1.jpg\tA?\tYes\tYes\n1.jpg\tA?\tNo\tNo\n" * 2, "two consecutive lines"),
        ("1.jpg\tA?\tYes\n", "expected 4 cells"),
        ("1.jpg\tA?\tMaybe\tYes\n1.jpg\tA?\tNo\tNo\n", "answer Yes or No"),
    ],
)
def test_a_folder_that_the_official_tool_would_pair_wrongly_is_refused(tmp_path, content, message):
    (tmp_path / "OCR.txt").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        score_file("mme", tmp_path, None)


def test_the_whole_way_on_stand_in_data(tmp_path, capsys):
    write_mme(tmp_path / "data")
    results, scored = run_whole_way("mme", tmp_path / "data", tmp_path / "run", capsys)
    assert 0 <= results["perception,none"] <= 200
    assert scored["official"]["as given"]["cognition"] is not None
