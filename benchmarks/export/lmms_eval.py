"""Our sets as tasks of lmms-eval: YAML, documents, and a small package that holds them.

The layout is that of lmms-eval 0.7: a folder with one folder for each task, found by
`--include_path DIR/regap_lmms_eval_tasks/tasks`. (`LMMS_EVAL_PLUGINS` is for models there: 0.7.3
reads it for tasks only after they were listed.) Functions are named in the YAML as
`!function utils.NAME`, which is a file beside it.
"""

import json
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from regap_benchmarks.benchmark import Benchmark
from regap_benchmarks.decoding import Decoding
from regap_benchmarks.export.lmms_eval_task import GAPS
from regap_benchmarks.judges.judge import Judge
from regap_benchmarks.records import Sample, to_line
from regap_benchmarks.run_plan import plan_samples
from regap_benchmarks.statistics.metric_statistics import MEAN

PACKAGE = "regap_lmms_eval_tasks"
_UTILS = '''"""What lmms-eval calls; regap-plugin, which has it, must be installed here."""

from regap_benchmarks.export.lmms_eval_task import (  # noqa: F401
    aggregate,
    doc_to_text,
    doc_to_visual,
    process_results,
)
'''
_PROJECT = f"""[build-system]
requires = ["setuptools>=61"]
build-backend = "setuptools.build_meta"

[project]
name = "{PACKAGE.replace("_", "-")}"
version = "1"
description = "Tasks of regap-bench for lmms-eval"
dependencies = ["regap-plugin"]

[tool.setuptools.packages.find]
include = ["{PACKAGE}*"]

[tool.setuptools.package-data]
"*" = ["*.yaml", "*.jsonl"]
"""


def export_lmms_eval(
    benchmarks: Sequence[Benchmark],
    output: Path,
    *,
    judge: Judge,
    data: Optional[Path] = None,
    conditions: Sequence[str] = (),
    limit: Optional[int] = None,
) -> List[str]:
    """Write tasks that lmms-eval finds.

    Args:
        benchmarks: each becomes the task `regap_NAME`.
        output: a folder that is not there yet, or is empty.
        judge: of the sets that have no scorer.
        data: folder of the official files; documents name it.
        conditions: of pictures; see `plan_samples`.
        limit: the first so many requests of each set.

    Returns:
        the names of the tasks.

    Raises:
        ValueError: the folder holds something; a sample of several turns; and what `plan_samples`
            refuses.
        FileNotFoundError: a set's file is missing.
    """
    if output.exists() and any(output.iterdir()):
        raise ValueError(
            f"{output}: expected a folder that is not there yet, found one with files. Choose"
            " another --output."
        )
    asked = {
        benchmark.name: plan_samples([benchmark], conditions=conditions, limit=limit, data=data)
        for benchmark in benchmarks
    }
    for sample in (each for samples in asked.values() for each in samples):
        if sample.earlier_turns:
            raise ValueError(
                f"Sample {sample.id!r} of {sample.task!r}: expected one turn, as an exported task"
                f" asks one, found {1 + len(sample.earlier_turns)}. Leave out the task."
            )
    tasks = output / PACKAGE / "tasks"
    for benchmark in benchmarks:
        folder = tasks / f"regap_{benchmark.name}"
        folder.mkdir(parents=True)
        scorer = benchmark.scorer() or judge
        documents = (folder / "documents.jsonl").resolve()
        documents.write_text(
            "".join(
                json.dumps(_document(sample, data, judge.name), ensure_ascii=False) + "\n"
                for sample in asked[benchmark.name]
            ),
            encoding="utf-8",
        )
        (folder / "utils.py").write_text(_UTILS, encoding="utf-8")
        (folder / f"regap_{benchmark.name}.yaml").write_text(
            _yaml(benchmark, scorer, documents), encoding="utf-8"
        )
    for folder in (output / PACKAGE, tasks):
        (folder / "__init__.py").write_text("", encoding="utf-8")
    (output / "pyproject.toml").write_text(_PROJECT, encoding="utf-8")
    return [f"regap_{benchmark.name}" for benchmark in benchmarks]


def _document(sample: Sample, data: Optional[Path], judge: str) -> Dict[str, Any]:
    return {
        "id": sample.id,
        "prompt": sample.prompt,
        "target": sample.references[0] if sample.references else "",
        "record": to_line(sample),
        "data": str(data.resolve()) if data else "",
        "judge": judge,
    }


def _yaml(benchmark: Benchmark, scorer: Judge, documents: Path) -> str:
    """The task's YAML; every value is JSON, which YAML is a superset of."""
    lines = [
        f"task: {json.dumps(f'regap_{benchmark.name}')}",
        'dataset_path: "json"',
        "dataset_kwargs:",
        f"  data_files: {json.dumps({'test': str(documents)})}",
        'test_split: "test"',
        'output_type: "generate_until"',
        "doc_to_visual: !function utils.doc_to_visual",
        "doc_to_text: !function utils.doc_to_text",
        'doc_to_target: "target"',
        "process_results: !function utils.process_results",
        "generation_kwargs:",
        f"  max_new_tokens: {Decoding().max_new_tokens}",
        "  temperature: 0",
        "  do_sample: false",
        "metric_list:",
    ]
    for metric in scorer.metrics:
        mean = metric.statistic == MEAN
        lines += _metric(metric.name, metric.higher_is_better, mean=mean)
    for name in GAPS:
        lines += _metric(name, False, mean=True)
    lines += ["metadata:", f"  - version: {benchmark.version}.0"]
    return "\n".join(lines) + "\n"


def _metric(name: str, higher_is_better: Optional[bool], *, mean: bool) -> List[str]:
    # lmms-eval knows two directions only.
    return [
        f"  - metric: {json.dumps(name)}",
        f"    aggregation: {'mean' if mean else '!function utils.aggregate'}",
        f"    higher_is_better: {json.dumps(bool(higher_is_better))}",
    ]
