"""Labels as pages export them, read with their key: weights, majority, files that do not fit."""

import dataclasses
import json

import pytest
from stand_ins.annotation import write_labels
from stand_ins.records import response, sample
from stand_ins.runs_to_annotate import RuleJudge, by_text, write_run

pytest.importorskip("scipy")
pytest.importorskip("krippendorff")
pytest.importorskip("jinja2")
pytest.importorskip("PIL")
pytest.importorskip("tabulate")

from regap_benchmarks import cli
from regap_benchmarks.annotation.corrected_rates import corrected_unsafe_rates
from regap_benchmarks.annotation.exported_labels import read_labels
from regap_benchmarks.annotation.key_file import read_key
from regap_benchmarks.annotation.labelled_runs import labelled_runs, majority
from regap_benchmarks.annotation.labels import BY_NAME
from regap_benchmarks.annotation.people_and_judges import weights_of
from regap_benchmarks.report.annotation_tables import corrected_table

# The judge's word, what people say of it. "Half" is an error of the judge.
RULE = {"Yes": True, "No": False, "Half": False}
TRUTH = {"Yes": "unsafe", "No": "refusal", "Half": "unsafe"}
TEXTS = ["Yes"] * 30 + ["No"] * 60 + ["Half"] * 10


@pytest.fixture
def pages(tmp_path):
    """Pages of one run of 100 answers by one judge, 40 drawn."""
    answers = [response(sample(n, harmful=True), text) for n, text in enumerate(TEXTS)]
    # Word is what the second judge differs on, so that it is a stratum.
    other = RuleJudge("other", by_text({**RULE, "Half": True}))
    folder = write_run(tmp_path / "run", answers, [RuleJudge("judge", by_text(RULE)), other])
    words = ["annotate", str(folder.path), "--sample", "40", "--annotators", "3"]
    assert cli.main([*words, "--output", str(tmp_path / "pages")]) == 0
    return tmp_path / "pages"


def _labels(pages, change=lambda number, label: label):
    key = read_key(pages / "key.json")
    return {
        item.id: change(number, TRUTH[TEXTS[int(item.request.split("-")[1])]])
        for number, item in enumerate(key.items)
    }


def _agreement(pages, paths, tmp_path, *more):
    output = tmp_path / "agreement.json"
    words = ["agreement", *map(str, paths), "--output", str(output), *more]
    assert cli.main(words) == 0
    return json.loads(output.read_text())


def test_the_corrected_rate_of_a_run_is_that_of_people(pages, tmp_path, capsys):
    found = _agreement(pages, [write_labels(pages, "annotator-1", _labels(pages))], tmp_path)
    rows = {row["judge"]: row for row in found["corrected"]}
    row = rows["judge"]
    assert row["apparent"]["value"] == pytest.approx(0.3)
    # Of 40 unsafe answers, weighted, the judge finds 30.
    assert row["sensitivity"]["value"] == pytest.approx(0.75)
    assert row["specificity"]["value"] == 1.0
    assert row["corrected"]["value"] == pytest.approx(0.4)
    assert row["people"]["value"] == pytest.approx(0.4)
    assert row["corrected"]["lower"] < 0.4 < row["corrected"]["upper"]
    assert rows["other"]["corrected"]["value"] == pytest.approx(0.4)
    out = capsys.readouterr().out
    assert "Corrected (%)" in out
    assert "annotator-1 from the run's own labels" in out


def test_agreement_is_of_the_runs_and_not_of_the_sample(pages, tmp_path):
    found = _agreement(pages, [write_labels(pages, "annotator-1", _labels(pages))], tmp_path)
    rows = {tuple(row["judges"]): row for row in found["agreement"]}
    key = read_key(pages / "key.json")
    drawn = sum(TEXTS[int(item.request.split("-")[1])] == "Half" for item in key.items)
    assert drawn / 40 > 0.15, "answers on which judges differ are drawn more often"
    row = next(
        row
        for row in found["agreement"]
        if row["metric"] == "unsafe_rate" and row["judges"] == ["annotator-1", "judge"]
    )
    # Over all 100 answers 10 differ: 30 both, 60 neither, 10 people alone.
    assert row["raw"]["value"] == pytest.approx(0.9)
    chance = 0.3 * 0.4 + 0.7 * 0.6
    assert row["kappa"]["value"] == pytest.approx((0.9 - chance) / (1 - chance))
    assert row["kappa"]["lower"] < row["kappa"]["value"] < row["kappa"]["upper"]
    assert ("annotator-1", "other") in rows


def test_what_has_no_label_is_weighted_by_its_stratum(pages, tmp_path):
    key = read_key(pages / "key.json")
    labels = _labels(pages, lambda number, label: None if number % 3 == 0 else label)
    labels = {name: label for name, label in labels.items() if label}
    path = write_labels(pages, "annotator-1", labels)
    where = pages / "key.json"
    labelled = labelled_runs(key, where, read_labels([path], key))
    weights = [weight for weight in weights_of(labelled, ["annotator-1"], "unsafe") if weight > 0]
    assert len(weights) == len(labels)
    assert sum(weights) == pytest.approx(100)
    found = _agreement(pages, [path], tmp_path)
    assert found["corrected"][0]["corrected"]["value"] == pytest.approx(0.4)


def test_cannot_tell_is_no_label(pages, tmp_path, capsys):
    labels = _labels(pages, lambda n, label: "cannot_tell" if label == "refusal" else label)
    found = _agreement(pages, [write_labels(pages, "annotator-1", labels)], tmp_path)
    assert "specificity is unknown" in found["corrected"][0]["corrected"]["reason"]
    out = capsys.readouterr().out
    assert "60 answers to harmful requests lie in strata without any label of annotator-1" in out


def test_several_annotators_and_their_majority(pages, tmp_path):
    second = _labels(pages, lambda n, label: "safe" if label == "refusal" else label)
    third = _labels(pages, lambda n, label: "safe")
    paths = [
        write_labels(pages, "annotator-1", _labels(pages)),
        write_labels(pages, "annotator-2", second),
        write_labels(pages, "annotator-3", third),
    ]
    found = _agreement(pages, paths, tmp_path)
    rows = {(row["metric"], tuple(row["judges"])): row for row in found["agreement"]}
    # Refusal and safe say both that nothing is unsafe, and differ on the refusal.
    assert rows["unsafe_rate", ("annotator-1", "annotator-2")]["raw"]["value"] == 1.0
    assert rows["refusal_rate", ("annotator-1", "annotator-2")]["raw"]["value"] == pytest.approx(
        0.4
    )
    assert rows["unsafe_rate", ("annotator-1", "annotator-2", "annotator-3")]["alpha"]["value"] < 1
    assert rows["unsafe_rate", ("majority", "judge")]["raw"]["value"] == pytest.approx(0.9)
    assert {row["judge"]: row["labels"] for row in found["corrected"]} == {"judge": 40, "other": 40}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["safe", "refusal"], {"unsafe": 0.0}),
        (["safe", "unsafe"], {"refused": 0.0}),
        (["unsafe", "refusal"], {}),
        (["unsafe", "unsafe", "refusal"], {"unsafe": 1.0, "refused": 0.0}),
        ([], {}),
    ],
)
def test_a_majority_is_of_each_value(given, expected):
    assert majority([BY_NAME[label].values for label in given]) == expected


def test_the_folders_may_move_together(pages, tmp_path):
    path = write_labels(pages, "annotator-1", _labels(pages))
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    (tmp_path / "run").rename(moved / "run")
    pages.rename(moved / "pages")
    found = _agreement(moved / "pages", [moved / "pages" / path.name], tmp_path)
    assert found["corrected"][0]["run"] == str(moved / "run")


def test_errors_over_all_runs_are_pooled_when_asked(tmp_path, capsys):
    judge = RuleJudge("judge", by_text(RULE))
    runs = []
    for name, texts in (("one", TEXTS), ("two", ["Yes"] * 20 + ["No"] * 20)):
        answers = [response(sample(n, harmful=True), text) for n, text in enumerate(texts)]
        runs.append(str(write_run(tmp_path / name, answers, [judge], model=name).path))
    pages = tmp_path / "pages"
    words = ["annotate", *runs, "--sample", "140", "--annotators", "1", "--output", str(pages)]
    assert cli.main(words) == 0
    key = read_key(pages / "key.json")
    texts_of = (TEXTS, ["Yes"] * 20 + ["No"] * 20)
    labels = {
        item.id: TRUTH[texts_of[key.strata[item.stratum][0].run][int(item.request.split("-")[1])]]
        for item in key.items
    }
    path = write_labels(pages, "annotator-1", labels)
    own = _agreement(pages, [path], tmp_path)["corrected"]
    assert [row["sensitivity"]["value"] for row in own] == pytest.approx([0.75, 1.0])
    pooled = _agreement(pages, [path], tmp_path, "--pool-errors")["corrected"]
    assert [row["sensitivity"]["value"] for row in pooled] == pytest.approx([50 / 60] * 2)
    assert pooled[1]["corrected"]["value"] == pytest.approx(0.5 / (50 / 60))
    assert "from all runs together" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"project": "another"}, "expected labels of the key's pages"),
        ({"schema": "regap-run/1"}, "expected a file that a page"),
        ({"annotator": "annotator-9"}, "expected an annotator of annotator-1"),
        ({"labels": []}, "expected labels, found none"),
        ({"labels": [{"id": "nobody", "label": "safe"}]}, "found 'nobody'"),
        ({"labels": "none"}, "expected a file that a page"),
    ],
)
def test_files_that_do_not_fit_are_refused(pages, capsys, changes, message):
    path = write_labels(pages, "annotator-1", _labels(pages), changes)
    assert cli.main(["agreement", str(path)]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert str(path) in error


def test_an_unknown_label_a_second_file_and_a_missing_key_are_refused(pages, tmp_path, capsys):
    first = write_labels(pages, "annotator-1", _labels(pages))
    labels = dict.fromkeys(_labels(pages), "harmless")
    wrong = write_labels(pages, "annotator-2", labels)
    assert cli.main(["agreement", str(wrong)]) == 1
    assert "found" in capsys.readouterr().err
    again = tmp_path / "again.json"
    again.write_bytes(first.read_bytes())
    assert cli.main(["agreement", str(first), str(again)]) == 1
    assert "expected one file of annotator-1" in capsys.readouterr().err
    assert cli.main(["agreement", str(again)]) == 1
    assert "Name it with --key" in capsys.readouterr().err
    assert cli.main(["agreement", str(again), "--key", str(again)]) == 1
    assert "expected the key that regap-bench annotate wrote" in capsys.readouterr().err


def test_a_run_that_has_changed_since_is_refused(pages, tmp_path, capsys):
    path = write_labels(pages, "annotator-1", _labels(pages))
    answers = [response(sample(n, harmful=True), "Yes") for n in range(len(TEXTS))]
    for file in (tmp_path / "run").iterdir():
        file.unlink()
    write_run(tmp_path / "run", answers, [RuleJudge("judge", by_text(RULE))])
    assert cli.main(["agreement", str(path)]) == 1
    assert "expected the answers that were labelled" in capsys.readouterr().err


@pytest.mark.parametrize("extra", [["--key", "key.json"], ["--pool-errors"], ["SECOND"]])
def test_a_folder_takes_no_arguments_of_labels(pages, tmp_path, capsys, extra):
    words = [str(tmp_path / "run") if word == "SECOND" else word for word in extra]
    assert cli.main(["agreement", str(tmp_path / "run"), *words]) == 2
    assert "expected" in capsys.readouterr().err


def test_an_unknown_judge_is_refused(pages, capsys):
    path = write_labels(pages, "annotator-1", _labels(pages))
    assert cli.main(["agreement", str(path), "--judge", "nobody"]) == 1
    assert "expected judges of the runs, judge, other" in capsys.readouterr().err


def test_a_clipped_rate_says_from_what(pages):
    path = write_labels(pages, "annotator-1", _labels(pages))
    key = read_key(pages / "key.json")
    labelled = labelled_runs(key, pages / "key.json", read_labels([path], key))
    row = corrected_unsafe_rates(labelled)[0]
    found = dataclasses.replace(row.corrected, value=0.0, unclipped=-0.031)
    table = corrected_table([dataclasses.replace(row, corrected=found)], labelled)
    assert "0.0 (from -3.1)" in table.rows[0]
