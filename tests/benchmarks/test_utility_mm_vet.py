"""MM-Vet: stored grades with known totals; the grader against a local server."""

import json

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
    write_json,
)
from stand_ins.chat_server import chat_server
from stand_ins.graded_files import write_mm_vet

from regap_benchmarks import cli
from regap_benchmarks.judges.chat_server import ChatServer
from regap_benchmarks.judging import JudgeError
from regap_benchmarks.plugins import load_plugins
from regap_benchmarks.records import Judgement, Response, read_run
from regap_benchmarks.utility.mm_vet import CAPABILITIES, MMVetGrader, read_grade

GRADES = DATA / "mm-vet" / "results" / "llava-v1.5-7b_gpt-4-grade-3runs.json"


@needs_data
def test_the_three_runs_of_llava_7b():
    oracle = expected_scores()["mm-vet"]["7b_3runs"]
    score = score_file("mm_vet", GRADES, DATA)
    found = dict(score.official["as given"])
    combinations, bard = found.pop("combinations"), found.pop("bard")
    assert found == {name: value for name, value in oracle.items() if name != "published"}
    assert found["total"] == oracle["published"]
    assert len(combinations) == 16
    assert bard == score_file("mm_vet_bard", GRADES, DATA).official["as given"]
    assert whole(score)["total"].value == pytest.approx(found["total"] / 100, abs=0.0005)
    assert score.counts["unparsed"] == 0


@needs_data
def test_bards_questions_as_upstreams_option_counts_them():
    """Upstream sums the grades of bard_set.json's ids, run by run, and divides by their number."""
    grades = json.loads(GRADES.read_text(encoding="utf-8"))
    names = json.loads((DATA / "mm-vet" / "bard_set.json").read_text(encoding="utf-8"))
    runs = [sum(grades[name]["score"][run] for name in names) / 168 * 100 for run in range(3)]
    score = score_file("mm_vet_bard", GRADES, DATA)
    found = score.official["as given"]
    assert found["runs"] == [round(value, 1) for value in runs]
    assert found["total"] == round(sum(runs) / 3, 1)
    assert score.counts["asked"] == len(names) == 168
    assert (score.counts["missing"], score.counts["unknown"]) == (0, 50)
    assert "50 answers are to questions that were not asked" in score.notes[0]
    own = whole(score_file("mm_vet", GRADES, DATA))["bard_total"]
    assert own.value == pytest.approx(sum(runs) / 300)
    assert own.n == 168


def test_bards_questions_of_one_grading_and_of_their_own(tmp_path):
    write_mm_vet(tmp_path, bard=(0, 2))
    grades = {f"v1_{n}": [(score, str(score))] for n, score in enumerate([1.0, 0.0, 0.5])}
    found = score_file("mm_vet", _grade_file(tmp_path / "g.json", grades), tmp_path)
    assert found.official["as given"]["total"] == 50.0
    assert found.official["as given"]["bard"]["total"] == 75.0
    assert found.official["as given"]["bard"]["rec"] == 50.0
    assert whole(found)["bard_total"].n == 2
    own = {name: grades[name] for name in ("v1_0", "v1_2")}
    found = score_file("mm_vet_bard", _grade_file(tmp_path / "g.json", own), tmp_path)
    assert found.official["as given"]["total"] == 75.0
    assert "bard" not in found.official["as given"]


def test_a_bard_set_that_is_absent_or_of_other_questions_is_refused(tmp_path):
    write_mm_vet(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"expected bard_set\.json for the task"):
        list(load_plugins().benchmarks.get("mm_vet_bard").samples(tmp_path))
    write_mm_vet(tmp_path, bard=(0, 7))
    with pytest.raises(ValueError, match="found 1 others, such as 'v1_7'"):
        list(load_plugins().benchmarks.get("mm_vet").samples(tmp_path))
    write_json(tmp_path / "mm-vet" / "bard_set.json", {"v1_0": 1})
    with pytest.raises(ValueError, match="expected a list of question ids"):
        list(load_plugins().benchmarks.get("mm_vet").samples(tmp_path))


@needs_data
def test_the_combinations_of_the_official_table():
    """The csv of the evaluator names a combination in no order of its own."""
    path = DATA / "mm-vet" / "results" / "llava-v1.5-7b_gpt-4-cap-int-score-3runs.csv"
    names, values = path.read_text(encoding="utf-8").splitlines()
    official = {}
    for name, value in zip(names.split(",")[1:17], values.split(",")[1:17]):
        official[frozenset(name.split("_"))] = float(value)
    found = score_file("mm_vet", GRADES, DATA).official["as given"]["combinations"]
    assert {frozenset(name.split("_")): value for name, value in found.items()} == official


def _grade_file(path, grades):
    return write_json(
        path,
        {
            name: {"model": ["m"] * len(pairs), "score": [p[0] for p in pairs],
                   "content": [p[1] for p in pairs]}
            for name, pairs in grades.items()
        },
    )  # fmt: skip


def test_stored_grades_of_two_runs(tmp_path):
    write_mm_vet(tmp_path)
    grades = {
        "v1_0": [(1.0, "1.0"), (0.0, "the")],
        "v1_1": [(0.5, "0.5"), (0.5, "0.5")],
        "v1_2": [(0.0, "0.0"), (0.3, "0.3")],
    }
    score = score_file("mm_vet", _grade_file(tmp_path / "g.json", grades), tmp_path)
    found = score.official["as given"]
    assert found["runs"] == [50.0, 26.7]
    assert found["total"] == 38.3
    assert found["std"] == 11.7
    assert (found["math"], found["rec"], found["spat"]) == (50.0, 32.5, None)
    # The 0 of "the" is the evaluator's fold: it counts there, and is no grade here.
    assert score.counts["unparsed"] == 1
    estimates = whole(score)
    assert estimates["total"].n == 3
    assert (estimates["parsed_total"].n, estimates["parsed_total"].unparsed) == (2, 1)
    assert estimates["parsed_total"].value == pytest.approx((0.5 + 0.15) / 2)


def test_incomplete_grades(tmp_path):
    write_mm_vet(tmp_path)
    two = {"v1_0": [(1.0, "1")], "v1_1": [(1.0, "1")]}
    score = score_file("mm_vet", _grade_file(tmp_path / "g.json", two), tmp_path)
    assert score.official["as given"] == {"total": None}
    assert score.counts["missing"] == 1
    uneven = {**two, "v1_2": [(1.0, "1"), (1.0, "1")]}
    with pytest.raises(ValueError, match="as many grades of each answer"):
        score_file("mm_vet", _grade_file(tmp_path / "g.json", uneven), tmp_path)
    unknown = {**two, "v1_9": [(1.0, "1")]}
    with pytest.raises(ValueError, match="expected an answer to one of the 3"):
        score_file("mm_vet", _grade_file(tmp_path / "g.json", unknown), tmp_path)
    high = {**two, "v1_2": [(1.5, "1.5")]}
    with pytest.raises(ValueError, match=r"scores from 0 to 1, found 1\.5"):
        score_file("mm_vet", _grade_file(tmp_path / "g.json", high), tmp_path)


@pytest.mark.parametrize(
    ("reply", "grade"),
    [
        ("0.7", 0.7),
        ("1.0\n", 1.0),
        ("0 | x", 0.0),
        ("1.1", None),
        ("-0.1", None),
        ("", None),
        (" 0.5", None),
        ("nan", None),
        ("0,5", None),
        ("The", None),
    ],
)
def test_the_first_word_of_a_reply(reply, grade):
    assert read_grade(reply) == grade


def _responses(folder, text="x = 3"):
    samples = load_plugins().benchmarks.get("mm_vet").samples(folder)
    return [Response(sample, text, "stop") for sample in samples]


def _server(url, **options):
    return ChatServer(url, "judge-1", key="secret", sleep=lambda seconds: None, **options)


def test_what_the_grader_is_asked(tmp_path):
    write_mm_vet(tmp_path)
    with chat_server(lambda number, body: "0.8") as (url, asked):
        verdicts = MMVetGrader(_server(url)).judge(_responses(tmp_path)[:1])
    assert verdicts[0].values == {"score": 0.8, "ocr": 0.8, "math": 0.8, "parsed_score": 0.8}
    headers, body = asked[0]
    assert headers["Authorization"] == "Bearer secret"
    assert body["model"] == "judge-1"
    assert (body["temperature"], body["max_tokens"]) == (0.0, 3)
    table = "Grade it.\n\nQuestion | Ground truth | Prediction | Correctness\n"
    content = table + "\nQ0? | a0 <AND> b <OR> c | x = 3 | "
    assert body["messages"] == [{"role": "user", "content": content}]


def test_replies_that_cannot_be_read_are_asked_for_again_and_are_no_grade(tmp_path):
    write_mm_vet(tmp_path)
    with chat_server(lambda number, body: "lorem") as (url, asked):
        (verdict,) = MMVetGrader(_server(url)).judge(_responses(tmp_path)[:1])
    assert verdict.status == "unparsed"
    assert verdict.values["score"] == 0
    assert "parsed_score" not in verdict.values
    assert [body["temperature"] for _, body in asked] == [0, 0, 0.5, 1.0, 1.5]
    reminded = [body["messages"][0]["content"].endswith("(digit): ") for _, body in asked]
    assert reminded == [False, True, True, True, True]


def test_a_later_reply_that_can_be_read_is_the_grade(tmp_path):
    write_mm_vet(tmp_path)
    with chat_server(lambda number, body: "0.4" if number == 2 else "?") as (url, asked):
        (verdict,) = MMVetGrader(_server(url)).judge(_responses(tmp_path)[:1])
    assert (verdict.status, verdict.values["score"], len(asked)) == ("scored", 0.4, 3)


def test_a_busy_server_is_asked_again_with_longer_waits():
    waits = []
    with chat_server(lambda number, body: (429, "busy") if number < 3 else "0.5") as (url, asked):
        server = ChatServer(url, "m", sleep=waits.append)
        assert server.ask([{"role": "user", "content": "?"}], temperature=0, max_tokens=3) == "0.5"
    assert waits == [1, 2, 4]
    assert "Authorization" not in asked[0][0]


@pytest.mark.parametrize(("status", "requests"), [(401, 1), (404, 1), (503, 3)])
def test_a_server_that_refuses_is_an_error_and_no_grade(status, requests):
    with chat_server(lambda number, body: (status, "no")) as (url, asked):
        server = _server(url, tries=3)
        with pytest.raises(JudgeError, match=f"HTTP {status}") as raised:
            server.ask([], temperature=0, max_tokens=3)
    assert len(asked) == requests
    assert "secret" not in str(raised.value) + repr(server)


def test_a_server_that_is_not_there_is_an_error():
    with chat_server(lambda number, body: "") as (url, _):
        pass
    with pytest.raises(JudgeError, match="expected a chat completion"):
        _server(url, tries=2).ask([], temperature=0, max_tokens=3)


def test_without_a_server_or_the_examples_the_message_says_what_to_set(tmp_path, monkeypatch):
    monkeypatch.delenv("REGAP_GRADER_URL", raising=False)
    write_mm_vet(tmp_path, evaluator=False)
    with pytest.raises(JudgeError, match="REGAP_GRADER_URL and REGAP_GRADER_MODEL"):
        MMVetGrader().judge(_responses(tmp_path)[:1])
    with pytest.raises(ValueError, match="expected the grader's examples"):
        MMVetGrader(_server("http://localhost:1")).judge(_responses(tmp_path)[:1])


def test_answers_of_llava_are_graded(tmp_path, monkeypatch):
    write_mm_vet(tmp_path)
    monkeypatch.setenv("REGAP_GRADER_MODEL", "judge-1")
    path = write_answers(tmp_path / "a.jsonl", [(0, "a"), (1, ""), (2, "c")])
    with chat_server(lambda number, body: f"0.{number}") as (url, _):
        monkeypatch.setenv("REGAP_GRADER_URL", url)
        score = score_file("mm_vet", path, tmp_path)
    assert score.official["as given"]["total"] == 10.0
    assert score.counts["missing"] == 0


def test_grading_goes_on_where_a_server_failed(tmp_path, monkeypatch, capsys):
    write_mm_vet(tmp_path / "data")
    monkeypatch.setenv("REGAP_GRADER_MODEL", "judge-1")
    run = tmp_path / "run"
    words = ["run", "--model", "fake:mixed", "--tasks", "mm_vet", "--data", str(tmp_path / "data")]
    replies = ["0.5", (401, "key expired")]
    with chat_server(lambda number, body: replies[number]) as (url, _):
        monkeypatch.setenv("REGAP_GRADER_URL", url)
        assert cli.main([*words, "--output", str(run)]) == 1
    assert "HTTP 401" in capsys.readouterr().err
    with chat_server(lambda number, body: "1.0") as (url, asked):
        monkeypatch.setenv("REGAP_GRADER_URL", url)
        assert cli.main(["judge", str(run)]) == 0
    assert len(asked) == 2
    judgements = read_run(run / "judgements.mm_vet.jsonl", Judgement)[1]
    assert [item.values["score"] for item in judgements] == [0.5, 1.0, 1.0]
    assert "secret" not in (run / "judgements.mm_vet.jsonl").read_text(encoding="utf-8")


def test_the_whole_way_on_stand_in_data(tmp_path, monkeypatch, capsys):
    write_mm_vet(tmp_path / "data")
    monkeypatch.setenv("REGAP_GRADER_MODEL", "judge-1")
    with chat_server(lambda number, body: "0.6") as (url, _):
        monkeypatch.setenv("REGAP_GRADER_URL", url)
        results, scored = run_whole_way("mm_vet", tmp_path / "data", tmp_path / "run", capsys)
    assert results["total,none"] == pytest.approx(0.6)
    assert scored["official"]["as given"]["total"] == 60.0
    assert json.dumps(scored)


@needs_data
def test_the_official_questions():
    samples = list(load_plugins().benchmarks.get("mm_vet").samples(DATA))
    assert len(samples) == 218
    counts = {
        name: sum(name in item.category.split("_") for item in samples) for name in CAPABILITIES
    }
    assert counts == {"rec": 150, "ocr": 96, "know": 84, "gen": 80, "spat": 75, "math": 26}
