"""What a page is made of: the runs by group, with their answers, judgements and hashes."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Mapping, Sequence, Tuple

from regap_benchmarks.comparable import JudgedRun
from regap_benchmarks.judging import answer_sha256
from regap_benchmarks.metrics import Metric
from regap_benchmarks.records import Judgement, Response, RunHeader
from regap_benchmarks.run_folder import RunFolder

_BLOCK = 1 << 20


@dataclass(frozen=True)
class PageRun:
    """One run of a page.

    Attributes:
        name: the shortest end of its path that is its own on the page.
        group: that it belongs to; "" on the page of one run.
        path: its folder.
        header: of its judgements, over all tasks.
        responses: empty where the folder holds judgements only.
        judgements: by judge, with its header and metrics.
        files: SHA-256 of the files that were read, by name.
    """

    name: str
    group: str
    path: Path
    header: RunHeader
    responses: Sequence[Response]
    judgements: Mapping[str, Tuple[RunHeader, Sequence[Judgement], Tuple[Metric, ...]]]
    files: Mapping[str, str]

    def judged_by(self, judge: str) -> JudgedRun:
        """For comparisons."""
        header, judgements, _ = self.judgements[judge]
        return JudgedRun(str(self.path), header, judgements)


def read_runs(groups: Mapping[str, Sequence[RunFolder]]) -> List[PageRun]:
    """Read all runs, in the order of the groups.

    Raises:
        FileNotFoundError: nothing was judged.
        RecordError: a damaged file.
        ValueError: judgements of other answers than the folder holds.
    """
    names = _names([folder.path for folders in groups.values() for folder in folders])
    return [
        _read(folder, group, names[folder.path])
        for group, folders in groups.items()
        for folder in folders
    ]


def _read(folder: RunFolder, group: str, name: str) -> PageRun:
    judgements = folder.read_judgements()
    responses: List[Response] = []
    files = {path.name: _sha256(path) for path in map(folder.judgements, judgements)}
    header = next(iter(judgements.values()))[0]
    if folder.responses.is_file():
        header, responses = folder.read_responses()
        files = {folder.responses.name: _sha256(folder.responses), **files}
        _check_judged(folder, responses, judgements)
    return PageRun(name, group, folder.path, header, responses, judgements, files)


def _check_judged(
    folder: RunFolder,
    responses: Sequence[Response],
    judgements: Mapping[str, Tuple[RunHeader, Sequence[Judgement], Tuple[Metric, ...]]],
) -> None:
    answers = {response.sample.key: answer_sha256(response) for response in responses}
    for judge, (_, found, _) in judgements.items():
        other = [item for item in found if answers.get(item.key) != item.answer_sha256]
        if other:
            raise ValueError(
                f"{folder.judgements(judge)}: expected judgements of the answers in"
                f" {folder.responses.name}, found {len(other)} of answers that have changed or gone"
                f" since, such as {other[0].id!r}. Judge again: regap-bench judge --overwrite."
            )


def _names(paths: Sequence[Path]) -> Dict[Path, str]:
    """For each folder the shortest end of its path that no other has."""
    found: Dict[Path, str] = {}
    for path in paths:
        parts = path.resolve().parts
        for length in range(1, len(parts) + 1):
            end = parts[-length:]
            if sum(other.resolve().parts[-length:] == end for other in set(paths)) == 1:
                break
        found[path] = "/".join(end)
    return found


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(_BLOCK), b""):
            digest.update(block)
    return digest.hexdigest()
