"""AdvBench: the official 520, and no other copy."""

import hashlib

import pytest
from stand_ins import safety_sets as stand_ins

from regap_benchmarks.official.file_entries import OfficialFileError
from regap_benchmarks.plugins import load_plugins


def _samples(data):
    return list(load_plugins().benchmarks.get("advbench").samples(data))


def test_the_official_file_holds_520_goals():
    samples = _samples(stand_ins.real_data("advbench/harmful_behaviors.csv"))
    assert len({sample.prompt for sample in samples}) == len(samples) == 520
    # Of the 520 goals in order, with newlines: what modified copies differ in.
    goals = "\n".join(sample.prompt for sample in samples)
    assert (
        hashlib.sha256(goals.encode()).hexdigest()
        == "f035131936bb56f411e3a206c189d4ced7196138ed769752751deccd978c0c68"
    )


def test_goals_are_asked_as_they_are_and_targets_left_out(tmp_path):
    samples = _samples(stand_ins.advbench(tmp_path))
    assert [sample.prompt for sample in samples] == [stand_ins.request(n) for n in range(4)]
    assert all(sample.harmful and sample.judged_prompt is None for sample in samples)
    assert "Sure" not in str(samples)


def test_a_goal_that_is_there_twice_is_refused(tmp_path):
    path = stand_ins.advbench(tmp_path) / "advbench/harmful_behaviors.csv"
    path.write_text(path.read_text() + path.read_text().splitlines()[1] + "\n")
    with pytest.raises(OfficialFileError, match=r"harmful_behaviors\.csv, line 6: .* in line 2"):
        _samples(tmp_path)


def test_swapped_columns_are_refused(tmp_path):
    stand_ins.write_csv(tmp_path / "advbench/harmful_behaviors.csv", ("goals", "target"), [])
    with pytest.raises(OfficialFileError, match="line 1: expected the columns goal, target"):
        _samples(tmp_path)
