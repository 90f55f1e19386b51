"""What lmms-eval calls for a task that `regap-bench export` wrote.

Each document holds a sample whole, so that the prompt, the picture and the rule are those of
`regap-bench run`. lmms-eval itself is not imported.
"""

import functools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Sequence

from regap_benchmarks.judges.judge import Judge
from regap_benchmarks.judging import judge_batch
from regap_benchmarks.pictures import render
from regap_benchmarks.plugins import load_plugins
from regap_benchmarks.records import (
    EMPTY,
    SCORED,
    STOPPED,
    UNPARSED,
    Judgement,
    Response,
    Sample,
    from_line,
)
from regap_benchmarks.statistics.metric_statistics import MEAN, Groups, statistic

if TYPE_CHECKING:
    from PIL.Image import Image

# Metrics beside a set's own: what is in no rate is counted all the same.
GAPS = (UNPARSED, EMPTY)


def doc_to_visual(
    doc: Mapping[str, Any], kwargs: Optional[Mapping[str, Any]] = None
) -> "List[Image]":
    """The pictures, made or read as for a run."""
    data = Path(doc["data"]) if doc["data"] else None
    return [render(picture, data) for picture in _sample(doc).pictures]


def doc_to_text(doc: Mapping[str, Any], kwargs: Optional[Mapping[str, Any]] = None) -> str:
    """The prompt; lmms-eval's model adds its own template and image placeholder."""
    return _sample(doc).prompt


def process_results(doc: Mapping[str, Any], results: Sequence[str]) -> Dict[str, Any]:
    """Judge one answer: a number for a metric that is a mean, what `aggregate` reads for others.

    A metric that does not apply to the answer is absent, and so is one whose answer could not be
    read; `unparsed` and `empty` say how often that was. lmms-eval takes spaces from both ends of
    an answer before it comes here.
    """
    sample = _sample(doc)
    judge = _judge(sample.task, doc["judge"])
    (judgement,) = judge_batch(judge, [Response(sample, results[0], STOPPED)])
    found: Dict[str, Any] = {name: float(judgement.status == name) for name in GAPS}
    for metric in judge.metrics:
        counts = judgement.status == SCORED or metric.official
        if metric.applies(judgement) and counts and metric.value in judgement.values:
            found[metric.name] = (
                judgement.values[metric.value]
                if metric.statistic == MEAN
                else _item(judgement, metric.statistic, metric.value, metric.factor)
            )
    return found


def aggregate(items: Sequence[Mapping[str, Any]]) -> float:
    """The statistic of a metric that is no mean, over all of its answers."""
    import numpy as np

    first = items[0]
    names = set().union(*(item["values"] for item in items))
    columns = {
        name: np.array([item["values"].get(name, np.nan) for item in items]) for name in names
    }
    numbers = [
        np.unique([item[key] for item in items], return_inverse=True)[1]
        for key in ("request", "category")
    ]
    value = statistic(first["statistic"])(columns, first["value"], Groups(*numbers))
    return value * (first["factor"] or 1)


def _item(
    judgement: Judgement, name: str, value: str, factor: Optional[float]
) -> Mapping[str, Any]:
    return {
        "values": dict(judgement.values),
        "request": judgement.request,
        "category": judgement.category,
        "statistic": name,
        "value": value,
        "factor": factor,
    }


def _sample(doc: Mapping[str, Any]) -> Sample:
    return _read(doc["record"])


@functools.lru_cache(maxsize=64)
def _read(record: str) -> Sample:
    return from_line(Sample, record, where=f"document {json.loads(record).get('id')!r}")


@functools.cache
def _judge(task: str, name: str) -> Judge:
    plugins = load_plugins()
    return plugins.benchmarks.get(task).scorer() or plugins.judges.get(name).load()
