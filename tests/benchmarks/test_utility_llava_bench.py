"""LLaVA-Bench: stored reviews with known scores; the grader against a local server."""

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
from stand_ins.chat_server import chat_server
from stand_ins.graded_files import write_llava_bench

from regap_benchmarks.judges.chat_server import ChatServer
from regap_benchmarks.plugins import load_plugins
from regap_benchmarks.records import Response
from regap_benchmarks.utility.llava_bench import LlavaBenchGrader, read_scores

REVIEWS = DATA / "llava-bench-in-the-wild" / "reviews"


@needs_data
def test_the_three_reviews_of_llava_7b():
    oracle = expected_scores()["llava-bench-in-the-wild"]
    runs = []
    for number in (1, 2, 3):
        path = REVIEWS / f"llava-v1.5-7b-eval{number}.jsonl"
        score = score_file("llava_bench", path, None)
        found = score.official["as given"]
        assert {name: found[name]["n"] for name in oracle["n"]} == oracle["n"]
        runs.append(found["all"]["relative_score"])
        if number == 1:
            parts = oracle["per_category_eval1"]["7b"]
            assert {name: found[name]["relative_score"] for name in parts} == parts
        if not found["unread"]:
            value = whole(score)["relative_score"].value
            assert value == pytest.approx(runs[-1] / 100, abs=0.0006)
    assert runs == oracle["7b"]["runs_all"]
    assert round(sum(runs) / 3, 2) == oracle["7b"]["mean"]
    assert round(sum(runs) / 3, 1) == oracle["7b"]["published"]


@pytest.mark.parametrize(
    ("review", "scores"),
    [
        ("7 9\nGood.", (7, 9)),
        ("7, 9", None),
        ("7,9", (7, 9)),
        ("7.5 9\n", (7.5, 9)),
        ("7  9", None),
        ("7 9 ", None),
        (" 7 9", None),
        ("Scores: 7 9", None),
        ("8", None),
        ("", None),
        ("\n7 9", None),
        ("seven nine", None),
        ("7 9\r\nGood.", (7, 9)),
    ],
)
def test_the_two_scores_of_a_review(review, scores):
    assert read_scores(review) == scores


def _review(number, category, content, pair):
    return {
        "id": 1,
        "question_id": number,
        "category": f"llava_bench_{category}",
        "content": content,
        "tuple": pair,
    }


def test_a_review_that_cannot_be_read_enters_the_official_mean_and_no_other(tmp_path):
    lines = [
        _review(0, "conv", "8 6\nx", [8.0, 6.0]),
        _review(1, "conv", "No scores.", [-1, -1]),
        _review(2, "detail", "10 5", [10.0, 5.0]),
    ]
    score = score_file("llava_bench", write_lines(tmp_path / "r.jsonl", lines), None)
    found = score.official["as given"]
    assert found["unread"] == 1
    # (6 - 1) / (8 - 1) and (6 - 1 + 5) / (8 - 1 + 10), means rounded to three digits
    assert found["conv"]["relative_score"] == 71.4
    assert found["all"]["relative_score"] == round(3.333 / 5.667 * 100, 1)
    estimates = whole(score)
    assert estimates["relative_score"].value == pytest.approx(11 / 18)
    assert (estimates["relative_score"].n, estimates["relative_score"].unparsed) == (2, 1)


def test_scores_out_of_range_are_official_and_no_estimate(tmp_path):
    lines = [_review(0, "conv", "8 6", [8, 6]), _review(1, "conv", "80 60", [80, 60])]
    score = score_file("llava_bench", write_lines(tmp_path / "r.jsonl", lines), None)
    assert score.official["as given"]["all"]["relative_score"] == 75.0
    assert score.counts["unparsed"] == 1


def test_reviews_that_were_changed_or_are_there_twice_are_refused(tmp_path):
    changed = write_lines(tmp_path / "r.jsonl", [_review(0, "conv", "8 6", [8, 9])])
    with pytest.raises(ValueError, match="scores that the review's first line says"):
        score_file("llava_bench", changed, None)
    twice = write_lines(tmp_path / "r.jsonl", [_review(0, "conv", "8 6", [8, 6])] * 2)
    with pytest.raises(ValueError, match="expected one answer to each question"):
        score_file("llava_bench", twice, None)


def test_what_the_grader_is_asked(tmp_path):
    write_llava_bench(tmp_path)
    samples = list(load_plugins().benchmarks.get("llava_bench").samples(tmp_path))
    with chat_server(lambda number, body: "8 6\nBecause.") as (url, asked):
        grader = LlavaBenchGrader(ChatServer(url, "judge-1"))
        verdicts = grader.judge([Response(sample, "Mine", "stop") for sample in samples])
    assert [item.values for item in verdicts] == [{"score": 0.6, "reference": 0.8}] * 3
    body = asked[1][1]
    assert (body["temperature"], body["max_tokens"]) == (0.2, 1024)
    assert [message["role"] for message in body["messages"]] == ["system", "user"]
    assert body["messages"][1]["content"] == (
        "[Context]\none\ntwo\n\n[Question]\nQ1?\n\n[R 1]\nG1\n\n[End of R 1]\n\n"
        "[R 2]\nMine\n\n[End of R 2]\n\n[System]\nP\n\n"
    )


@needs_data
def test_the_official_rule_has_a_prompt_for_each_category(tmp_path):
    write_llava_bench(tmp_path, rule=False)
    rule = (DATA / "llava-bench-in-the-wild" / "rule.json").read_text(encoding="utf-8")
    path = tmp_path / "llava-bench-in-the-wild" / "rule.json"
    path.write_text(rule, encoding="utf-8")
    samples = load_plugins().benchmarks.get("llava_bench").samples(tmp_path)
    for sample in samples:
        assert "[End of Assistant 2]" in sample.metadata["grading_after"]
        assert "scale of 1 to 10" in sample.metadata["grading_after"]


def test_a_reply_without_scores_is_unparsed_and_not_zero(tmp_path):
    write_llava_bench(tmp_path)
    sample = next(iter(load_plugins().benchmarks.get("llava_bench").samples(tmp_path)))
    with chat_server(lambda number, body: "I cannot say.") as (url, asked):
        grader = LlavaBenchGrader(ChatServer(url, "judge-1"))
        (verdict,) = grader.judge([Response(sample, "Mine", "stop")])
    assert (verdict.status, verdict.values, verdict.raw) == ("unparsed", {}, "I cannot say.")
    assert len(asked) == 1


def test_without_the_rule_the_message_says_where_it_is(tmp_path):
    write_llava_bench(tmp_path, rule=False)
    path = write_answers(tmp_path / "a.jsonl", [(0, "Mine")])
    grader = LlavaBenchGrader(ChatServer("http://localhost:1", "m"))
    sample = next(iter(load_plugins().benchmarks.get("llava_bench").samples(tmp_path)))
    with pytest.raises(ValueError, match=r"Put rule\.json"):
        grader.judge([Response(sample, path.name, "stop")])


def test_a_question_without_a_context_is_refused(tmp_path):
    base = write_llava_bench(tmp_path) / "llava-bench-in-the-wild"
    write_lines(base / "context.jsonl", [{"image": "000.jpg", "caption": "whole"}])
    with pytest.raises(ValueError, match=r"questions\.jsonl, line 2: expected an answer of GPT-4"):
        list(load_plugins().benchmarks.get("llava_bench").samples(tmp_path))


def test_the_whole_way_on_stand_in_data(tmp_path, monkeypatch, capsys):
    write_llava_bench(tmp_path / "data")
    monkeypatch.setenv("REGAP_GRADER_MODEL", "judge-1")
    with chat_server(lambda number, body: f"8 {4 + number % 3}\nx") as (url, asked):
        monkeypatch.setenv("REGAP_GRADER_URL", url)
        folder = tmp_path / "run"
        results, scored = run_whole_way("llava_bench", tmp_path / "data", folder, capsys)
    assert len(asked) == 6
    assert results["relative_score,none"] == pytest.approx(15 / 24)
    assert scored["official"]["as given"]["all"]["relative_score"] == 62.5
