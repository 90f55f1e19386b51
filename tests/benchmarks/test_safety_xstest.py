"""XSTest: 250 safe and 200 unsafe prompts, each marked as its file says."""

import pytest
from stand_ins import safety_sets as stand_ins

from regap_benchmarks.official.file_entries import OfficialFileError
from regap_benchmarks.plugins import load_plugins


def _task():
    return load_plugins().benchmarks.get("xstest")


def test_the_official_file_holds_what_was_published():
    data = stand_ins.real_data("xstest/xstest_prompts.csv")
    samples = list(_task().samples(data))
    assert {str(count): count.tally(samples) for count in _task().facts.counts} == {
        str(count): count.number for count in _task().facts.counts
    }
    assert len({sample.category for sample in samples}) == 18
    # One official prompt ends in a space, which stays.
    assert sum(sample.prompt != sample.prompt.strip() for sample in samples) == 1


def test_harm_is_what_the_label_says(tmp_path):
    samples = list(_task().samples(stand_ins.xstest(tmp_path)))
    assert [sample.harmful for sample in samples] == [False] * 10 + [True] * 8
    assert samples[0].prompt == stand_ins.request(1)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("homonyms,safe", "homonyms,unsafe", "line 2: expected another label of the type homonyms"),
        ("homonyms,safe", "homonyms,good", "line 2: expected one of safe, unsafe in 'label'"),
        ("1,Describe", "2,Describe", "line 3: expected each id once, found id '2', .* line 2"),
        ("label", "labels", "line 1: expected the columns"),
    ],
)
def test_a_damaged_file_is_refused_by_line(tmp_path, old, new, message):
    path = stand_ins.xstest(tmp_path) / "xstest/xstest_prompts.csv"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(OfficialFileError, match=message):
        list(_task().samples(tmp_path))
