"""What a run asks: tasks, picture conditions and a limit, made into samples and a header.

Everything that can be refused without a model is refused here.
"""

import hashlib
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Dict, Iterable, List, Mapping, Optional, Sequence, Set, Tuple

from regap_benchmarks.benchmark import Benchmark
from regap_benchmarks.pictures import as_given, file_of, with_condition
from regap_benchmarks.records import Cell, Json, RunHeader, Sample, to_line
from regap_benchmarks.turn_forms import SINGLE, SPLIT, with_form

if TYPE_CHECKING:
    from regap_benchmarks.attacks.attacked_samples import AttackedPictures


def plan_samples(
    benchmarks: Sequence[Benchmark],
    *,
    conditions: Sequence[str] = (),
    turns: Sequence[str] = (),
    attacked: "Optional[AttackedPictures]" = None,
    limit: Optional[int] = None,
    data: Optional[Path] = None,
) -> List[Sample]:
    """List the samples of a run.

    Args:
        benchmarks: in the order of the run.
        conditions: each request is asked under each of them; none: as its set gives it.
        turns: and in each of these forms of conversation; none: as its set gives it.
        attacked: each is also asked with its picture of an attack; None: without.
        limit: the first so many requests of each benchmark.
        data: folder of the official files.

    Raises:
        ValueError: a condition or form that a sample cannot have, a limit below 1, a benchmark
            without samples, an id that is there twice, a picture file that is missing.
        FileNotFoundError: a benchmark's file is missing.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"--limit: expected 1 or more requests, found {limit}.")
    samples: List[Sample] = []
    for benchmark in benchmarks:
        if SPLIT in turns and benchmark.scorer() is not None:
            raise ValueError(
                f"--turns split: expected tasks that a judge judges, found {benchmark.name!r},"
                " whose rules read the question as it was asked. Leave out that task or that form."
            )
        asked: Set[str] = set()
        before = len(samples)
        for sample in benchmark.samples(data):
            if limit is not None and sample.request not in asked and len(asked) == limit:
                break
            asked.add(sample.request)
            shown = [with_condition(sample, condition) for condition in conditions]
            shown = shown or [as_given(sample)]
            for each in shown:
                asked_in = [with_form(each, form) for form in turns or (SINGLE,)]
                samples += asked_in
                if attacked is not None:
                    samples += [attacked.attacked(turned, each) for turned in asked_in]
        if len(samples) == before:
            raise ValueError(
                f"Task {benchmark.name!r}: expected samples, found none in {data}. It needs:"
                f" {benchmark.needs}."
            )
    _check_ids(samples)
    _check_files(samples, data)
    return samples


def header_for(
    samples: Sequence[Sample],
    *,
    settings: Mapping[str, Json],
    environment: Mapping[str, Json],
    shard: Tuple[int, int] = (0, 1),
) -> RunHeader:
    """The header of a run over these samples."""
    counts: Dict[Tuple[str, str, str, Optional[bool]], int] = Counter(
        (sample.task, sample.condition, sample.category, sample.harmful) for sample in samples
    )
    cells = tuple(
        Cell(task, condition, category, count, harmful)
        for (task, condition, category, harmful), count in counts.items()
    )
    digest = hashlib.sha256()
    for sample in samples:
        digest.update(to_line(sample).encode("utf-8") + b"\n")
    return RunHeader(settings, cells, digest.hexdigest(), environment, shard)


def shard_of(samples: Sequence[Sample], shard: Tuple[int, int]) -> List[Sample]:
    """Every COUNT-th sample from NUMBER on: shards of equal mixture."""
    number, count = shard
    return list(samples[number::count])


def _check_ids(samples: Iterable[Sample]) -> None:
    seen: Set[Tuple[str, str]] = set()
    for sample in samples:
        if sample.key in seen:
            raise ValueError(
                f"Task {sample.task!r}: expected each sample once, found the id {sample.id!r}"
                " twice. Name each task and each picture once."
            )
        seen.add(sample.key)


def _check_files(samples: Iterable[Sample], data: Optional[Path]) -> None:
    files = {file_of(picture, data) for sample in samples for picture in sample.pictures}
    missing = sorted(str(path) for path in files if path is not None and not path.is_file())
    if missing:
        raise ValueError(
            f"Pictures: expected all of the run's {len(files)} files, found {len(missing)} missing,"
            f" such as {', '.join(missing[:3])}. Fetch them, or mend --data."
        )
