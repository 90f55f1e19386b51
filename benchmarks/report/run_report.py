"""What is written beside the judgements of a run: results.json, results.md, results.tex.

Made from the stored judgements; what defences have cost, from the stored answers. Where several
judges judged the same tasks, there is one results file for each of them, `results.JUDGE.json`, as
lm-eval's layout has no place for a judge.
"""

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

from regap_benchmarks.estimation import estimate
from regap_benchmarks.metrics import Metric
from regap_benchmarks.records import Estimate, Json, RunHeader
from regap_benchmarks.report.cost_table import cost_table
from regap_benchmarks.report.lm_eval import Execution, lm_eval_results
from regap_benchmarks.report.tables import Table, estimate_table, latex, markdown, text
from regap_benchmarks.run_folder import RunFolder


@dataclass(frozen=True)
class RunReport:
    """The estimates of a run, by judge, and where they were written.

    Attributes:
        estimates: of every judge and scorer.
        table: for a terminal.
        costs: of the run's defences, for a terminal; "" for a run without.
        files: that were written.
        missing: answers that were asked for and are not there, or ended in an error.
    """

    estimates: Tuple[Estimate, ...]
    table: str
    files: Tuple[Path, ...]
    missing: int
    costs: str = ""


def write_run_report(
    folder: RunFolder, *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> RunReport:
    """Estimate all that was judged, and write tables and results.

    Args:
        folder: with files of judgements.
        level: of the intervals.
        resamples: draws of each bootstrap.
        seed: of the draws.

    Raises:
        FileNotFoundError: nothing was judged.
        RecordError: a damaged file.
        ValueError: judgements that do not fit their header.
    """
    by_judge: Dict[str, List[Estimate]] = {}
    metrics: Dict[str, Sequence[Metric]] = {}
    headers: Dict[str, RunHeader] = {}
    for judge, (header, judgements, own) in folder.read_judgements().items():
        by_judge[judge] = estimate(
            header, judgements, own, level=level, resamples=resamples, seed=seed
        )
        metrics[judge], headers[judge] = own, header
    everything = [row for rows in by_judge.values() for row in rows]
    table = estimate_table(everything)
    for stale in folder.path.glob("results*.json"):
        stale.unlink()
    files = [folder.path / "results.md", folder.path / "results.tex"]
    costs = _costs(folder, headers.values())
    parts = [markdown(estimate_table(everything, categories=True))]
    parts += [markdown(each) for each in costs]
    files[0].write_text("\n".join(parts) + "\n", "utf-8")
    files[1].write_text(latex(table) + "\n", encoding="utf-8")
    versions = _versions(headers.values())
    for name, judges in _results_files(headers).items():
        results = lm_eval_results(
            _joined([headers[judge] for judge in judges]),
            [row for judge in judges for row in by_judge[judge]],
            [metric for judge in judges for metric in metrics[judge]],
            _execution(headers[judges[0]]),
            versions=versions,
        )
        path = folder.path / name
        path.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n", "utf-8")
        files.append(path)
    shown = "\n".join(text(each) for each in costs)
    return RunReport(tuple(everything), text(table), tuple(files), _missing(everything), shown)


def _costs(folder: RunFolder, headers: Iterable[RunHeader]) -> List[Table]:
    """The costs of a run with defences, from its answers where they are there."""
    if not any(header.settings.get("defences") for header in headers):
        return []
    if not folder.responses.is_file():
        return []
    return [cost_table(folder.read_responses()[1])]


def _results_files(headers: Mapping[str, RunHeader]) -> Dict[str, List[str]]:
    """Which judges share a file: those of different tasks."""
    judges_of: Dict[str, List[str]] = {}
    for judge, header in headers.items():
        for task in {cell.task for cell in header.cells}:
            judges_of.setdefault(task, []).append(judge)
    rivals = [judges for judges in judges_of.values() if len(judges) > 1]
    if not rivals:
        return {"results.json": list(headers)}
    several = sorted({judge for judges in rivals for judge in judges})
    alone = [judge for judge in headers if judge not in several]
    return {f"results.{judge}.json": [judge, *alone] for judge in several}


def _joined(headers: Sequence[RunHeader]) -> RunHeader:
    first = headers[0]
    cells = tuple(dict.fromkeys(cell for header in headers for cell in header.cells))
    return RunHeader(first.settings, cells, first.samples_sha256, first.environment)


def _versions(headers: "Any") -> Dict[str, int]:
    found: Dict[str, int] = {}
    for header in headers:
        tasks = header.settings.get("tasks")
        if isinstance(tasks, Mapping):
            found.update({str(name): int(version) for name, version in tasks.items()})
    return found


def _execution(header: RunHeader) -> Execution:
    settings, environment = header.settings, header.environment
    decoding = _mapping(settings.get("decoding"))
    versions = _mapping(environment.get("versions"))
    started = environment.get("started")
    arguments = {key: settings.get(key) for key in ("dtype", "quantization", "conversation")}
    return Execution(
        model_source=str(settings.get("runner")),
        model_name=str(environment.get("model_path")),
        model_args={
            "pretrained": environment.get("model_path"),
            "base": environment.get("model_base"),
            **arguments,
        },
        gen_kwargs=decoding,
        batch_size=_integer(environment.get("batch_size")),
        device=_text(environment.get("device")),
        limit=_integer(settings.get("limit")),
        random_seed=_integer(decoding.get("seed")),
        transformers_version=str(versions.get("transformers", "N/A")),
        start_time=datetime.fromisoformat(started).timestamp()
        if isinstance(started, str)
        else None,
    )


def _missing(estimates: Sequence[Estimate]) -> int:
    whole = [row for row in estimates if row.condition == "" and row.category == ""]
    return max((row.missing + row.failed for row in whole), default=0)


def _mapping(value: Json) -> Dict[str, Json]:
    return dict(value) if isinstance(value, Mapping) else {}


def _integer(value: Json) -> Optional[int]:
    return value if isinstance(value, int) else None


def _text(value: Json) -> Optional[str]:
    return value if isinstance(value, str) else None
