"""MM-SafetyBench: which question belongs to which picture, and which subset."""

import pytest
from stand_ins import safety_sets as stand_ins

from regap_benchmarks.official.file_entries import OfficialFileError
from regap_benchmarks.pictures import file_of, render
from regap_benchmarks.plugins import load_plugins
from regap_benchmarks.run_plan import plan_samples
from regap_benchmarks.safety.mm_safetybench import COMMON, SCENARIOS


def _task(name):
    return load_plugins().benchmarks.get(f"mm_safetybench_{name}")


def _first(name, data):
    return next(iter(_task(name).samples(data)))


def test_the_published_counts_add_up():
    assert sum(SCENARIOS.values()) == 1680
    assert [name[:2] for name in COMMON] == ["01", "02", "03", "04", "05", "06", "07", "09"]
    assert _task("sd_common").facts.counts[0].number == sum(SCENARIOS[name] for name in COMMON)


@pytest.mark.parametrize(
    ("name", "prompt", "picture"),
    [
        ("sd", "01-Illegal_Activitiy 0: see the picture.", "SD"),
        ("typo", "01-Illegal_Activitiy 0: see the bottom of the picture.", "TYPO"),
        ("sd_typo", "01-Illegal_Activitiy 0: see the bottom of the picture.", "SD_TYPO"),
        ("text", f"Explain how {stand_ins.marker(100)} is baked.", None),
        ("question", f"How is {stand_ins.marker(100)} baked?", None),
    ],
)
def test_each_kind_of_picture_has_its_own_question(tmp_path, name, prompt, picture):
    sample = _first(name, stand_ins.mm_safetybench(tmp_path))
    assert sample.prompt == prompt
    paths = [item.parameters["path"] for item in sample.pictures]
    root = "mm-safetybench/data/imgs/01-Illegal_Activitiy"
    assert paths == ([f"{root}/{picture}/0.jpg"] if picture else [])
    asked = f"How is {stand_ins.marker(100)} baked?"
    assert sample.judged_prompt == (asked if name != "question" else None)


def test_the_subsets_are_the_common_scenarios_and_the_list(tmp_path):
    data = stand_ins.mm_safetybench(tmp_path)
    assert len(list(_task("sd").samples(data))) == 39
    common = list(_task("sd_common").samples(data))
    assert (len(common), {sample.category for sample in common}) == (24, set(COMMON))
    tiny = list(_task("sd_tiny").samples(data))
    assert {sample.metadata["id"] for sample in tiny} == {"0", "2"}
    assert len(tiny) == 26


def test_the_stand_ins_of_the_layout_elsewhere_are_read():
    data = stand_ins.real_data("synthetic_formats/mm-safetybench") / "synthetic_formats"
    samples = list(_task("sd_typo_tiny").samples(data))
    assert [sample.id for sample in samples] == [
        "01-Illegal_Activitiy/0",
        "01-Illegal_Activitiy/2",
    ]
    assert file_of(samples[0].pictures[0], data).is_file()


def test_the_copy_of_the_hub_asks_the_same_of_the_same_request(tmp_path):
    pytest.importorskip("pyarrow")
    files = stand_ins.mm_safetybench(tmp_path / "files")
    hub = stand_ins.mm_safetybench_hub(tmp_path / "hub")
    for name in ("typo", "sd_typo", "text", "sd_typo_common"):
        listed, stored = (list(_task(name).samples(data)) for data in (files, hub))
        assert [(a.id, a.prompt) for a in listed] == [(b.id, b.prompt) for b in stored]
    stored = list(_task("sd_typo").samples(hub))
    assert {sample.judged_prompt[:11] for sample in stored} == {"Explain how"}
    assert render(stored[2].pictures[0], hub).getpixel((0, 0)) == (2, 0, 0)
    plan_samples([_task("sd_typo")], data=hub)


def test_the_copy_of_the_hub_must_be_whole(tmp_path):
    pytest.importorskip("pyarrow")
    data = stand_ins.mm_safetybench_hub(tmp_path)
    with pytest.raises(FileNotFoundError, match="does not hold the field 'Question'"):
        _first("question", data)
    folder = data / "mm-safetybench/data/Illegal_Activitiy"
    (folder / "SD_TYPO.parquet").write_bytes(b"PAR1")
    with pytest.raises(OfficialFileError, match=r"SD_TYPO\.parquet: expected a parquet file"):
        _first("sd_typo", data)
    (folder / "SD.parquet").unlink()
    with pytest.raises(FileNotFoundError, match=r"Illegal_Activitiy/SD, found none"):
        _first("sd", data)
    stand_ins.write_parquet(folder / "TYPO.parquet", ("id", "text"), [("0", "a")])
    with pytest.raises(OfficialFileError, match="without question"):
        _first("typo", data)
    stand_ins.write_parquet(folder / "TYPO.parquet", ("id", "question"), [("7", "a")])
    with pytest.raises(OfficialFileError, match=r"row 0: expected an id of Text_only, found '7'"):
        _first("typo", data)


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("data/processed_questions/01-Illegal_Activitiy.json", '"1"', '"0"', r"line \d+: .*key"),
        (
            "data/processed_questions/01-Illegal_Activitiy.json",
            '"Rephrased Question(SD)"',
            '"Rephrased"',
            r"01-Illegal_Activitiy\.json, line 2: expected the field 'Rephrased Question\(SD\)'",
        ),
        ("TinyVersion_ID_List.json", "01-Illegal_A", "01-A", "line 2: expected one of 01-Illegal"),
        ("TinyVersion_ID_List.json", "2\n", "9\n", "found 9, which it does not hold"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, file, old, new, message):
    path = stand_ins.mm_safetybench(tmp_path) / "mm-safetybench" / file
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(ValueError, match=message):
        list(_task("sd_tiny").samples(tmp_path))
