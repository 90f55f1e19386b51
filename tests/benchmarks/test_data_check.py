"""`regap-bench data check`: what is wrong with a folder, and the exit status."""

import dataclasses

import pytest
from stand_ins import safety_sets as stand_ins

from regap_benchmarks import cli
from regap_benchmarks.official.check import check_files, sha256_of
from regap_benchmarks.official.set_facts import THIRD_PARTIES, VERIFIED, Count
from regap_benchmarks.plugins import load_plugins


def _task(name):
    return load_plugins().benchmarks.get(name)


@pytest.fixture
def known_advbench(tmp_path, monkeypatch):
    """AdvBench's stand-in, with its own count and hash known."""
    task = _task("advbench")
    path = stand_ins.advbench(tmp_path) / "advbench/harmful_behaviors.csv"
    facts = dataclasses.replace(
        task.facts, counts=(Count(4, VERIFIED),), sha256={path.name: sha256_of(path)}
    )
    monkeypatch.setattr(task, "facts", facts)
    return tmp_path, path


def _check(name, data, capsys):
    status = cli.main(["data", "check", name, "--data", str(data)])
    said = capsys.readouterr()
    return status, said.out, said.err


@pytest.mark.parametrize("name", ["advbench", "xstest"])
def test_the_file_entries_are_as_published(name, capsys):
    data = stand_ins.real_data("advbench/harmful_behaviors.csv", "xstest/xstest_prompts.csv")
    status, out, err = _check(name, data, capsys)
    assert (status, err) == (0, "")
    assert out.startswith(f"{name}: {520 if name == 'advbench' else 450} samples, as published")


def test_a_set_as_published_passes(known_advbench, capsys):
    assert _check("advbench", known_advbench[0], capsys) == (
        0,
        "advbench: 4 samples, as published\n",
        "",
    )


def test_another_copy_fails_by_count_and_hash(known_advbench, capsys):
    data, path = known_advbench
    path.write_text(path.read_text() + "One more.,Sure\n")
    status, _, err = _check("advbench", data, capsys)
    assert status == 1
    assert "expected 4 samples (verified), found 5" in err
    assert "expected the official file, SHA-256" in err


def test_other_line_ends_are_another_file(known_advbench, capsys):
    data, path = known_advbench
    path.write_bytes(path.read_bytes().replace(b"\r\n", b"\n"))
    status, _, err = _check("advbench", data, capsys)
    assert status == 1
    assert "line ends" in err


def test_a_damaged_row_fails_by_line_without_repeating_a_request(known_advbench, capsys):
    data, path = known_advbench
    path.write_text(path.read_text().replace(stand_ins.request(2), ""))
    status, _, err = _check("advbench", data, capsys)
    assert status == 1
    assert "harmful_behaviors.csv, line 4: expected a text in 'goal', found an empty text" in err
    assert "glimmer" not in err


def test_missing_files_and_pictures_fail(tmp_path, capsys):
    status, _, err = _check("vlsafe", tmp_path, capsys)
    assert status == 1
    assert "harmlessness_examine.jsonl: expected the official file, found none" in err
    data = stand_ins.vlsafe(tmp_path)
    (data / "vlsafe/train2017/000000000001.jpg").unlink()
    (data / "vlsafe/train2017/000000000002.jpg").write_bytes(b"")
    _, _, err = _check("vlsafe", data, capsys)
    assert "expected 3 files, found 1 missing: " in err
    assert "expected 3 files, found 1 empty: " in err


def test_a_count_that_was_never_verified_is_told_and_does_not_fail(tmp_path, capsys):
    status, out, err = _check("vlsafe", stand_ins.vlsafe(tmp_path), capsys)
    assert status == 0
    assert "expected 1110 samples (not verified), found 3" in err
    assert "1 counts differ that were never verified" in out


def test_the_name_of_a_set_checks_all_of_its_tasks(tmp_path, capsys):
    status, _, err = _check("mm-safetybench", stand_ins.mm_safetybench(tmp_path), capsys)
    assert status == 0
    assert len({line.split(":")[0] for line in err.splitlines()}) == 15
    assert _check("mm_safetybench", tmp_path, capsys)[0] == 0


def test_a_name_that_is_none_is_wrong_usage(tmp_path, capsys):
    status, _, err = _check("advbnch", tmp_path, capsys)
    assert status == 2
    assert "advbench" in err
    assert _check("stand_in_requests", tmp_path, capsys)[0] == 2


def test_a_sample_that_is_there_twice_is_a_problem(tmp_path, monkeypatch):
    task = _task("advbench")
    samples = list(task.samples(stand_ins.advbench(tmp_path)))
    monkeypatch.setattr(task, "samples", lambda data: iter([*samples, samples[0]]))
    assert any("'0' twice" in text for text in check_files(task, tmp_path).problems)


def test_a_count_has_a_mark():
    with pytest.raises(ValueError, match="expected a mark"):
        Count(3, "certain")
    assert str(Count(3, THIRD_PARTIES, "a", True)) == "3 harmful samples of a (from third parties)"
