"""How a conclusion hangs on judge and threshold: planted flips, labels, and the whole way."""

import dataclasses
import json

import pytest
from stand_ins.records import header, response, sample

pytest.importorskip("statsmodels", reason="estimates need the extra eval")

from regap_benchmarks import cli
from regap_benchmarks.comparable import JudgedRun
from regap_benchmarks.estimation import estimate
from regap_benchmarks.judge_dependence import conclusion, dependence, flips, pooled, ways_of
from regap_benchmarks.judges.judge import Judge, Verdict
from regap_benchmarks.judging import answer_sha256, judge_responses
from regap_benchmarks.metrics import REFUSAL_RATE, UNSAFE_RATE
from regap_benchmarks.record_file import RecordFile
from regap_benchmarks.records import Judgement, Response, read_run, to_line

SAMPLES = [sample(number, harmful=True) for number in range(40)]
METRICS = (UNSAFE_RATE, REFUSAL_RATE)


class Planted(Judge):
    """An answer is a number; `turned` judges by one minus it."""

    metrics = METRICS

    def __init__(self, name="planted", turned=False, threshold=0.5):
        self.name, self._turned, self._threshold = name, turned, threshold

    def describe(self):
        return {"threshold": self._threshold}

    def judge(self, responses):
        return [self._verdict(float(each.text)) for each in responses]

    def _verdict(self, number):
        score = 1 - number if self._turned else number
        unsafe = float(score > self._threshold)
        return Verdict({"unsafe": unsafe, "refused": 0.0}, scores={"unsafe": score})


class Words(Planted):
    """The same, without probabilities."""

    def describe(self):
        return {}

    def _verdict(self, number):
        return dataclasses.replace(super()._verdict(number), scores={})


JUDGES = {
    "planted": lambda: Planted(),
    "turned": lambda: Planted("turned", turned=True),
    "words": lambda: Words("words"),
}
# Four seeds of each method, as fewer cannot give p under 0.05.
LEVELS = {"base": (0.62, 0.61, 0.63, 0.6), "ours": (0.38, 0.39, 0.37, 0.4)}


def _answers(level, seed):
    return [
        response(each, f"{min(max(level + (number * 17 % 40 - 19.5) / 100, 0), 1):.3f}")
        for number, each in enumerate(SAMPLES)
    ]


def _write(folder, level, seed):
    folder.mkdir(parents=True)
    answers = _answers(level, seed)
    own = header(SAMPLES, settings={"seed": seed, "model": {"checkpoint": folder.name}})
    with RecordFile(folder / "responses.jsonl", Response, own) as file:
        file.append(answers)
    for name, make in JUDGES.items():
        judge_responses(own, answers, make(), path=folder / f"judgements.{name}.jsonl")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    for group, levels in LEVELS.items():
        for seed, level in enumerate(levels):
            _write(root / f"{group}{seed}", level, seed)
    return root


def _judged(root, judge):
    return {
        group: [
            JudgedRun(str(folder), *read_run(folder / f"judgements.{judge}.jsonl", Judgement))
            for folder in (root / f"{group}{seed}" for seed in range(4))
        ]
        for group in LEVELS
    }


@pytest.fixture(scope="module")
def rows(runs):
    judged = {name: (_judged(runs, name), METRICS) for name in JUDGES}
    return dependence(judged, [0.05, 0.95, 0.5], resamples=300)


def _row(rows, judge, threshold):
    (found,) = [
        row
        for row in rows
        if (row.way.judge, row.way.threshold) == (judge, threshold)
        and row.metric.name == "unsafe_rate"
    ]
    return found


def test_each_way_concludes_what_was_planted(rows):
    assert _row(rows, "planted", 0.5).conclusion == "lower"
    assert _row(rows, "turned", 0.5).conclusion == "higher"
    assert _row(rows, "words", None).conclusion == "lower"
    # Everything is above 0.05 and nothing above 0.95: no difference can be shown.
    assert _row(rows, "planted", 0.05).conclusion in ("not shown", "undefined")
    assert _row(rows, "planted", 0.95).conclusion in ("not shown", "undefined")


def test_flips_are_counted(rows):
    found = flips(rows, "planted")
    (own,) = [each for each in found if each.metric == "unsafe_rate"]
    assert (own.groups, own.conclusion) == (("base", "ours"), "lower")
    # planted at two more thresholds, turned at three, words once.
    assert own.of == 6
    assert own.same == 1
    assert own.reversed == 1
    assert own.same + own.lost + own.gained + own.reversed + own.undefined == own.of
    assert own.signs == sum(
        row.comparison.difference > 0
        for row in rows
        if row.metric.name == "unsafe_rate" and row.comparison.difference is not None
    )


def test_agreement_is_with_the_reference_over_all_runs(rows):
    assert _row(rows, "planted", 0.5).against is None
    same = _row(rows, "words", None)
    assert (same.against.kappa.value, same.against.n, same.against.requests) == (1.0, 320, 40)
    assert (same.errors.missed, same.errors.alarms) == (0, 0)
    other = _row(rows, "turned", 0.5)
    assert other.against.kappa.value < 0
    assert other.errors.missed + other.errors.alarms > 200


def test_a_reference_must_be_one_of_the_judges(runs):
    judged = {"planted": (_judged(runs, "planted"), METRICS)}
    with pytest.raises(ValueError, match="--against human: expected one of the judges planted"):
        dependence(judged, [0.5], reference="human")


def test_ways_of_a_judge(runs):
    runs_of = [run for each in _judged(runs, "planted").values() for run in each]
    ways = ways_of("planted", runs_of, METRICS, [0.9, 0.5, 0.1])
    assert [(way.threshold, way.own) for way in ways] == [
        (0.5, True),
        (0.1, False),
        (0.9, False),
        (None, True),
    ]
    assert [len(way.metrics) for way in ways] == [1, 1, 1, 1]
    words = [run for each in _judged(runs, "words").values() for run in each]
    (way,) = ways_of("words", words, METRICS, [0.9])
    assert (way.threshold, way.own, way.metrics) == (None, True, METRICS)
    with pytest.raises(ValueError, match="expected probabilities from 0 to 1, found 2"):
        ways_of("planted", runs_of, METRICS, [2])


def test_pooled_runs_keep_their_requests(runs):
    both = pooled(_judged(runs, "planted")["base"])
    assert len(both.judgements) == 160
    assert both.header.samples == 160
    estimate(both.header, both.judgements, [UNSAFE_RATE])
    assert len({item.request for item in both.judgements}) == 40


def test_a_comparison_without_a_p_concludes_nothing(rows):
    row = _row(rows, "planted", 0.5).comparison
    assert conclusion(dataclasses.replace(row, p=None)) == "undefined"
    assert conclusion(dataclasses.replace(row, p=0.5)) == "not shown"


# ---- by the command line


def test_one_table_of_groups(runs, tmp_path, capsys):
    groups = [
        f"{name}={','.join(str(runs / f'{name}{seed}') for seed in range(4))}" for name in LEVELS
    ]
    words = ["--judge", "planted,turned,words", "--threshold", "0.05,0.5", "--resamples", "200"]
    assert cli.main(["judge", *groups, *words, "--output", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert "ours against base is lower; the conclusion changes in 3 of 4 other rows" in out
    document = json.loads((tmp_path / "out" / "sensitivity.json").read_text("utf-8"))
    assert all(row["n"] for row in document["agreement"])
    (flip,) = [each for each in document["flips"] if each["metric"] == "unsafe_rate"]
    assert flip["reversed"] == 1
    assert {tuple(row["judges"]) for row in document["agreement"]} >= {
        ("planted", "turned"),
        ("planted", "turned", "words"),
    }
    assert cli.main(["judge", *groups, *words]) == 2
    assert "--output: expected a folder for the tables of groups" in capsys.readouterr().err


def _labels(runs, path, **changes):
    answers = _answers(LEVELS["base"][0], 0)
    lines = [
        to_line(
            Judgement(
                *(each.sample.task, each.sample.id, each.sample.request, each.sample.condition),
                *(each.sample.category, each.sample.harmful, "human", "scored"),
                values={"unsafe": float(float(each.text) > 0.6)},
                answer_sha256=changes.get("sha256", answer_sha256(each)),
            )
        )
        for each in answers
    ]
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return sum(float(each.text) > 0.6 for each in answers), answers


def test_against_the_labels_of_people(runs, tmp_path, capsys):
    ones, answers = _labels(runs, tmp_path / "labels.jsonl")
    words = ["--judge", "planted,words", "--threshold", "0.6,0.7", "--resamples", "200"]
    labels = ["--labels", str(tmp_path / "labels.jsonl"), "--output", str(tmp_path / "out")]
    assert cli.main(["judge", str(runs / "base0"), *words, *labels]) == 0
    assert "with human as it was run" in capsys.readouterr().out
    document = json.loads((tmp_path / "out" / "sensitivity.json").read_text("utf-8"))
    rows = {
        row["threshold"]: row
        for row in document["rows"]
        if (row["judge"], row["metric"], row["condition"]) == ("planted", "unsafe_rate", "")
    }
    zeros = len(answers) - ones
    between = sum(0.6 < float(each.text) <= 0.7 for each in answers)
    below = sum(0.5 < float(each.text) <= 0.6 for each in answers)
    expected = {"of_ones": ones, "of_zeros": zeros}
    assert rows[0.6]["errors"] == {"missed": 0, "alarms": 0, **expected}
    assert rows[0.7]["errors"] == {"missed": between, "alarms": 0, **expected}
    assert rows[0.5]["errors"] == {"missed": 0, "alarms": below, **expected}
    assert rows[0.6]["against"]["kappa"]["value"] == 1.0
    (own,) = [r for r in document["rows"] if r["judge"] == "human" and r["condition"] == ""]
    assert own["estimate"]["value"] == ones / len(answers)


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["--labels", "LABELS"], 2, "--labels: expected with --threshold, found without"),
        (["--threshold", "own", "--labels", "OTHER"], 1, "expected labels of the answers of"),
        (["--threshold", "0.5", "--judge", "words"], 1, "Pass --threshold own"),
        (["--threshold", "0.5", "--estimate"], 2, "as nothing is judged"),
        (["--threshold", "own", "--against", "x"], 1, "--against x: expected one of the judges"),
    ],
)
def test_what_cannot_be_is_told(runs, tmp_path, capsys, words, status, message):
    _labels(runs, tmp_path / "labels.jsonl")
    _labels(runs, tmp_path / "other.jsonl", sha256="0" * 16)
    files = {"LABELS": tmp_path / "labels.jsonl", "OTHER": tmp_path / "other.jsonl"}
    words = [str(files.get(word, word)) for word in words]
    command = ["judge", str(runs / "base0"), "--judge", "planted", *words]
    assert cli.main([*command, "--output", str(tmp_path)]) == status
    assert message in capsys.readouterr().err


def test_several_runs_are_groups(runs, capsys):
    assert cli.main(["judge", str(runs / "base0"), str(runs / "ours0")]) == 2
    assert "expected one folder, or groups as GROUP=DIR,DIR" in capsys.readouterr().err
