"""The whole utility suite by one command, on a model that is none and files that are made up."""

import hashlib
import json
from pathlib import Path
from typing import Any, Dict, Iterator, List, Sequence

import pytest

pytest.importorskip("PIL")
pytest.importorskip("scipy")
pytest.importorskip("statsmodels")
pytest.importorskip("tabulate")

from stand_ins.chat_server import chat_server
from stand_ins.utility_sets import GRADED, TASKS, write_all

from regap_benchmarks import cli
from regap_benchmarks.plugins import load_plugins
from regap_benchmarks.records import Judgement, Response, read_run

COUNT = 12
# Undefined unless people's answers are here: a server has them.
WITHOUT_SCORE = ("vizwiz", "vqav2")


def grade(number: int, body: Dict[str, Any]) -> str:
    """A grade in the form of the set that asks, by what is asked; some cannot be read."""
    text = body["messages"][-1]["content"]
    asked = text.replace("\nGive a number (digit): ", "")
    drawn = int(hashlib.sha256(asked.encode()).hexdigest(), 16) % 10
    if drawn < 3:
        return "I cannot say."
    return f"8 {drawn}\nBecause." if len(body["messages"]) == 2 else f"0.{drawn}"


def run(
    data: Path,
    output: Path,
    seed: int,
    *more: str,
    tasks: Sequence[str] = TASKS,
    command: str = "run",
) -> int:
    words = [
        command,
        *("--model", "fake:mixed"),
        *("--tasks", ",".join(tasks)),
        *("--data", str(data)),
        *("--output", str(output)),
        *("--seed", str(seed)),
        *more,
    ]
    return cli.main(words)


def graded_by(url: str) -> Sequence[str]:
    return ("--grader-url", url, "--grader-model", "judge-1")


@pytest.fixture(scope="module")
def grader() -> Iterator[str]:
    """The base URL of a grading model that draws its grades."""
    with chat_server(grade) as (url, _):
        yield url


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, grader: str) -> List[Path]:
    """Two seeds of a plain model, two of a regularised one."""
    folder = tmp_path_factory.mktemp("suite")
    write_all(folder / "data", COUNT)
    found = [folder / name for name in ("plain0", "plain1", "regap0", "regap1")]
    assert run(folder / "data", found[0], 0, *graded_by(grader)) == 0
    for seed, output in enumerate(found[1:], start=1):
        # Stage by stage: to compare, no report of one run is needed.
        assert run(folder / "data", output, seed, command="generate") == 0
        assert cli.main(["judge", str(output), *graded_by(grader)]) == 0
    return found


def test_every_registered_set_of_utility_is_in_the_suite() -> None:
    benchmarks = load_plugins().benchmarks
    utility = {name for name in benchmarks.names if benchmarks.get(name).kind == "utility"}
    assert utility == set(TASKS), "write stand-in files in stand_ins/utility_sets.py"


def test_one_command_asks_scores_and_reports_every_set(runs: List[Path]) -> None:
    found = json.loads((runs[0] / "results.json").read_text())["results"]
    # A set some of whose questions have no picture has a row for those too.
    assert {name.partition("@")[0] for name in found} == set(TASKS)
    for task in TASKS:
        scorer = load_plugins().benchmarks.get(task).scorer()
        assert scorer is not None
        metrics = {f"{metric.name},none" for metric in scorer.metrics}
        assert metrics <= set(found[task]), task
        assert (runs[0] / f"judgements.{task}.jsonl").is_file()
    table = (runs[0] / "results.md").read_text()
    assert all(task in table for task in TASKS)


@pytest.mark.parametrize("task", TASKS)
def test_each_set_is_scored_again_without_asking_anyone(
    runs: List[Path], task: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the stored judgements; where no model grades, from the answers too, to the same."""
    scored = []
    for name in (f"judgements.{task}.jsonl", *(() if task in GRADED else ("responses.jsonl",))):
        words = ["score", task, "--json", "--resamples", "100", "--responses"]
        assert cli.main([*words, str(runs[0] / name)]) == 0
        scored.append(json.loads(capsys.readouterr().out))
    assert all(each == scored[0] for each in scored)
    counts = scored[0]["counts"]
    asked = [
        item for item in read_run(runs[0] / "responses.jsonl", Response)[1]
        if item.sample.task == task
    ]  # fmt: skip
    assert (counts["asked"], counts["missing"], counts["failed"]) == (len(asked), 0, 0)
    judged = read_run(runs[0] / f"judgements.{task}.jsonl", Judgement)[1]
    assert counts["unparsed"] == sum(item.status == "unparsed" for item in judged)
    values = [row["value"] for row in scored[0]["estimates"] if not row["category"]]
    assert any(value is not None for value in values)
    if task not in WITHOUT_SCORE:
        assert any(row["higher_is_better"] for row in scored[0]["estimates"])


def test_what_cannot_be_read_is_shown_for_every_set_that_can_have_it(runs: List[Path]) -> None:
    rows = json.loads((runs[0] / "results.json").read_text())["regap"]["estimates"]
    unparsed = {row["task"] for row in rows if row["unparsed"]}
    # Short answers are texts of their own: whatever is said is read.
    free = {"gqa", "textvqa", "textvqa_no_ocr", "vizwiz", "vizwiz_val", "vqav2"}
    assert unparsed == set(TASKS) - free - {"vqav2_val"}
    table = (runs[0] / "results.md").read_text()
    assert "Unparsed" in table


def test_the_same_command_again_asks_nothing(
    runs: List[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    before = (runs[0] / "responses.jsonl").read_bytes()
    assert run(runs[0].parent / "data", runs[0], 0, command="generate") == 0
    assert (runs[0] / "responses.jsonl").read_bytes() == before
    asked = len(before.splitlines()) - 1
    assert f"{asked} of them kept from before" in capsys.readouterr().out
    # That grader is not there, and nothing is left to grade.
    assert cli.main(["judge", str(runs[0]), *graded_by("http://localhost:1")]) == 0


def test_baseline_against_regularised_with_a_margin(
    runs: List[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, regap = (f"{runs[i]},{runs[i + 1]}" for i in (0, 2))
    margin = "90,gqa=1,mme=30,mme.cognition=190"
    words = ["compare", f"plain={plain}", f"regap={regap}", "--margin", margin]
    words += ["--resamples", "1000"]
    assert cli.main([*words, "--output", str(tmp_path / "compared.json")]) == 0
    rows = json.loads((tmp_path / "compared.json").read_text())
    by_metric = {(row["task"], row["metric"]): row for row in rows if not row["condition"]}
    expected = {
        (task, metric.name)
        for task in TASKS
        for metric in load_plugins().benchmarks.get(task).scorer().metrics  # type: ignore[union-attr]
    }
    assert set(by_metric) == expected
    for key, row in by_metric.items():
        assert row["n"] > 0 or row["first"]["gaps"] > 0, key
        assert row["requests"] <= row["n"]
        if row["difference"] is not None:
            assert row["lower"] <= row["difference"] <= row["upper"], key
            assert row["equivalence"] is not None, key
            assert "compares methods over 2 and 2 runs" in row["scope"]
    assert by_metric["gqa", "accuracy"]["equivalence"]["margin"] == pytest.approx(0.01)
    assert by_metric["gqa", "accuracy"]["equivalence"]["equivalent"] is False
    assert by_metric["vizwiz_val", "vqa_accuracy"]["equivalence"]["margin"] == pytest.approx(0.9)
    # MME's points: stated in points, kept as fractions of the factor.
    for metric, margin_of in (("perception", 30), ("cognition", 190)):
        row = by_metric["mme", metric]
        assert row["factor"] == 100
        assert row["equivalence"]["margin"] * row["factor"] == pytest.approx(margin_of)
        assert row["lower"] < row["upper"]
    verdicts = {row["equivalence"]["equivalent"] for row in rows if row["equivalence"]}
    assert verdicts == {True, False}
    shown = capsys.readouterr().out
    assert "within ±90.0" in shown
    assert "compares methods over 2 and 2 runs" in shown


@pytest.mark.parametrize(
    ("task", "lines"),
    [("vizwiz", COUNT), ("gqa", COUNT), ("vqav2", 2 * COUNT), ("seed_bench", COUNT)],
)
def test_what_a_server_takes(
    runs: List[Path], tmp_path: Path, task: str, lines: int, capsys: pytest.CaptureFixture[str]
) -> None:
    data, output = runs[0].parent / "data", tmp_path / "upload.json"
    words = ["submit", task, str(runs[0]), "--output", str(output), "--data", str(data)]
    assert cli.main(words) == 0
    assert f"Submission: {output}" in capsys.readouterr().out
    text = output.read_text()
    rows = text.splitlines() if task == "seed_bench" else json.loads(text)
    assert len(rows) == lines


def test_what_no_server_takes(
    runs: List[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, output = runs[0].parent / "data", str(tmp_path / "upload.json")
    assert cli.main(["submit", "textvqa", str(runs[0]), "--output", output]) == 1
    assert "expected a set that a server scores" in capsys.readouterr().err
    assert cli.main(["submit", "nothing", str(runs[0]), "--output", output]) == 2
    part = tmp_path / "part"
    assert run(data, part, 0, "--limit", "2", tasks=["vizwiz"]) == 0
    assert cli.main(["submit", "gqa", str(part), "--output", output]) == 1
    assert "expected a run that asked it" in capsys.readouterr().err
    assert cli.main(["submit", "vizwiz", str(part), "--output", output]) == 1
    assert "found 2 of 2 under --limit 2" in capsys.readouterr().err
    several = tmp_path / "several"
    assert run(data, several, 0, "--picture", "own,blank", tasks=["vizwiz"]) == 0
    capsys.readouterr()
    assert cli.main(["submit", "vizwiz", str(several), "--output", output]) == 1
    assert "--picture: expected one of own, blank, found none" in capsys.readouterr().err
    words = ["submit", "vizwiz", str(several), "--output", output, "--picture", "blank"]
    assert cli.main(words) == 0
    assert len(json.loads(Path(output).read_text())) == COUNT


def test_upstreams_answers_are_scored_and_written(
    runs: List[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`regap-bench score` on LLaVA's answer lines, in another order, one question twice."""
    data = runs[0].parent / "data"
    rows = [{"question_id": f"2010{i:04d}", "text": "Yes.", "prompt": ""} for i in range(COUNT)]
    rows = [{**rows[1], "text": "no"}, *rows[::-1]]
    answers = tmp_path / "merge.jsonl"
    answers.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["score", "gqa", "--responses", str(answers), "--format", "llava"]
    words += ["--data", str(data), "--submission", str(tmp_path / "p.json"), "--json"]
    assert cli.main(words) == 0
    found = json.loads(capsys.readouterr().out)
    (official,) = found["official"].values()
    assert official["Accuracy"] == 50.0
    assert found["counts"]["repeated"] == 1
    assert len(json.loads((tmp_path / "p.json").read_text())) == COUNT
