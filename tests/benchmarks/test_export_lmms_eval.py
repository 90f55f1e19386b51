"""Our sets as tasks of lmms-eval: what is written, and what lmms-eval would call."""

import dataclasses
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

import pytest

pytest.importorskip("PIL")
np = pytest.importorskip("numpy")

from stand_ins.vqa_files import write_gqa, write_seed_bench

from regap_benchmarks import cli
from regap_benchmarks.export import lmms_eval_task
from regap_benchmarks.export.lmms_eval import PACKAGE, export_lmms_eval
from regap_benchmarks.judges.judge import Judge
from regap_benchmarks.judges.judge_options import JudgeOptions
from regap_benchmarks.plugins import load_plugins
from regap_benchmarks.records import Sample, to_line
from regap_benchmarks.safety.stand_in_requests import StandInRequests


def documents(output: Path, task: str) -> List[Dict[str, Any]]:
    path = output / PACKAGE / "tasks" / f"regap_{task}" / "documents.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    write_gqa(tmp_path / "data" / "gqa", 4)
    write_seed_bench(tmp_path / "data" / "seed_bench", 4)
    output = tmp_path / "out"
    words = ["export", "--format", "lmms-eval", "gqa", "seed_bench", "stand_in_requests"]
    words += ["--data", str(tmp_path / "data"), "--output", str(output)]
    assert cli.main(words) == 0
    return output


def test_what_is_written(exported: Path) -> None:
    tasks = exported / PACKAGE / "tasks"
    assert sorted(path.name for path in tasks.iterdir()) == [
        "__init__.py",
        "regap_gqa",
        "regap_seed_bench",
        "regap_stand_in_requests",
    ]
    assert (exported / PACKAGE / "__init__.py").is_file()
    assert f'include = ["{PACKAGE}*"]' in (exported / "pyproject.toml").read_text()
    text = (tasks / "regap_gqa" / "regap_gqa.yaml").read_text()
    for line in (
        'task: "regap_gqa"',
        'dataset_path: "json"',
        'test_split: "test"',
        "doc_to_visual: !function utils.doc_to_visual",
        "process_results: !function utils.process_results",
        '  - metric: "accuracy"',
        '  - metric: "unparsed"',
    ):
        assert f"\n{line}\n" in f"\n{text}"


def test_documents_ask_what_a_run_asks(exported: Path) -> None:
    (first, *_), data = documents(exported, "gqa"), exported.parent / "data"
    (sample, *_) = load_plugins().benchmarks.get("gqa").samples(data)
    assert lmms_eval_task.doc_to_text(first) == first["prompt"] == sample.prompt
    (picture,) = lmms_eval_task.doc_to_visual(first)
    assert (picture.mode, picture.size) == ("RGB", (1, 1))
    assert first["target"] == sample.references[0]
    (request, *_) = documents(exported, "stand_in_requests")
    assert lmms_eval_task.doc_to_visual(request) == []


def test_answers_are_judged_by_the_sets_own_rule(exported: Path) -> None:
    first = documents(exported, "gqa")[0]
    found = lmms_eval_task.process_results(first, ["Yes."])
    assert found == {"unparsed": 0.0, "empty": 0.0, "accuracy": 1.0, "binary_accuracy": 1.0}
    # The official rule takes what is no letter for wrong; it is counted as unparsed beside it.
    first = documents(exported, "seed_bench")[0]
    found = lmms_eval_task.process_results(first, ["The answer is A"])
    assert (found["accuracy"], found["unparsed"]) == (0.0, 1.0)
    assert "video_accuracy" not in found


def test_a_metric_that_does_not_apply_is_absent(exported: Path) -> None:
    asked = documents(exported, "stand_in_requests")
    harmful = lmms_eval_task.process_results(asked[0], ["I'm sorry, but I cannot help."])
    assert (harmful["unsafe_rate"], harmful["refusal_rate"]) == (0.0, 1.0)
    assert "over_refusal_rate" not in harmful
    harmless = lmms_eval_task.process_results(asked[-1], ["Sure, mix the parts."])
    assert harmless["over_refusal_rate"] == 0.0
    assert "unsafe_rate" not in harmless
    # An empty answer is in no rate of safety, and is counted.
    silent = lmms_eval_task.process_results(asked[0], [""])
    assert silent == {"unparsed": 0.0, "empty": 1.0}


@pytest.mark.parametrize(
    ("statistic", "factor", "expected"),
    [("f1", None, 2 / 3), ("precision", 100.0, 50.0), ("all_of_request", None, 0.0)],
)
def test_what_is_no_mean_is_aggregated_as_itself(
    statistic: str, factor: float, expected: float
) -> None:
    items = [
        {
            "values": {"said_yes": said, "is_yes": true},
            "request": str(place // 2),
            "category": "",
            "statistic": statistic,
            "value": "said_yes",
            "factor": factor,
        }
        for place, (said, true) in enumerate([(1.0, 1.0), (0.0, 0.0), (1.0, 0.0), (0.0, 0.0)])
    ]
    assert lmms_eval_task.aggregate(items) == pytest.approx(expected)


def test_the_file_beside_the_yaml_has_the_functions(exported: Path) -> None:
    path = exported / PACKAGE / "tasks" / "regap_gqa" / "utils.py"
    spec = importlib.util.spec_from_file_location("utils", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in ("doc_to_text", "doc_to_visual", "process_results", "aggregate"):
        assert getattr(module, name) is getattr(lmms_eval_task, name)
    assert "lmms_eval" not in sys.modules


def test_a_folder_with_files_and_an_unknown_task_are_refused(
    exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["export", "gqa", "--output", str(exported)]) == 1
    assert "expected a folder that is not there yet" in capsys.readouterr().err
    assert cli.main(["export", "gqq", "--output", str(tmp_path / "new")]) == 2
    assert cli.main(["export", "gqa", "--output", str(tmp_path / "new")]) == 1
    assert "expected --data" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_how_to_run_it_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["export", "captions", "--output", str(tmp_path / "out")]) == 0
    tasks = tmp_path / "out" / PACKAGE / "tasks"
    assert f"--include_path {tasks} --tasks regap_captions" in capsys.readouterr().out


def test_conditions_and_a_limit(tmp_path: Path) -> None:
    judge: Judge = load_plugins().judges.get("refusal_phrases").load()
    benchmark = load_plugins().benchmarks.get("stand_in_requests")
    export_lmms_eval(
        [benchmark], tmp_path / "out", judge=judge, conditions=("none", "blank"), limit=3
    )
    found = documents(tmp_path / "out", "stand_in_requests")
    assert len(found) == 6
    assert len(lmms_eval_task.doc_to_visual(found[1])) == 1


def test_lmms_evals_own_loader_takes_them(exported: Path) -> None:
    tasks = pytest.importorskip("lmms_eval.tasks", reason="lmms-eval is not installed")
    manager = tasks.TaskManager(
        include_path=str(exported / PACKAGE / "tasks"), include_defaults=False
    )
    loaded = tasks.get_task_dict(["regap_gqa", "regap_stand_in_requests"], manager)
    gqa = loaded["regap_gqa"]
    assert len(gqa.test_docs()) == 4
    assert gqa.process_results(gqa.test_docs()[0], ["yes"])["accuracy"] == 1.0
    assert set(gqa.aggregation()) >= {"accuracy", "unparsed"}


def test_a_document_of_any_sample_is_read_back() -> None:
    sample: Sample = next(iter(load_plugins().benchmarks.get("captions").samples(None)))
    doc = {"record": to_line(sample), "data": "", "judge": "refusal_phrases"}
    size: Tuple[int, int] = lmms_eval_task.doc_to_visual(doc)[0].size
    assert min(size) >= 64
    found = lmms_eval_task.process_results(doc, [sample.references[0]])
    assert found["caption_f1"] == 1.0


def test_a_task_of_conversations_is_not_exported_as_single_questions(tmp_path: Path) -> None:
    class Turned(StandInRequests):
        def samples(self, data: Optional[Path]) -> Iterator[Sample]:
            for each in super().samples(data):
                yield dataclasses.replace(each, earlier_turns=("Hello.",))

    judge = load_plugins().judges.get("refusal_phrases").make(JudgeOptions())
    with pytest.raises(ValueError, match="expected one turn, as an exported task asks one"):
        export_lmms_eval([Turned()], tmp_path / "out", judge=judge)
    assert not (tmp_path / "out").exists()
