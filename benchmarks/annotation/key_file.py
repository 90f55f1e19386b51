"""The key: which answer of which run each id on the pages is. It stays with who evaluates."""

import dataclasses
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from regap_benchmarks.annotation.candidates import Stratum
from regap_benchmarks.records import Json, RecordError

SCHEMA = "regap-annotation-key/1"
NAME = "key.json"


@dataclass(frozen=True)
class KeyItem:
    """One answer.

    Attributes:
        id: on the pages.
        stratum: its number in the key.
        task, sample: of the question.
        request: the cluster that it belongs to.
        answer_sha256: see `Judgement.answer_sha256`.
    """

    id: str
    stratum: int
    task: str
    sample: str
    request: str
    answer_sha256: str


@dataclass(frozen=True)
class KeyRun:
    """One run: where it lay, as seen from the key and as a whole path, and what it was."""

    relative: str
    absolute: str
    samples_sha256: str
    settings: Mapping[str, Json]


@dataclass(frozen=True)
class Key:
    """All that maps labels back.

    Attributes:
        project: identifies the pages of one drawing; on the pages, too.
        seed: of the draw and of the orders.
        annotators: their names.
        runs: by number.
        strata: with their sizes in the runs.
        items: the answers that were drawn.
    """

    project: str
    seed: int
    annotators: Tuple[str, ...]
    runs: Tuple[KeyRun, ...]
    strata: Tuple[Tuple[Stratum, int], ...]
    items: Tuple[KeyItem, ...]


def project_of(items: Sequence[KeyItem]) -> str:
    """A name for the drawing that tells nothing of it: ids are random, and so is their digest."""
    ids = "\n".join(sorted(item.id for item in items))
    return hashlib.sha256(ids.encode("ascii")).hexdigest()[:16]


def key_run(path: Path, output: Path, digest: str, settings: Mapping[str, Json]) -> KeyRun:
    """How the key names a run's folder."""
    try:
        relative = Path(os.path.relpath(path.resolve(), output.resolve())).as_posix()
    except ValueError:  # another drive
        relative = path.resolve().as_posix()
    return KeyRun(relative, str(path.resolve()), digest, settings)


def run_path(run: KeyRun, key: Path) -> Path:
    """Where the run lies now.

    Raises:
        FileNotFoundError: neither beside the key as before, nor where it was.
    """
    for path in (key.parent / run.relative, Path(run.absolute)):
        if path.is_dir():
            return Path(os.path.normpath(path))
    raise FileNotFoundError(
        f"{key}: expected the folder of a run at {key.parent / run.relative} or {run.absolute},"
        " found none. Put it back."
    )


def write_key(path: Path, key: Key) -> None:
    """Write the key."""
    document: Dict[str, Any] = {"schema": SCHEMA, **dataclasses.asdict(key)}
    document["strata"] = [
        {**dataclasses.asdict(stratum), "answers": answers} for stratum, answers in key.strata
    ]
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def read_key(path: Path) -> Key:
    """Read a key.

    Raises:
        FileNotFoundError: no such file.
        RecordError: not a key, or a damaged one.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document.pop("schema") != SCHEMA:
            raise ValueError("another schema")
        strata: List[Tuple[Stratum, int]] = []
        for row in document.pop("strata"):
            answers = int(row.pop("answers"))
            strata.append((Stratum(**row), answers))
        return Key(
            runs=tuple(KeyRun(**row) for row in document.pop("runs")),
            items=tuple(KeyItem(**row) for row in document.pop("items")),
            annotators=tuple(document.pop("annotators")),
            strata=tuple(strata),
            **document,
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RecordError(
            f"{path}: expected the key that regap-bench annotate wrote ({SCHEMA}), found"
            f" {type(error).__name__}: {error}. Give that file with --key."
        ) from error
