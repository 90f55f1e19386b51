"""What is wrong with the files of a set: missing, damaged, another version, or too few."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional, Sequence, Tuple

from regap_benchmarks.benchmark import Benchmark
from regap_benchmarks.official.file_entries import SetFolder
from regap_benchmarks.official.set_facts import VERIFIED, SetFacts
from regap_benchmarks.pictures import file_of
from regap_benchmarks.records import Sample

# So many of a kind are named; the rest is counted.
_NAMED = 5


@dataclass(frozen=True)
class Checked:
    """What a check found.

    Attributes:
        task: that was checked.
        samples: that could be read.
        problems: each in a sentence or two; none: the files are the official ones.
        doubts: differences from numbers that were never verified.
    """

    task: str
    samples: int
    problems: Tuple[str, ...]
    doubts: Tuple[str, ...]


def check_files(benchmark: Benchmark, data: Optional[Path]) -> Checked:
    """Compare the files of a set with what is known of it.

    Args:
        benchmark: with facts.
        data: of `--data`.

    Raises:
        ValueError: a set without facts, or no `--data`.
    """
    facts = benchmark.facts
    if facts is None:
        raise ValueError(
            f"Task {benchmark.name!r}: expected a set of official files, found one that needs none."
            " Name another task; see regap-bench tasks."
        )
    try:
        folder = SetFolder(data, facts.folder)
        samples = list(benchmark.samples(data))
    except FileNotFoundError as error:
        return Checked(benchmark.name, 0, (str(error),), ())
    except ValueError as error:
        if data is None:
            raise
        hashes = _wrong_hashes(SetFolder(data, facts.folder), facts)
        return Checked(benchmark.name, 0, (str(error), *hashes), ())
    counts = _wrong_counts(folder, facts, samples)
    problems = [
        *_wrong_hashes(folder, facts),
        *(text for mark, text in counts if mark == VERIFIED),
        *_twice(folder, samples),
        *_missing_pictures(samples, data),
    ]
    doubts = [text for mark, text in counts if mark != VERIFIED]
    return Checked(benchmark.name, len(samples), tuple(problems), tuple(doubts))


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def _wrong_hashes(folder: SetFolder, facts: SetFacts) -> List[str]:
    problems = []
    for name, expected in facts.sha256.items():
        # Either as in the repository or laid flat, as the sets read them.
        parts = name.split("/")
        paths = ["/".join(parts[start:]) for start in range(len(parts))]
        path = folder.optional(*paths)
        if path is None:
            continue
        found = sha256_of(path)
        if found != expected:
            problems.append(
                f"{path}: expected the official file, SHA-256 {expected[:16]}..., found"
                f" {found[:16]}.... Copies with other rows or line ends are common: get it by"
                " regap-bench data fetch."
            )
    return problems


def _wrong_counts(
    folder: SetFolder, facts: SetFacts, samples: Sequence[Sample]
) -> List[Tuple[str, str]]:
    wrong = []
    for count in facts.counts:
        found = count.tally(samples)
        if found != count.number:
            wrong.append(
                (
                    count.mark,
                    f"{folder.root}: expected {count.number} {count.kind} ({count.mark}), found"
                    f" {found}.",
                )
            )
    return wrong


def _twice(folder: SetFolder, samples: Sequence[Sample]) -> List[str]:
    seen = set()
    for sample in samples:
        if sample.id in seen:
            return [f"{folder.root}: expected each sample once, found {sample.id!r} twice."]
        seen.add(sample.id)
    return []


def _missing_pictures(samples: Sequence[Sample], data: Optional[Path]) -> List[str]:
    files = {file_of(picture, data) for sample in samples for picture in sample.pictures}
    wanted = sorted(path for path in files if path is not None)
    missing = [path for path in wanted if not path.is_file()]
    empty = [path for path in wanted if path.is_file() and not path.stat().st_size]
    problems = []
    for what, paths in (("missing", missing), ("empty", empty)):
        if paths:
            named = ", ".join(map(str, paths[:_NAMED])) + (", ..." if len(paths) > _NAMED else "")
            problems.append(
                f"Pictures: expected {len(wanted)} files, found {len(paths)} {what}: {named}."
            )
    return problems
