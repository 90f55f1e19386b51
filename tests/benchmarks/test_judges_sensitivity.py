"""Rates at other thresholds: the same as judging again at them, without a judge."""

import json

import pytest
from stand_ins.records import header, response, sample

pytest.importorskip("statsmodels", reason="estimates need the extra eval")

from regap_benchmarks import cli
from regap_benchmarks.estimation import estimate
from regap_benchmarks.judges.judge import Judge, Verdict
from regap_benchmarks.judging import judge_responses
from regap_benchmarks.metrics import REFUSAL_RATE, UNSAFE_RATE
from regap_benchmarks.record_file import RecordFile
from regap_benchmarks.records import Judgement, Response, read_run
from regap_benchmarks.sensitivity import sensitivity

SAMPLES = [
    sample(number, harmful=True, condition=condition, category="c" if number % 3 else "")
    for number in range(20)
    for condition in ("none", "blank")
]
ANSWERS = [
    response(each, "" if index % 13 == 12 else f"{index * 37 % 100 / 100}")
    for index, each in enumerate(SAMPLES)
]
UNREADABLE = "0.0"


class Thresholded(Judge):
    """An answer is the probability of its being unsafe."""

    def __init__(self, threshold=0.5, name="thresholded"):
        self.name, self._threshold = name, threshold

    metrics = (UNSAFE_RATE, REFUSAL_RATE)

    def describe(self):
        return {"threshold": self._threshold}

    def judge(self, responses):
        return [self._verdict(float(each.text)) for each in responses]

    def _verdict(self, score):
        if score == float(UNREADABLE):
            return Verdict(status="unparsed")
        unsafe = float(score > self._threshold)
        return Verdict({"unsafe": unsafe, "refused": 0.0}, scores={"unsafe": score})


def _judged(path, judge):
    judge_responses(header(SAMPLES), ANSWERS, judge, path=path)
    found, judgements = read_run(path, Judgement)
    return found, judgements, judge.metrics


def test_each_threshold_gives_what_a_judge_with_it_would(tmp_path):
    found, judgements, metrics = _judged(tmp_path / "own.jsonl", Thresholded())
    thresholds = [0.9, 0.3, 0.37]
    rows = sensitivity(found, judgements, metrics, thresholds)
    for threshold in (*thresholds, 0.5):
        path = tmp_path / f"{threshold}.jsonl"
        again = estimate(*_judged(path, Thresholded(threshold)))
        expected = [row for row in again if row.metric == "unsafe_rate"]
        assert [row.estimate for row in rows if row.threshold == threshold] == expected
    assert len({row.estimate.value for row in rows if not row.estimate.condition}) > 3
    whole = [row for row in rows if not row.estimate.condition and not row.estimate.category]
    assert [row.threshold for row in whole] == [0.3, 0.37, 0.5, 0.9]
    assert [row.own for row in whole] == [False, False, True, False]
    assert all((row.estimate.unparsed, row.estimate.empty) == (1, 3) for row in whole)


def test_a_score_at_the_threshold_is_not_above_it(tmp_path):
    found, judgements, metrics = _judged(tmp_path / "own.jsonl", Thresholded())
    exact = sorted({each.scores["unsafe"] for each in judgements if each.scores})[10]
    rows = sensitivity(found, judgements, metrics, [exact, exact - 1e-9])
    below, at = [
        row.estimate.value
        for row in rows
        if row.threshold in (exact - 1e-9, exact)
        and not row.estimate.condition
        and not row.estimate.category
    ]
    assert below > at


def test_one_judgement_without_a_probability_is_an_error(tmp_path):
    class Forgets(Thresholded):
        def _verdict(self, score):
            verdict = super()._verdict(score)
            return Verdict(verdict.values) if score == 0.37 else verdict

    with pytest.raises(ValueError, match="expected a probability, found none"):
        sensitivity(*_judged(tmp_path / "own.jsonl", Forgets()), [0.5])


# ---- by the command line


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    with RecordFile(folder / "responses.jsonl", Response, header(SAMPLES)) as file:
        file.append(ANSWERS)
    for judge in (Thresholded(), Thresholded(0.4, "other")):
        _judged(folder / f"judgements.{judge.name}.jsonl", judge)
    return folder


@pytest.fixture(autouse=True)
def known(monkeypatch):
    """Both judges by name; loading one would be an error."""
    from regap_benchmarks.commands import judge as command
    from regap_benchmarks.judges.judge import JudgeKind
    from regap_benchmarks.plugins import BenchmarkPlugins

    def refuse():
        raise AssertionError("no judge is to be loaded")

    plugins = BenchmarkPlugins()
    for name in ("thresholded", "other", "unused"):
        plugins.judges.register(JudgeKind(name, "a judge", "nothing", "this test", refuse))
    monkeypatch.setattr(command, "load_plugins", lambda: plugins)


def test_the_table_has_judges_and_thresholds(run, capsys):
    before = sorted(path.name for path in run.iterdir())
    words = ["judge", str(run), "--judge", "thresholded,other", "--threshold", "0.3,0.4"]
    assert cli.main(words) == 0
    out = capsys.readouterr().out
    assert "0.5*" in out
    assert "0.4*" in out
    document = json.loads((run / "sensitivity.json").read_text("utf-8"))
    rows = [row for row in document["rows"] if row["metric"] == "unsafe_rate"]
    found = {(row["judge"], row["threshold"], row["own"]) for row in rows if row["condition"] == ""}
    assert found == {
        ("thresholded", 0.3, False),
        ("thresholded", 0.4, False),
        ("thresholded", 0.5, True),
        ("other", 0.3, False),
        ("other", 0.4, True),
    }
    assert document["reference"] == "thresholded"
    for row in rows:
        is_reference = (row["judge"], row["own"]) == ("thresholded", True)
        assert (row["against"] is None) == is_reference
    same = [r["against"] for r in rows if (r["judge"], r["threshold"]) == ("other", 0.4)]
    assert {item["judges"][0] for item in same} == {"other at 0.4"}
    (pair,) = [row for row in document["agreement"] if row["metric"] == "unsafe_rate"]
    assert pair["judges"] == ["thresholded", "other"]
    assert "| Threshold |" in " ".join((run / "sensitivity.md").read_text("utf-8").split())
    after = sorted(path.name for path in run.iterdir())
    assert set(after) - set(before) == {"sensitivity.json", "sensitivity.md"}


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        ("--judge thresholded --threshold 0.3,x", 2, "expected probabilities such as 0.3"),
        ("--judge thresholded --threshold 1.3", 1, "expected probabilities from 0 to 1"),
        ("--judge unused --threshold 0.3", 1, "expected judgements of 'unused', found none"),
        ("--judge thresholded --threshold 0.3 --overwrite", 2, "as nothing is judged"),
        ("--judge thresholded --threshold 0.3 --judge-model x", 2, "as nothing is judged"),
    ],
)
def test_what_cannot_be_estimated_is_told(run, capsys, words, status, message):
    assert cli.main(["judge", str(run), *words.split()]) == status
    assert message in capsys.readouterr().err
    assert not (run / "sensitivity.json").exists()


def test_a_judge_without_probabilities_is_told(run, capsys):
    from regap_benchmarks.judges.refusal_phrases import RefusalPhrases

    _judged(run / "judgements.refusal_phrases.jsonl", RefusalPhrases())
    words = ["judge", str(run), "--judge", "refusal_phrases", "--threshold", "0.3"]
    assert cli.main(words) == 1
    assert "expected judgements with probabilities, found none" in capsys.readouterr().err
