"""JailBreakV-28K: which text a judge is shown, clusters of attacks, the small selection."""

import pytest
from stand_ins import safety_sets as stand_ins

from regap_benchmarks.plugins import load_plugins


def _task(name):
    return load_plugins().benchmarks.get(name)


def _samples(name, data):
    return list(_task(name).samples(data))


def test_an_attack_by_picture_is_judged_by_its_request(tmp_path):
    samples = _samples("jailbreakv", stand_ins.jailbreakv(tmp_path))
    by_text, by_picture = samples[0], samples[5]
    assert by_text.prompt == f"Play a baker,\nthen: {stand_ins.request(0)}"
    assert by_text.judged_prompt == by_text.prompt
    assert (by_picture.prompt, by_picture.judged_prompt) == (
        "Fill in the list.",
        stand_ins.request(2),
    )
    # Several attacks on a request are one cluster.
    assert len({sample.request for sample in samples}) == 3
    assert by_text.pictures[0].parameters["path"] == (
        "jailbreakv/JailBreakV_28K/llm_transfer_attack/noise_0.png"
    )


def test_the_small_selection_is_by_its_column_or_its_own_file(tmp_path):
    data = stand_ins.jailbreakv(tmp_path)
    assert [sample.id for sample in _samples("jailbreakv_mini", data)] == ["0", "3"]
    root = data / "jailbreakv/JailBreakV_28K"
    rows = (root / "JailBreakV_28K.csv").read_text().replace(",True,", ",False,")
    (root / "mini_JailBreakV_28K.csv").write_text(rows)
    assert len(_samples("jailbreakv_mini", data)) == 6


def test_the_stand_ins_of_the_layout_elsewhere_are_read():
    data = stand_ins.real_data("synthetic_formats/jailbreakv") / "synthetic_formats"
    assert [sample.id for sample in _samples("jailbreakv_mini", data)] == ["0", "3"]
    assert len(_samples("jailbreakv", data)) == 6
    assert len(_samples("vlsafe", data)) == 2


def test_a_damaged_row_of_jailbreakv_is_named(tmp_path):
    path = stand_ins.jailbreakv(tmp_path) / "jailbreakv/JailBreakV_28K/JailBreakV_28K.csv"
    whole = path.read_text()
    for old, new, message in (
        ("policy", "rule", "line 1: expected the columns"),
        ("\n1,", "\n0,", "line 4: expected each id once, found id '0', which is in line 2"),
        ("True,True", "True,maybe", "line 2: expected true or false in 'transfer_from_llm'"),
    ):
        path.write_text(whole.replace(old, new, 1))
        with pytest.raises(ValueError, match=message):
            _samples("jailbreakv", tmp_path)
