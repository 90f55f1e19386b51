"""Official files under `--data`: found where LLaVA's evaluation guide lays them, and read.

The guide (docs/Evaluation.md of haotian-liu/LLaVA) keeps a folder for each set under one folder,
`playground/data/eval`; `--data` names that one, or the folder of the single set.
"""

import gzip
import json
from pathlib import Path
from typing import IO, Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple, cast


def folder_of(data: Optional[Path], names: Sequence[str], task: str, needs: str) -> Path:
    """The folder of a set: the first of `names` under `data` that is there, or `data` itself.

    Args:
        data: what `--data` names.
        names: such as ("mm-vet", "mmvet").
        task: for the message.
        needs: files of the set, as `Benchmark.needs` says it.

    Raises:
        ValueError: no `--data`.
        FileNotFoundError: it is no folder.
    """
    if data is None:
        raise ValueError(
            f"Task {task!r}: expected --data with its official files, found none. It needs: {needs}"
        )
    if not data.is_dir():
        raise FileNotFoundError(f"{data}: expected the folder of --data, found none. Mend --data.")
    return next((data / name for name in names if (data / name).is_dir()), data)


def first_file(folder: Path, names: Sequence[str], task: str, needs: str) -> Path:
    """The first of `names` that is there.

    Raises:
        FileNotFoundError: none is.
    """
    for name in names:
        if (folder / name).exists():
            return folder / name
    raise FileNotFoundError(
        f"{folder}: expected {' or '.join(names)} for the task {task!r}, found none. It needs:"
        f" {needs}"
    )


def open_text(path: Path) -> IO[str]:
    """A text file in UTF-8, packed by gzip or not.

    Raises:
        FileNotFoundError: no such file.
    """
    if path.suffix == ".gz":
        return cast("IO[str]", gzip.open(path, "rt", encoding="utf-8"))
    return path.open(encoding="utf-8")


def read_json(path: Path) -> Any:
    """A JSON file.

    Raises:
        ValueError: it is not JSON; names the place.
        FileNotFoundError: no such file.
    """
    with open_text(path) as file:
        try:
            return json.load(file)
        except ValueError as error:
            raise ValueError(
                f"{path}: expected JSON, found {error}. Fetch the file again."
            ) from error


def read_json_object(path: Path) -> Dict[str, Any]:
    """A JSON file of one object.

    Raises:
        ValueError: it is something else.
    """
    document = read_json(path)
    if not isinstance(document, dict):
        raise ValueError(
            f"{path}: expected a JSON object, found a {type(document).__name__}. Pass the official"
            " file."
        )
    return document


def read_json_lines(path: Path, keys: Sequence[str] = ()) -> Iterator[Tuple[str, Dict[str, Any]]]:
    """The objects of a file of JSON lines, each with "FILE, line N"; blank lines are skipped.

    Args:
        path: the file.
        keys: that each object must have.

    Raises:
        ValueError: a line that is no object, or lacks a key; names file and line.
    """
    with open_text(path) as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            try:
                document = json.loads(line)
            except ValueError as error:
                raise ValueError(
                    f"{where}: expected a JSON object, found {line[:60]!r} ({error}). Restore the"
                    " file."
                ) from error
            yield where, with_keys(document, keys, where)


def with_keys(document: Any, keys: Sequence[str], where: str) -> Dict[str, Any]:
    """The object, if it is one and has the keys.

    Raises:
        ValueError: it is not, or has not.
    """
    missing = [key for key in keys if not isinstance(document, dict) or key not in document]
    if missing or not isinstance(document, dict):
        found = sorted(document) if isinstance(document, Mapping) else repr(document)[:60]
        raise ValueError(
            f"{where}: expected an object with {', '.join(keys)}, found {found}. Pass the official"
            " file."
        )
    return document


def string(document: Mapping[str, Any], key: str, where: str) -> str:
    """A text of an object.

    Raises:
        ValueError: it is none.
    """
    value = document.get(key)
    if not isinstance(value, str):
        raise ValueError(
            f"{where}: expected a text under {key!r}, found {value!r}. Pass the official file."
        )
    return value


def relative(path: Path, data: Path) -> str:
    """The path as a record holds it: relative to the folder of the data."""
    return path.relative_to(data).as_posix()


def repeated(ids: Sequence[str]) -> List[str]:
    """Those that are there more than once, in order, each once."""
    seen: Dict[str, int] = {}
    for item in ids:
        seen[item] = seen.get(item, 0) + 1
    return [item for item, count in seen.items() if count > 1]
