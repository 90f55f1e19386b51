"""What annotators send back: the files that the pages export, checked against the key."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence

from regap_benchmarks.annotation.key_file import Key
from regap_benchmarks.annotation.labels import BY_NAME
from regap_benchmarks.annotation.page import EXPORT_SCHEMA
from regap_benchmarks.records import RecordError


@dataclass(frozen=True)
class AnnotatorLabels:
    """Of one annotator.

    Attributes:
        annotator: the name on the page.
        labels: by id, the name of the label; answers without one are absent.
        notes: by id, where one was written.
    """

    annotator: str
    labels: Mapping[str, str]
    notes: Mapping[str, str]


def read_labels(paths: Sequence[Path], key: Key) -> List[AnnotatorLabels]:
    """Read exported files.

    Raises:
        FileNotFoundError: no such file.
        RecordError: not an export, a damaged one, one of other pages than the key's, an unknown id
            or label, an id or an annotator twice, a file without any label.
    """
    found: Dict[str, AnnotatorLabels] = {}
    for path in paths:
        own = _read(path, key)
        if own.annotator in found:
            raise RecordError(
                f"{path}: expected one file of {own.annotator}, found another. Give the newest"
                " alone; the page exports all labels each time."
            )
        found[own.annotator] = own
    return list(found.values())


def _read(path: Path, key: Key) -> AnnotatorLabels:
    document = _document(path)
    if document.get("project") != key.project:
        raise RecordError(
            f"{path}: expected labels of the key's pages ({key.project}), found those of"
            f" {document.get('project')!r}. Give the key that was written beside their pages."
        )
    annotator = document.get("annotator")
    if annotator not in key.annotators:
        raise RecordError(
            f"{path}: expected an annotator of {', '.join(key.annotators)}, found {annotator!r}."
            " The file was changed: export it again."
        )
    ids = {item.id for item in key.items}
    labels: Dict[str, str] = {}
    notes: Dict[str, str] = {}
    seen = set()
    for row in document["labels"]:
        name, label, note = row.get("id"), row.get("label"), row.get("note", "")
        if name not in ids or name in seen or not (label is None or label in BY_NAME):
            raise RecordError(
                f"{path}: expected each id of the pages once, with a label of"
                f" {', '.join(BY_NAME)}, found {name!r} with {label!r}. The file was changed:"
                " export it again."
            )
        seen.add(name)
        if label is not None:
            labels[name] = label
        if note:
            notes[name] = str(note)
    if not labels:
        raise RecordError(f"{path}: expected labels, found none. Label first, then export.")
    return AnnotatorLabels(str(annotator), labels, notes)


def _document(path: Path) -> Dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RecordError(
            f"{path}: expected JSON, found {error}. Export the labels again."
        ) from error
    if (
        not isinstance(document, dict)
        or document.get("schema") != EXPORT_SCHEMA
        or not isinstance(document.get("labels"), list)
        or not all(isinstance(row, dict) for row in document["labels"])
    ):
        raise RecordError(
            f"{path}: expected a file that a page of regap-bench annotate exported"
            f" ({EXPORT_SCHEMA}), found another. Open the page and export."
        )
    return document
