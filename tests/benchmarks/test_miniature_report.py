"""The report's arithmetic and words, from synthetic trainer states."""

import json
import math
from dataclasses import replace

import pytest

from regap_benchmarks.miniature.report import (
    DemoReport,
    RunRecord,
    compare_runs,
    findings,
    gap_change,
    json_text,
    markdown,
    read_history,
    table_rows,
    text_table,
)

CALIBRATION = 2


def _history(steps, *, gap=None, weight=None):
    entries = []
    for step in range(1, steps + 1):
        entry = {"step": float(step), "loss": 4.0 / step, "learning_rate": 1e-3}
        if gap is not None:
            entry["regap/gap"] = gap(step)
            entry["regap/lm_loss"] = entry["loss"]
            entry["regap/image_spread"] = gap(step) / 2
            if step > CALIBRATION:
                entry["regap/alpha"] = 0.5
                if weight:
                    entry["loss"] += weight * 0.5 * gap(step)
        entries.append(entry)
    return tuple(entries)


@pytest.fixture
def report():
    steps = 20
    plain = RunRecord("no-flag", "no flag", ("python", "train.py"), 1.0, _history(steps))
    measured = RunRecord(
        "weight-0", "weight 0", ("python", "train.py", "--regap_weight", "0"), 2.0,
        _history(steps, gap=lambda step: 8.0),
    )  # fmt: skip
    regularised = RunRecord(
        "weight-0.5", "weight 0.5", ("python", "a b"), 3.0,
        _history(steps, gap=lambda step: 8.0 if step <= 3 else 2.0, weight=0.5),
    )  # fmt: skip
    return DemoReport(
        folder="demo",
        date="2030-01-01",
        settings={"weight": 0.5, "steps": steps},
        versions={"python": "3.11"},
        environment={"HF_HUB_OFFLINE": "1"},
        samples=7,
        plain=plain,
        measured=measured,
        regularised=regularised,
        identity=compare_runs(plain.history, measured.history, largest_weight_difference=0.0),
        effect_on_weights=0.25,
    )


def test_a_trainer_state_is_read_without_its_summary(tmp_path):
    state = tmp_path / "trainer_state.json"
    logged = [
        {"epoch": 0.1, "loss": 2.5, "learning_rate": 0.0, "step": 1, "regap/gap": 8.0},
        {"epoch": 0.2, "loss": 2.25, "learning_rate": 1e-3, "step": 2},
        {"epoch": 0.2, "train_loss": 2.4, "train_runtime": 1.0, "step": 2},
    ]
    state.write_text(json.dumps({"log_history": logged}))
    history = read_history(state)
    assert [entry["step"] for entry in history] == [1.0, 2.0]
    assert history[0]["regap/gap"] == 8.0
    assert "regap/gap" not in history[1]


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"log_history": [{"loss": null}]}'])
def test_a_file_that_is_no_trainer_state_is_named(tmp_path, text):
    state = tmp_path / "trainer_state.json"
    state.write_text(text)
    with pytest.raises(ValueError, match=r"trainer_state\.json: expected the trainer's state"):
        read_history(state)


def test_a_state_without_a_logged_loss_is_refused(tmp_path):
    state = tmp_path / "trainer_state.json"
    state.write_text(json.dumps({"log_history": [{"train_loss": 1.0, "step": 3}]}))
    with pytest.raises(ValueError, match="at least one logged step with a loss, found none"):
        read_history(state)


def test_equal_losses_are_identical(report):
    assert report.identity.same_losses
    assert report.identity.same_weights
    assert report.identity.steps == 20
    assert "identical per-step losses: yes" in findings(report)[0]


def test_the_largest_difference_is_found():
    first, second = _history(3), _history(3)
    second[1]["loss"] += 0.25
    second[2]["loss"] -= 0.5
    identity = compare_runs(first, second, largest_weight_difference=1e-7)
    assert identity.largest_loss_difference == 0.5
    assert not identity.same_losses
    assert not identity.same_weights


def test_a_loss_that_is_not_a_number_is_never_identical():
    first, second = _history(2), _history(2)
    first[0]["loss"] = second[0]["loss"] = math.nan
    identity = compare_runs(first, second, largest_weight_difference=0.0)
    assert identity.largest_loss_difference == math.inf


def test_runs_of_different_length_are_not_compared():
    with pytest.raises(ValueError, match="found 3 up to 3 and 2 up to 2"):
        compare_runs(_history(3), _history(2), largest_weight_difference=0.0)


def test_the_gap_is_counted_from_the_end_of_the_calibration(report):
    change = gap_change(report.regularised)
    assert (change.first_step, change.first) == (CALIBRATION + 1, 8.0)
    assert (change.last_step, change.last) == (20, 2.0)
    assert "fell from 8 (step 3" in change.sentence("W")
    assert "to 2 (step 20), -75.0 %" in change.sentence("W")


@pytest.mark.parametrize(("last", "verb"), [(9.0, "rose"), (8.0, "stayed"), (7.0, "fell")])
def test_the_words_follow_the_numbers(report, last, verb):
    change = replace(gap_change(report.measured), last=last)
    assert f"the gap {verb} from" in change.sentence("W")


def test_the_findings_compare_both_gaps_and_losses(report):
    text = "\n".join(findings(report))
    assert "is 0.25 times the gap with weight 0" in text
    assert "language modelling loss is 0.2000 with weight 0.5 and 0.2000 without" in text
    assert "largest difference of a trained weight is 0.25" in text
    assert "spread of the image tokens is 1 with weight 0.5 and 4 with weight 0;" in text


def test_a_run_without_the_plugin_is_refused(report):
    with pytest.raises(ValueError, match=r"expected regap/gap .* found none"):
        gap_change(report.plain)


def test_a_run_that_ended_in_the_calibration_is_refused(report):
    short = replace(report.measured, history=report.measured.history[:CALIBRATION])
    with pytest.raises(ValueError, match="regap/alpha once the calibration is over, found none"):
        gap_change(short)


def test_the_table_is_thinned_evenly_with_both_ends(report):
    rows = table_rows(report, limit=5)
    assert [row[0] for row in rows] == ["step", "1", "6", "11", "15", "20"]
    assert len(table_rows(report)) == 1 + 20
    assert len({len(row) for row in rows}) == 1


def test_a_value_that_was_not_logged_is_a_dash(report):
    rows = table_rows(report)
    assert rows[0][-1] == "alpha, weight 0.5"
    assert rows[1][-1] == "-"
    assert rows[3][-1] == "0.5000"


def test_the_terminal_table_is_aligned(report):
    lines = text_table(table_rows(report, limit=4)).splitlines()
    assert len(lines) == 2 + 4
    assert len({len(line) for line in lines}) == 1


def test_the_page_names_commands_settings_and_steps(report):
    page = markdown(report)
    assert "python train.py --regap_weight 0\n" in page
    assert "python 'a b'" in page
    assert "- weight: 0.5" in page
    assert "runs/weight-0/mm_projector.bin" in page
    assert page.count("\n| ") == 1 + 1 + 20


def test_the_json_holds_every_step_and_the_verdicts(report):
    content = json.loads(json_text(report))
    assert len(content["regularised"]["history"]) == 20
    assert content["identity"]["same_losses"] is True
    assert content["gap_changes"]["weight-0.5"]["last"] == 2.0
    assert content["findings"] == findings(report)
    assert content["plain"]["command"] == ["python", "train.py"]
