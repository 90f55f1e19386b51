"""What holds of every set that is scored here: files in any order, cut, doubled, empty, odd.

Each set's own rule is in its own test. Answers are LLaVA's lines to the stand-ins of all sets.
"""

import json
import random
from pathlib import Path
from typing import Any, Dict, List, Mapping

import pytest

pytest.importorskip("statsmodels", reason="estimates need the extra eval")
pytest.importorskip("PIL")

from stand_ins.answer_files import score_file, whole
from stand_ins.utility_sets import CHOSEN, write_all

from regap_benchmarks import cli
from regap_benchmarks.official.stored_answers import LAST
from regap_benchmarks.plugins import load_plugins
from regap_benchmarks.records import Sample
from regap_benchmarks.scoring import AS_GIVEN, Score

# pope_head's ids are its own: LLaVA wrote no answers to it.
TASKS = tuple(
    sorted({*CHOSEN, "gqa", "seed_bench", "textvqa", "textvqa_no_ocr", "vizwiz_val", "vqav2_val"})
)
TEXTS = (
    *("Yes", "no", "No, it is not.", "A", "B.", "C", "The answer is A.", "red", "Two", "a dog"),
    *("1,000", "don't", "\u00e9t\u00e9", "\u65e5\u672c", "stop", "unanswerable", "fire truck"),
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_all(folder, 12)
    return folder


def samples_of(task: str, data: Path) -> List[Sample]:
    return list(load_plugins().benchmarks.get(task).samples(data))


def line(sample: Sample, text: str) -> Dict[str, Any]:
    """As LLaVA's scripts write it: MME's and TextVQA's name the picture, and the prompt tells."""
    name: Any = sample.id
    prompt = sample.prompt
    if sample.task == "scienceqa" and sample.pictures:
        prompt = f"<image>\n{prompt}"  # by which upstream's IMG accuracy goes
    if sample.task == "mme":
        name = sample.request
    elif sample.task.startswith("textvqa"):
        name = sample.metadata["question_id"]
    return {"question_id": name, "prompt": prompt, "text": text, "metadata": {}}


def drawn(task: str, data: Path, seed: int = 0) -> List[Dict[str, Any]]:
    rng = random.Random(f"{task} {seed}")
    rows = []
    for sample in samples_of(task, data):
        right = sample.references[0]
        rows.append(line(sample, right if rng.random() < 0.5 else rng.choice(TEXTS)))
    return rows


def score(task: str, data: Path, rows: List[Dict[str, Any]], path: Path) -> Score:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return score_file(task, path, data)


def numbers(found: Score) -> Dict[str, Any]:
    """All estimates, and what is counted."""
    rows = whole(found, resamples=100)
    return {name: (row.value, row.n, row.unparsed, row.empty) for name, row in rows.items()}


def flat(official: Any, name: str = "") -> Dict[str, Any]:
    """Nested numbers by their path."""
    if not isinstance(official, Mapping):
        return {name: official}
    found: Dict[str, Any] = {}
    for key, value in official.items():
        found.update(flat(value, f"{name}/{key}"))
    return found


@pytest.mark.parametrize("task", TASKS)
def test_the_order_of_a_file_changes_nothing(task: str, data: Path, tmp_path: Path) -> None:
    rows = drawn(task, data)
    first = score(task, data, rows, tmp_path / "a.jsonl")
    shuffled = list(rows)
    random.Random(1).shuffle(shuffled)
    second = score(task, data, shuffled, tmp_path / "a.jsonl")
    assert numbers(first) == numbers(second)
    assert first.counts == second.counts
    assert first.counts["asked"] == first.counts["answered"] == len(rows)
    if not task.startswith("pope"):  # upstream pairs by row, and its numbers say so
        assert flat(first.official) == pytest.approx(flat(second.official))


@pytest.mark.parametrize("task", TASKS)
def test_right_answers_are_all_right(task: str, data: Path, tmp_path: Path) -> None:
    rows = [line(sample, sample.references[0]) for sample in samples_of(task, data)]
    found = whole(score(task, data, rows, tmp_path / "a.jsonl"), resamples=100)
    better = [row for row in found.values() if row.higher_is_better and row.metric != "perception"]
    # Stand-ins of people's answers are no ten equal ones, and MME's points are two for a subtask.
    if task in ("textvqa", "textvqa_no_ocr", "vizwiz_val", "vqav2_val"):
        assert all(row.value is not None and row.value > 0 for row in better)
    else:
        assert all(row.value in (1, 2) for row in better), [(r.metric, r.value) for r in better]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("text", ["", " ", "\n"])
def test_empty_answers_are_wrong_or_folded_and_counted(
    task: str, text: str, data: Path, tmp_path: Path
) -> None:
    rows = [line(sample, text) for sample in samples_of(task, data)]
    found = score(task, data, rows, tmp_path / "a.jsonl")
    assert found.counts["answered"] == len(rows)
    if task in (*CHOSEN, "seed_bench"):
        assert found.counts["empty"] == len(rows)
    estimates = whole(found, resamples=100)
    for row in estimates.values():
        if row.metric.startswith("parsed"):
            assert (row.n, row.value) == (0, None)
        elif row.higher_is_better and not task.startswith("pope"):
            assert row.value == 0, row.metric


@pytest.mark.parametrize("task", TASKS)
def test_a_missing_answer_is_counted_and_an_exit_status(
    task: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = drawn(task, data)
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows[:-1]), encoding="utf-8")
    words = ["score", task, "--responses", str(path), "--format", "llava", "--data", str(data)]
    status = cli.main([*words, "--resamples", "100", "--json"])
    counts = json.loads(capsys.readouterr().out)["counts"]
    assert counts["asked"] == len(rows)
    if task.startswith("mmbench"):
        # The workbook has an empty prediction in its place.
        assert (status, counts["missing"], counts["empty"]) == (0, 0, 1)
    else:
        assert (status, counts["missing"]) == (3, 1)


@pytest.mark.parametrize("task", TASKS)
def test_two_answers_to_one_question(task: str, data: Path, tmp_path: Path) -> None:
    rows = drawn(task, data)
    doubled = [{**rows[0], "text": "zebra"}, *rows]
    if load_plugins().benchmarks.get(task).answered_twice == LAST:
        before = score(task, data, rows, tmp_path / "a.jsonl")
        after = score(task, data, doubled, tmp_path / "a.jsonl")
        assert numbers(after) == numbers(before)
        assert after.counts["repeated"] == 1
        assert any("more than once" in note for note in after.notes)
    else:
        with pytest.raises(ValueError, match=r"expected (one|an) answer to"):
            score(task, data, doubled, tmp_path / "a.jsonl")


@pytest.mark.parametrize("task", TASKS)
def test_answers_to_other_questions(task: str, data: Path, tmp_path: Path) -> None:
    rows = drawn(task, data)
    more = [*rows, {**rows[0], "question_id": "nobody asked", "prompt": "Why?\nSay it."}]
    if load_plugins().benchmarks.get(task).ignores_unknown or task == "mme":
        before = score(task, data, rows, tmp_path / "a.jsonl")
        after = score(task, data, more, tmp_path / "a.jsonl")
        assert numbers(after) == numbers(before)
        assert any("pass" in note for note in after.notes)
    else:
        with pytest.raises(ValueError, match="expected an answer to"):
            score(task, data, more, tmp_path / "a.jsonl")


@pytest.mark.parametrize("task", TASKS)
def test_a_line_that_is_no_answer_is_named(task: str, data: Path, tmp_path: Path) -> None:
    rows = drawn(task, data)
    for bad in ({**rows[1], "text": None}, {"question_id": 1}, "yes"):
        with pytest.raises(ValueError, match=r"a\.jsonl, line 2"):
            score(task, data, [rows[0], bad, *rows[2:]], tmp_path / "a.jsonl")  # type: ignore[list-item]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("task", TASKS)
def test_estimates_and_official_numbers_agree_where_nothing_is_missing(
    task: str, seed: int, data: Path, tmp_path: Path
) -> None:
    found = score(task, data, drawn(task, data, seed), tmp_path / "a.jsonl")
    official, estimates = found.official[AS_GIVEN], whole(found, resamples=100)
    pairs = {
        "mmbench": ("circular_acc", "circular_accuracy", 100),
        "mmbench_en": ("circular_acc", "circular_accuracy", 100),
        "mme": ("perception", "perception", 100),
        "pope": ("mean_f1", "mean_f1", 1),
        "pope_head": ("mean_f1", "mean_f1", 1),
        "scienceqa": ("acc", "accuracy", 100),
        "gqa": ("Accuracy", "accuracy", 100),
        "seed_bench": ("Total accuracy", "accuracy", 100),
        "textvqa": ("Accuracy", "vqa_accuracy", 100),
        "textvqa_no_ocr": ("Accuracy", "vqa_accuracy", 100),
        "vizwiz_val": ("accuracy", "vqa_accuracy", 100),
        "vqav2_val": ("overall", "vqa_accuracy", 100),
    }
    theirs, ours, factor = pairs[task]
    value, number = estimates[ours].value, official[theirs]
    assert isinstance(number, float)
    assert value is not None
    # vqaEval.py prints two decimals.
    assert value * factor == pytest.approx(number, abs=0.006 if task == "vqav2_val" else 1e-9)
