"""MMBench: LLaVA-1.5-13B's files, the rule's edges, pictures in the table, the workbook."""

import base64
import csv
import io

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
from stand_ins.choice_files import picture_text, write_mmbench, write_tsv

from regap_benchmarks import cli
from regap_benchmarks.pictures import PictureError, render
from regap_benchmarks.plugins import load_plugins
from regap_benchmarks.records import Picture
from regap_benchmarks.utility.mmbench import SUFFIX, options_of

ANSWERS = DATA / "mmbench" / "llava-v1.5-13b_answers.jsonl.gz"
WORKBOOK = DATA / "mmbench" / "llava-v1.5-13b_upload_mmbench_dev_20230712.xlsx"


def _values(path):
    book = pytest.importorskip("openpyxl").load_workbook(path, read_only=True)
    rows = list(book.worksheets[0].values)
    book.close()
    return rows


RIGHT = [("7", "A"), ("1000007", "B"), ("8", "C"), ("1000008", "B"), ("2000008", "A")]


@needs_data
def test_the_workbook_of_llava_13b():
    pytest.importorskip("openpyxl")
    oracle = expected_scores()["mmbench_dev_20230712/llava-v1.5-13b"]
    score = score_file("mmbench", WORKBOOK, None)
    expected = {
        **{name: oracle[name] for name in ("circular_acc", "single_pass_acc", "row_acc")},
        **{name: oracle[name] for name in ("questions", "rows")},
    }
    official = dict(score.official["as given"])
    # LLaVA says a letter and nothing else: the first evaluator reads it all, to the same.
    same = {name: oracle[name] for name in ("circular_acc", "row_acc")}
    assert official.pop("can_infer") == {**same, "rows_for_gpt": 0}
    assert official == expected
    found = whole(score)
    assert found["circular_accuracy"].value * 100 == pytest.approx(oracle["circular_acc"])
    assert found["circular_accuracy"].clusters == oracle["questions"]
    assert found["single_pass_accuracy"].value * 100 == pytest.approx(oracle["single_pass_acc"])
    assert found["row_accuracy"].value * 100 == pytest.approx(oracle["row_acc"])
    assert round(score.official["as given"]["circular_acc"], 1) == oracle["published"]


@needs_data
def test_the_raw_answers_of_llava_13b_give_its_score_and_its_workbook(tmp_path):
    upstream = _values(WORKBOOK)
    rows = [{k: v for k, v in zip(upstream[0], row) if k != "prediction"} for row in upstream[1:]]
    write_tsv(tmp_path, rows)
    oracle = expected_scores()["mmbench_dev_20230712/llava-v1.5-13b"]
    score = score_file("mmbench", ANSWERS, tmp_path)
    assert score.official["as given"]["circular_acc"] == pytest.approx(oracle["circular_acc"])
    assert not score.notes
    ours = tmp_path / "ours.xlsx"
    load_plugins().benchmarks.get("mmbench").write_submission(score.responses, ours)
    assert _values(ours) == upstream


@needs_data
def test_the_prompts_are_those_that_llava_kept(tmp_path):
    pytest.importorskip("openpyxl")
    from regap_benchmarks.official.stored_answers import read_llava_answers

    prompts = {answer.id: answer.prompt for answer in read_llava_answers(ANSWERS)}
    samples = score_file("mmbench", WORKBOOK, None).responses
    same = 0
    for response in samples:
        # The workbook has no hints: the prompt ends with what it has.
        prompt = response.sample.prompt
        assert prompt.endswith(SUFFIX)
        assert prompts[response.sample.id].endswith(prompt[: -len(SUFFIX)])
        same += prompts[response.sample.id] == prompt[: -len(SUFFIX)]
    assert same > 1000


def test_all_orders_must_be_right(tmp_path):
    write_mmbench(tmp_path)
    score = score_file("mmbench", write_answers(tmp_path / "a.jsonl", RIGHT), tmp_path)
    assert score.official["as given"]["circular_acc"] == 100
    wrong = [*RIGHT[:-1], ("2000008", "B")]
    score = score_file("mmbench", write_answers(tmp_path / "a.jsonl", wrong), tmp_path)
    assert score.official["as given"] == {
        "circular_acc": 50.0,
        "single_pass_acc": 100.0,
        "row_acc": 80.0,
        "questions": 2,
        "rows": 5,
        "can_infer": {"circular_acc": 50.0, "row_acc": 80.0, "rows_for_gpt": 0},
    }


@pytest.mark.parametrize(
    ("text", "correct", "status"),
    [
        ("A", 1, "scored"),
        ("A. x", 1, "scored"),
        ("A dog", 1, "scored"),
        ("B", 0, "scored"),
        ("a", 0, "unparsed"),
        ("(A)", 0, "unparsed"),
        ("The answer is A", 0, "unparsed"),
        ("C", 0, "unparsed"),
        (" A", 1, "scored"),
        ("", 0, "empty"),
        ("\n", 0, "empty"),
        ("\uff21", 0, "unparsed"),
    ],
)
def test_the_first_letter(tmp_path, text, correct, status):
    write_mmbench(tmp_path)
    path = write_answers(tmp_path / "a.jsonl", [("7", text)])
    first = score_file("mmbench", path, tmp_path).judgements[0]
    assert (first.id, first.values["correct"], first.status) == ("7", correct, status)
    assert ("parsed_correct" in first.values) is (status == "scored")


def test_rows_without_an_answer_are_empty_ones_and_the_last_of_two_counts(tmp_path):
    write_mmbench(tmp_path)
    path = write_answers(tmp_path / "a.jsonl", [("7", "B"), *RIGHT[:-1], ("99", "A")])
    score = score_file("mmbench", path, tmp_path)
    assert score.official["as given"]["circular_acc"] == 50
    assert score.counts["empty"] == 1
    assert score.counts["repeated"] == 1
    assert score.counts["unknown"] == 1
    assert len(score.notes) == 3


def test_rounds_turn_the_letters_back(tmp_path):
    """LLaVA's --all-rounds shows the options turned, and keeps their letters in the file."""
    row = {"index": 3, "question": "Q", "A": "x", "B": "y", "C": "z", "answer": "B", "split": "dev"}
    write_tsv(tmp_path, [{**row, "image": picture_text((1, 2, 3)), "category": "c"}])
    lines = []
    for turn, text in enumerate(["B", "A", "C"]):
        letters = [*"ABC"[turn:], *"ABC"[:turn]]
        more = {"round_id": turn, "option_char": letters, "options": []}
        lines.append({"question_id": 3, "prompt": "", "text": text, **more})
    score = score_file("mmbench", write_lines(tmp_path / "a.jsonl", lines), tmp_path)
    assert [item.values["correct"] for item in score.judgements] == [1, 1, 1]
    assert score.official["as given"]["circular_acc"] == 100
    assert score.official["as given"]["questions"] == 1
    lines[1]["text"] = "B"
    score = score_file("mmbench", write_lines(tmp_path / "a.jsonl", lines), tmp_path)
    assert score.official["as given"]["circular_acc"] == 0
    assert score.official["as given"]["single_pass_acc"] == 100


@pytest.mark.parametrize("cell", ["", "nan", "NaN", "None", "NONE", "N/A", "null"])
def test_the_options_end_at_the_first_that_is_missing(cell):
    assert options_of({"A": "x", "B": cell, "C": "z", "D": ""}) == ["x"]


def test_the_prompt_and_the_pictures_of_a_row(tmp_path):
    write_mmbench(tmp_path)
    samples = list(load_plugins().benchmarks.get("mmbench").samples(tmp_path))
    assert samples[2].prompt == 'one\n\ntwo\t3\nThe "last"?\nA. p\nB. q\nC. \u00e9' + SUFFIX
    assert [item.request for item in samples] == ["7", "7", "8", "8", "8"]
    colours = [render(item.pictures[0], tmp_path).getpixel((0, 0)) for item in samples]
    assert colours == [(255, 0, 0)] * 2 + [(0, 0, 255)] * 3
    # A cell with the index of another row is that row's picture.
    assert samples[3].pictures == samples[2].pictures


def test_a_cell_beyond_the_reader_of_csv_is_read(tmp_path):
    before = csv.field_size_limit()
    image = pytest.importorskip("PIL.Image")
    file = io.BytesIO()
    noise = __import__("random").Random(0).randbytes(3 * 300 * 300)
    image.frombytes("RGB", (300, 300), noise).save(file, "PNG")
    big = base64.b64encode(file.getvalue()).decode()
    assert len(big) > before
    row = {"index": 1, "question": "Q", "A": "x", "answer": "A", "image": big, "category": "c"}
    write_tsv(tmp_path, [row])
    (sample,) = load_plugins().benchmarks.get("mmbench").samples(tmp_path)
    assert render(sample.pictures[0], tmp_path).size == (300, 300)
    assert csv.field_size_limit() == before


def test_a_damaged_cell_is_an_error_of_the_picture(tmp_path):
    write_mmbench(tmp_path)
    parameters = {"path": "mmbench/mmbench_dev_20230712.tsv", "offset": 0, "column": 0}
    with pytest.raises(PictureError, match="row at byte 0: expected a picture in base64"):
        render(Picture("tsv", parameters), tmp_path)


def test_a_submission_by_the_command_keeps_texts_as_texts(tmp_path, capsys):
    openpyxl = pytest.importorskip("openpyxl")
    write_mmbench(tmp_path)
    pairs = [("7", "=1+1"), ("1000007", "B\x07"), *RIGHT[2:]]
    path = write_answers(tmp_path / "a.jsonl", pairs)
    words = ["score", "mmbench", "--responses", str(path), "--format", "llava"]
    words += ["--data", str(tmp_path), "--submission", str(tmp_path / "up.xlsx")]
    assert cli.main([*words, "--resamples", "100"]) == 0
    assert "circular_acc: 50.0" in capsys.readouterr().out
    rows = list(openpyxl.load_workbook(tmp_path / "up.xlsx").worksheets[0].rows)
    assert [cell.value for cell in rows[0]] == [
        *("index", "question", "A", "B", "C", "D", "prediction", "answer", "split"),
    ]
    assert (rows[1][6].value, rows[1][6].data_type) == ("=1+1", "s")
    assert rows[2][6].value == "B"
    assert rows[1][4].value is None


def test_the_whole_way_on_stand_in_data(tmp_path, capsys):
    write_mmbench(tmp_path / "data")
    results, scored = run_whole_way("mmbench", tmp_path / "data", tmp_path / "run", capsys)
    assert 0 <= results["circular_accuracy,none"] <= 1
    assert scored["official"]["as given"]["rows"] == 5
