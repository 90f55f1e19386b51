"""Which server grades: flags before the environment, refusals before work, grades that are kept."""

import json
from pathlib import Path
from typing import List

import pytest

pytest.importorskip("statsmodels", reason="estimates need the extra eval")
pytest.importorskip("PIL")

from stand_ins.answer_files import write_answers
from stand_ins.chat_server import chat_server
from stand_ins.graded_files import write_mm_vet

from regap_benchmarks import cli
from regap_benchmarks.judges.grader import GraderOptions, set_graders
from regap_benchmarks.judging import JudgeError
from regap_benchmarks.plugins import load_plugins
from regap_benchmarks.records import Judgement, read_run
from regap_benchmarks.utility.mm_vet import MMVetGrader


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("URL", "MODEL", "KEY"):
        monkeypatch.delenv(f"REGAP_GRADER_{name}", raising=False)


def test_flags_come_before_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REGAP_GRADER_URL", "http://there:1/v1")
    monkeypatch.setenv("REGAP_GRADER_MODEL", "there")
    monkeypatch.setenv("REGAP_GRADER_KEY", "their key")
    found = GraderOptions().server("mm_vet")
    assert (found.url, found.model, found.key) == ("http://there:1/v1", "there", "their key")
    (tmp_path / "key").write_text("our key\n")
    found = GraderOptions(
        url="https://here/v1", key_file=tmp_path / "key", timeout=3, tries=2
    ).server("mm_vet")
    assert (found.url, found.model, found.key) == ("https://here/v1", "there", "our key")
    assert (found.timeout, found.tries) == (3, 2)
    assert "our key" not in repr(found)


def test_what_is_missing_is_said() -> None:
    with pytest.raises(JudgeError, match="expected --grader-url and --grader-model"):
        GraderOptions(model="m").server("mm_vet")
    with pytest.raises(JudgeError, match="found 'http://here' and ''"):
        GraderOptions(url="http://here").server("mm_vet")
    options = GraderOptions(url="http://here", model="m", key_file=Path("nowhere"))
    with pytest.raises(JudgeError, match="--grader-key-file nowhere: expected a file"):
        options.server("mm_vet")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--grader-url here", "--grader-url: expected one such as http://localhost:8000/v1"),
        ("--grader-url ftp://here", "--grader-url: expected one such as"),
        ("--grader-timeout 0", "--grader-timeout: expected seconds above 0"),
        ("--grader-tries 0", "--grader-tries: expected 1 or more"),
    ],
)
def test_wrong_flags_are_wrong_usage(
    tmp_path: Path, words: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = ["run", "--model", "fake:mixed", "--tasks", "mm_vet", "--output", str(tmp_path / "run")]
    for command in (["judge", str(tmp_path)], run, ["score", "mm_vet", "--responses", "x"]):
        assert cli.main([*command, *words.split()]) == 2
        assert message in capsys.readouterr().err


def test_flags_that_nobody_reads_are_refused() -> None:
    scorer = load_plugins().benchmarks.get("gqa").scorer()
    with pytest.raises(ValueError, match="--grader-model, --grader-tries: expected with a task"):
        set_graders([scorer, None], GraderOptions(model="m", tries=1))
    assert set_graders([scorer, None], GraderOptions()) == []
    grader = MMVetGrader()
    assert set_graders([scorer, grader], GraderOptions(model="m")) == [grader]
    assert grader.describe()["model"] == "m"


def _run(folder: Path, *more: str) -> List[str]:
    words = ["run", "--model", "fake:mixed", "--tasks", "mm_vet", "--data", str(folder / "data")]
    return [*words, "--output", str(folder / "run"), *more]


def test_nothing_is_generated_that_could_not_be_graded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_mm_vet(tmp_path / "data")
    assert cli.main(_run(tmp_path)) == 1
    assert "expected --grader-url and --grader-model" in capsys.readouterr().err
    assert not (tmp_path / "run" / "responses.jsonl").exists()


def test_a_run_by_flags_alone_and_its_judgements_offline(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_mm_vet(tmp_path / "data")
    (tmp_path / "key").write_text("secret")
    with chat_server(lambda number, body: "0.5") as (url, asked):
        more = ("--grader-url", url, "--grader-model", "judge-1")
        assert cli.main(_run(tmp_path, *more, "--grader-key-file", str(tmp_path / "key"))) == 0
    assert [headers["Authorization"] for headers, _ in asked] == ["Bearer secret"] * 3
    assert {body["model"] for _, body in asked} == {"judge-1"}
    written = [path.read_text() for path in (tmp_path / "run").iterdir() if path.is_file()]
    assert written
    assert not any("secret" in text for text in written)
    capsys.readouterr()
    stored = str(tmp_path / "run" / "judgements.mm_vet.jsonl")
    words = ["score", "mm_vet", "--json", "--responses", stored]
    assert cli.main(words) == 0
    assert json.loads(capsys.readouterr().out)["official"]["as given"]["total"] == 50.0
    assert cli.main([*words, "--grader-model", "another"]) == 1
    assert "are for judging, found judgements" in capsys.readouterr().err


def test_another_grader_does_not_go_on_with_the_first_ones_grades(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_mm_vet(tmp_path / "data")
    with chat_server(lambda number, body: "0.5") as (url, asked):
        assert cli.main(_run(tmp_path, "--grader-url", url, "--grader-model", "judge-1")) == 0
        words = ["judge", str(tmp_path / "run"), "--grader-url", url, "--grader-model", "judge-2"]
        assert cli.main(words) == 1
        assert "judge-2" in capsys.readouterr().err
        assert cli.main([*words, "--overwrite"]) == 0
    assert [body["model"] for _, body in asked] == ["judge-1"] * 3 + ["judge-2"] * 3


def test_paid_grades_of_upstreams_answers_are_kept_as_they_come(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_mm_vet(tmp_path)
    answers = write_answers(tmp_path / "a.jsonl", [(0, "a"), (1, ""), (2, "c")])
    kept = tmp_path / "grades.jsonl"
    words = ["score", "mm_vet", "--responses", str(answers), "--format", "llava"]
    words += ["--data", str(tmp_path), "--judgements", str(kept), "--grader-model", "judge-1"]
    replies = ["0.2", (401, "key expired")]
    with chat_server(lambda number, body: replies[number]) as (url, _):
        assert cli.main([*words, "--grader-url", url]) == 1
    assert "HTTP 401" in capsys.readouterr().err
    assert len(read_run(kept, Judgement)[1]) == 1
    with chat_server(lambda number, body: "1.0") as (url, asked):
        assert cli.main([*words, "--grader-url", url, "--json"]) == 0
    assert len(asked) == 2
    first = json.loads(capsys.readouterr().out)
    assert first["official"]["as given"]["total"] == 73.3
    # The file of grades by itself, and the same command without the server.
    assert cli.main(["score", "mm_vet", "--responses", str(kept), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["official"] == first["official"]
    assert cli.main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["official"] == first["official"]
    write_answers(tmp_path / "a.jsonl", [(0, "other"), (1, ""), (2, "c")])
    assert cli.main(words) == 1
    assert "answers that have changed" in capsys.readouterr().err
