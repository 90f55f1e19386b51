"""The report of a study as one HTML page: its sentences, figures, gaps, curves and all answers.

Seeds are worlds with requests of their own, so groups of runs are shown side by side and are not
compared request by request; what the study says of them is what `findings` computed.
"""

import json
from pathlib import Path
from typing import Dict, List, Sequence, Tuple

from regap_benchmarks.gap.summary import summarize
from regap_benchmarks.miniature.study import PlannedRun, Study
from regap_benchmarks.miniature.upstream_training import STATE
from regap_benchmarks.records import LayerGap, read_run
from regap_benchmarks.report.page.compared_runs import read_runs
from regap_benchmarks.report.page.conclusion import OPEN, Conclusion, Finding
from regap_benchmarks.report.page.gap_file import read_gap
from regap_benchmarks.report.page.page_content import Extras, side_by_side_content
from regap_benchmarks.report.page.page_file import write_page
from regap_benchmarks.report.page.training_log import read_training
from regap_benchmarks.run_folder import RunFolder

_LEVEL, _RESAMPLES, _SEED = 0.95, 500, 0


def write_study_page(study: Study, sentences: Sequence[str]) -> List[Path]:
    """Write `report.html` and `gap.json` into the study's folder.

    Args:
        study: finished.
        sentences: of its report.

    Raises:
        FileNotFoundError: a run was not measured.
    """
    planned = [each for each in study.planned() if each.weight is not None]
    last = {each.name: _last_step(study, each) for each in planned}
    groups: Dict[str, List[RunFolder]] = {}
    for each in planned:
        folders = sorted(path.parent for path in last[each.name].glob("*/responses.jsonl"))
        groups.setdefault(_group(each), []).extend(map(RunFolder, folders))
    gap = _write_gap(study.folder / "gap.json", last)
    logs = tuple(
        read_training(study.run_of(each).folder, _group(each))
        for each in planned
        if (study.run_of(each).folder / STATE).is_file()
    )
    *said, lead = sentences
    shown = Conclusion("What it shows", OPEN, lead, tuple(Finding(OPEN, one) for one in said), ())
    page = side_by_side_content(
        "ReGap in miniature",
        read_runs(groups),
        (shown,),
        Extras(tuple(read_gap(gap)), logs),
        level=_LEVEL,
        resamples=_RESAMPLES,
        seed=_SEED,
    )
    path = study.folder / "report.html"
    write_page(page, path)
    return [path, gap]


def _group(planned: PlannedRun) -> str:
    if not planned.weight:
        return "weight 0"
    return f"{planned.loss}, weight {planned.weight:g}"


def _last_step(study: Study, planned: PlannedRun) -> Path:
    steps = sorted((study.folder / "measured" / planned.name).glob("step-*/numbers.json"))
    if not steps:
        raise FileNotFoundError(
            f"{study.folder / 'measured' / planned.name}: expected a measured checkpoint, found"
            " none. Run the study again; it goes on."
        )
    return steps[-1].parent


def _write_gap(path: Path, measured: Dict[str, Path]) -> Path:
    models, settings = {}, {}
    for name, folder in measured.items():
        header, layers = read_run(folder / "gap.jsonl", LayerGap)
        settings = dict(header.settings)
        models[name] = summarize(_in_order(layers)).describe()
    text = json.dumps({"settings": settings, "models": models}, indent=1, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")
    return path


def _in_order(layers: Sequence[LayerGap]) -> Tuple[LayerGap, ...]:
    return tuple(sorted(layers, key=lambda layer: layer.layer))
