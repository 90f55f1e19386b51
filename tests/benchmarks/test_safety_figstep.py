"""FigStep and SafeBench: counts, prompts, pictures and damaged files."""

import hashlib

import pytest
from stand_ins import safety_sets as stand_ins

from regap_benchmarks.figstep_picture import PROMPT as FIGSTEP_PROMPT
from regap_benchmarks.official.file_entries import OfficialFileError
from regap_benchmarks.plugins import load_plugins
from regap_benchmarks.run_plan import plan_samples


def _task(name):
    return load_plugins().benchmarks.get(name)


def _samples(name, data):
    return list(_task(name).samples(data))


@pytest.mark.parametrize("name", ["figstep", "figstep_tiny", "safebench", "safebench_tiny"])
def test_the_file_entries_hold_what_was_published(name):
    data = stand_ins.real_data("figstep/question/safebench.csv")
    task = _task(name)
    samples = list(task.samples(data))
    assert {str(count): count.tally(samples) for count in task.facts.counts} == {
        str(count): count.number for count in task.facts.counts
    }


def test_the_official_pictures_have_the_names_that_are_asked_for():
    data = stand_ins.real_data("figstep/images/SafeBench-Tiny")
    asked = {sample.pictures[0].parameters["path"] for sample in _samples("figstep_tiny", data)}
    there = {
        path.relative_to(data).as_posix()
        for path in (data / "figstep/images/SafeBench-Tiny").glob("*.png")
    }
    assert there
    assert there <= asked


def test_tiny_is_the_first_five_of_each_category():
    data = stand_ins.real_data("figstep/question/safebench.csv")
    full = {sample.id: sample for sample in _samples("safebench", data)}
    tiny = _samples("safebench_tiny", data)
    assert all(full[sample.id].prompt == sample.prompt for sample in tiny)
    assert {int(sample.id.split("_")[2]) for sample in tiny} == {1, 2, 3, 4, 5}


def test_the_picture_carries_the_request_and_the_judge_sees_it(tmp_path):
    samples = _samples("figstep", stand_ins.figstep(tmp_path))
    first = samples[0]
    assert first.prompt == FIGSTEP_PROMPT
    assert first.judged_prompt == stand_ins.request(101)
    assert first.pictures[0].parameters == {
        "path": "figstep/data/images/SafeBench/query_ForbidQI_1_1_6.png"
    }
    assert {sample.prompt for sample in samples} == {FIGSTEP_PROMPT}
    assert all(sample.harmful for sample in samples)


def test_the_sentence_is_the_one_of_the_readme():
    digest = hashlib.sha256(FIGSTEP_PROMPT.encode()).hexdigest()
    # Of section 2.1 of the README at 0861b17, read there.
    assert digest == "3529648c39f489442f05ec8121723c135edd964aab18b04d29d8fe460b633829"


def test_the_questions_by_text_have_no_picture_and_need_no_other_question(tmp_path):
    sample = _samples("safebench", stand_ins.figstep(tmp_path))[0]
    assert (sample.prompt, sample.judged_prompt, sample.pictures) == (
        stand_ins.request(101),
        None,
        (),
    )


def test_pro_has_all_pieces_in_order_and_the_text_of_the_readme(tmp_path):
    samples = _samples("figstep_pro", stand_ins.figstep(tmp_path))
    assert [len(sample.pictures) for sample in samples[:6]] == [3, 4, 5, 6, 7, 3]
    assert samples[4].pictures[6].parameters["path"].endswith("image_4_splits/image_4_split_6.png")
    expected = "Steps to bake 1,000 *.\n1.\n2.\n3.\n\nFill the list above in.\nAnd begin with 1."
    assert samples[1].prompt == expected
    assert samples[1].judged_prompt == stand_ins.request(102)


def test_pro_asks_for_the_pieces_that_are_missing(tmp_path):
    data = stand_ins.figstep(tmp_path)
    (data / "figstep/data/images/FigStep-Pro/image_1_splits/image_1_split_1.png").unlink()
    with pytest.raises(ValueError, match=r"image_1_split_1\.png"):
        plan_samples([_task("figstep_pro")], data=data)


@pytest.mark.parametrize(
    ("file", "damage", "message"),
    [
        ("data/question/safebench.csv", ("question,", "other,"), "line 1: expected the columns"),
        ("data/question/safebench.csv", ("Hate Speech", "Hat Speech"), "line 4: expected one of"),
        ("data/question/safebench.csv", (",2,1,", ",1,1,"), "line 4: .*'1', task_id '1', which"),
        ("data/question/safebench.csv", ("Describe", '"Describe'), "expected a row of CSV"),
    ],
)
def test_a_damaged_file_is_refused_by_line(tmp_path, file, damage, message):
    path = stand_ins.figstep(tmp_path) / "figstep" / file
    path.write_text(path.read_text().replace(*damage))
    with pytest.raises(OfficialFileError, match=message):
        _samples("figstep", tmp_path)


def test_pro_refuses_a_short_table_and_another_readme(tmp_path):
    data = stand_ins.figstep(tmp_path)
    table = data / "figstep/data/question/benign_sentences_without_harmful_phase.csv"
    whole = table.read_text()
    table.write_text("sentence\nSteps to bake *.\n")
    with pytest.raises(OfficialFileError, match=r"expected a row for each of SafeBench-Tiny\.csv"):
        _samples("figstep_pro", data)
    table.write_text(whole)
    (data / "figstep/README.md").write_text("### 2.2 Nothing\n")
    with pytest.raises(OfficialFileError, match=r"README\.md: expected section 2\.2"):
        _samples("figstep_pro", data)
