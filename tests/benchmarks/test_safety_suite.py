"""All official safety sets together: they load, run, are judged and reported, and can be judged."""

import json
import re
import time
from pathlib import Path

import pytest
from stand_ins import safety_sets as stand_ins

from regap_benchmarks import cli
from regap_benchmarks.judges.judge_question import judge_question
from regap_benchmarks.pictures import CONDITIONS, with_condition
from regap_benchmarks.plugins import load_plugins
from regap_benchmarks.run_plan import plan_samples

TASKS = stand_ins.tasks()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return stand_ins.write_all(tmp_path_factory.mktemp("data"))


def _samples(name, data):
    return list(load_plugins().benchmarks.get(name).samples(data))


def test_every_set_of_the_stand_ins_is_asked_for():
    folders = {load_plugins().benchmarks.get(name).facts.folder for name in TASKS}
    assert folders == {write.__name__.replace("mm_safety", "mm-safety") for write in stand_ins.ALL}


def test_all_sets_run_on_the_fake_model_and_are_reported_within_a_minute(data, tmp_path):
    for package in ("numpy", "scipy", "statsmodels", "tabulate"):
        pytest.importorskip(package)
    begun = time.monotonic()
    status = cli.main(
        [
            "run",
            "--model",
            "fake:mixed",
            "--tasks",
            ",".join(TASKS),
            "--data",
            str(data),
            "--output",
            str(tmp_path / "run"),
            "--judge",
            "refusal_phrases",
        ]
    )
    assert status in (0, 3)
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert set(results["results"]) == set(TASKS)
    assert time.monotonic() - begun < 60


@pytest.mark.parametrize("name", TASKS)
def test_no_harmful_sample_lacks_the_question_for_its_judge(data, name):
    samples = _samples(name, data)
    assert samples
    for sample in samples:
        shown = sample.prompt if sample.judged_prompt is None else sample.judged_prompt
        if sample.harmful:
            assert re.search(r"glimmer\d{5}x", shown), f"{name} {sample.id}: {shown}"


@pytest.mark.parametrize("name", TASKS)
def test_every_sample_as_it_is_asked_can_be_shown_to_a_judge_of_texts(data, name):
    samples = plan_samples(
        [load_plugins().benchmarks.get(name)], conditions=(), limit=None, data=data
    )
    assert samples
    for sample in samples:
        question, field = judge_question(sample)
        assert question == getattr(sample, field)
        if sample.pictures:
            assert field == "judged_prompt"


@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("name", ["advbench", "harmbench", "xstest", "figstep", "vlguard_unsafes"])
def test_no_picture_takes_the_question_from_the_judge(data, name, condition):
    for sample in _samples(name, data):
        if condition == "own" and not sample.pictures:
            continue
        asked = with_condition(sample, condition)
        shown = asked.prompt if asked.judged_prompt is None else asked.judged_prompt
        before = sample.prompt if sample.judged_prompt is None else sample.judged_prompt
        assert shown == before


@pytest.mark.parametrize("name", TASKS)
def test_a_set_tells_all_that_is_known_of_it(name, capsys):
    assert cli.main(["tasks", name]) == 0
    told = capsys.readouterr().out
    task = load_plugins().benchmarks.get(name)
    for fact in ("licence", "layout", "counts", "prompt", "decoding", "scoring", "fetch", "source"):
        assert f"\n{fact}: " in told
        assert f"\n{fact}: \n" not in told
    assert all(count.number > 0 for count in task.facts.counts)
    assert task.scorer() is None
    assert task.kind == "safety"


@pytest.mark.parametrize("name", TASKS)
def test_without_its_files_a_set_says_where_they_belong(name, tmp_path):
    task = load_plugins().benchmarks.get(name)
    with pytest.raises(
        ValueError, match=f"--data: expected the folder that holds {task.facts.folder}"
    ):
        list(task.samples(None))
    with pytest.raises(FileNotFoundError, match="expected"):
        list(task.samples(tmp_path))


def test_ids_are_unique_in_each_set(data):
    for name in TASKS:
        ids = [sample.id for sample in _samples(name, data)]
        assert len(set(ids)) == len(ids)


def test_the_page_names_every_task_and_the_folder_of_every_set():
    page = Path(__file__).parents[2] / "docs" / "safety-sets.md"
    text = page.read_text(encoding="utf-8")
    steps = {f"hades_step{step}" for step in range(6)}
    for name in TASKS:
        # The kinds of MM-SafetyBench are named by their endings.
        plain = name.replace("_common", "").replace("_tiny", "")
        named = f"`{name}`" in text or name in steps
        if name.startswith("mm_safetybench"):
            named = f"`{plain}`" in text or f"`{plain[len('mm_safetybench') :]}`" in text
        assert named, f"{page.name}: expected {name}"
