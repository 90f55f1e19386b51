"""StrongREJECT: six categories, each prompt once."""

import shutil

import pytest
from stand_ins import safety_sets as stand_ins

from regap_benchmarks.official.file_entries import OfficialFileError
from regap_benchmarks.plugins import load_plugins


def _task():
    return load_plugins().benchmarks.get("strongreject")


def test_rows_of_the_official_file_are_read(tmp_path):
    data = stand_ins.real_data("strongreject/strongreject_dataset_sample.csv")
    (tmp_path / "strongreject").mkdir()
    shutil.copy(
        data / "strongreject/strongreject_dataset_sample.csv",
        tmp_path / "strongreject/strongreject_dataset.csv",
    )
    assert len(list(_task().samples(tmp_path))) == 8


def test_prompts_are_asked_as_they_are(tmp_path):
    samples = list(_task().samples(stand_ins.strongreject(tmp_path)))
    assert [sample.prompt for sample in samples] == [stand_ins.request(n) for n in range(6)]
    assert [sample.category for sample in samples][-1] == "Violence"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Violence", "Violins", "line 7: expected one of Disinformation"),
        (stand_ins.request(1), stand_ins.request(0), "line 3: .* which is in line 2"),
        ("forbidden_prompt", "prompt", "line 1: expected the columns"),
    ],
)
def test_a_damaged_file_is_refused_by_line(tmp_path, old, new, message):
    folder = stand_ins.strongreject(tmp_path) / "strongreject/strongreject_dataset"
    path = folder / "strongreject_dataset.csv"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(OfficialFileError, match=message):
        list(_task().samples(tmp_path))


def test_the_published_counts_add_up():
    whole, *parts = _task().facts.counts
    assert whole.number == sum(part.number for part in parts) == 313
