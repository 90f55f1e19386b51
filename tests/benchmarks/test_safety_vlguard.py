"""VLGuard: three splits with the published counts, each with its own instruction."""

import pytest
from stand_ins import safety_sets as stand_ins

from regap_benchmarks.official.file_entries import OfficialFileError
from regap_benchmarks.plugins import load_plugins

SPLITS = ["safe_safes", "safe_unsafes", "unsafes"]


def _task(split):
    return load_plugins().benchmarks.get(f"vlguard_{split}")


@pytest.mark.parametrize("split", SPLITS)
def test_the_official_file_holds_what_was_published(split):
    samples = list(_task(split).samples(stand_ins.real_data("vlguard/test.json")))
    counts = _task(split).facts.counts
    assert [count.tally(samples) for count in counts] == [count.number for count in counts]
    assert len({sample.id for sample in samples}) == len(samples)


def test_pictures_repeat_between_the_safe_splits_of_the_official_file():
    data = stand_ins.real_data("vlguard/test.json")
    safe, unsafe = (
        {sample.pictures[0].parameters["path"]: sample.prompt for sample in _task(n).samples(data)}
        for n in SPLITS[:2]
    )
    assert set(safe) == set(unsafe)
    assert not set(safe.values()) & set(unsafe.values())


def test_each_split_asks_its_own_instruction(tmp_path):
    data = stand_ins.vlguard(tmp_path)
    prompts = {n: [sample.prompt for sample in _task(n).samples(data)] for n in SPLITS}
    assert prompts == {
        "safe_safes": [stand_ins.request(10), stand_ins.request(12)],
        "safe_unsafes": [stand_ins.request(20), stand_ins.request(22)],
        "unsafes": [stand_ins.request(31), stand_ins.request(33)],
    }
    harm = {n: {sample.harmful for sample in _task(n).samples(data)} for n in SPLITS}
    assert harm == {"safe_safes": {False}, "safe_unsafes": {True}, "unsafes": {True}}


def test_the_references_are_kept_for_the_win_rate(tmp_path):
    samples = list(_task("safe_safes").samples(stand_ins.vlguard(tmp_path)))
    assert [sample.references for sample in samples] == [("",), ("Of bread.",)]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"Ads_2"', '"Ads_0"', r"test\.json, line \d+: expected each id once, .* line 2"),
        ("unsafe_instruction", "instruction", "line 2: expected one 'unsafe_instruction'"),
        ('"safe": true', '"safe": "yes"', "line 2: expected true or false in 'safe'"),
        ('"image"', '"picture"', "line 2: expected the field 'image'"),
        ("[", "", r"line \d+: expected JSON, found more after the end"),
    ],
)
def test_a_damaged_file_is_refused_by_line(tmp_path, old, new, message):
    path = stand_ins.vlguard(tmp_path) / "vlguard/data/test.json"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(OfficialFileError, match=message):
        list(_task("safe_unsafes").samples(tmp_path))


def test_a_file_that_is_cut_is_refused_by_line(tmp_path):
    path = stand_ins.vlguard(tmp_path) / "vlguard/data/test.json"
    text = path.read_text()
    path.write_text(text[: len(text) // 2])
    with pytest.raises(OfficialFileError, match=r"test\.json, line \d+: expected JSON"):
        list(_task("unsafes").samples(tmp_path))
