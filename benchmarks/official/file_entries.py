"""Official files read with their line numbers, so that what is wrong in one can be said.

Messages name file, line and column and never repeat a request.
"""

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple

from regap_benchmarks.records import Json, Picture

AGAIN = "Fetch the official file again."


class OfficialFileError(ValueError):
    """A file that is not as the official one: file, line, what was expected and found."""


@dataclass(frozen=True)
class Entry:
    """One row or object of a file.

    Attributes:
        path: of the file.
        place: such as "line 3" or, in a parquet file, "row 3".
        values: by column.
        key: of an object of objects; "" elsewhere.
    """

    path: Path
    place: str
    values: Mapping[str, Json]
    key: str = ""

    def text(self, column: str) -> str:
        """A text that is not empty.

        Raises:
            OfficialFileError: it is missing, empty or no text.
        """
        value = self._value(column)
        if not isinstance(value, str) or not value.strip():
            raise self.error(f"a text in {column!r}", _kind(value))
        return value

    def any_text(self, column: str) -> str:
        """A text that may be empty or absent."""
        value = self.values.get(column)
        if value is not None and not isinstance(value, str):
            raise self.error(f"a text in {column!r}", _kind(value))
        return value or ""

    def name(self, column: str) -> str:
        """A text or an integer, as text: ids are written either way."""
        value = self._value(column)
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        return self.text(column)

    def one_of(self, column: str, options: Sequence[str]) -> str:
        """One of a few texts."""
        value = self._value(column)
        if value not in options or not isinstance(value, str):
            found = repr(value)[:60] if isinstance(value, str) else _kind(value)
            raise self.error(f"one of {', '.join(options)} in {column!r}", found)
        return value

    def integer(self, column: str) -> int:
        """An integer, as a number or in digits."""
        value = self._value(column)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        if isinstance(value, str) and value.strip().isdecimal():
            return int(value)
        raise self.error(f"an integer in {column!r}", _kind(value))

    def flag(self, column: str) -> bool:
        """True or False, also in words."""
        value = self._value(column)
        words = {"true": True, "false": False}
        if isinstance(value, bool):
            return value
        if isinstance(value, str) and value.strip().lower() in words:
            return words[value.strip().lower()]
        raise self.error(f"true or false in {column!r}", _kind(value))

    def items(self, column: str) -> List[Json]:
        """A list."""
        value = self._value(column)
        if not isinstance(value, list):
            raise self.error(f"a list in {column!r}", _kind(value))
        return value

    def error(self, expected: str, found: str, remedy: str = AGAIN) -> OfficialFileError:
        """The error of this entry, to be raised."""
        return OfficialFileError(
            f"{self.path}, {self.place}: expected {expected}, found {found}. {remedy}"
        )

    def _value(self, column: str) -> Json:
        if column not in self.values:
            raise self.error(f"the field {column!r}", ", ".join(map(repr, self.values)) or "none")
        return self.values[column]


class SetFolder:
    """The folder of one set under `--data`: DATA/FOLDER, or DATA itself.

    Args:
        data: of `--data`.
        folder: the set's name for it.

    Raises:
        ValueError: no `--data`.
        FileNotFoundError: there is no such folder.
    """

    def __init__(self, data: Optional[Path], folder: str) -> None:
        if data is None:
            raise ValueError(
                f"--data: expected the folder that holds {folder}/, found none. Name it, or get the"
                " files by regap-bench data fetch."
            )
        if not data.is_dir():
            raise FileNotFoundError(
                f"{data}: expected the folder that holds {folder}/, found none. Mend --data."
            )
        self.data = data
        self._expected = data / folder
        self.root = data / folder if (data / folder).is_dir() else data

    def file(self, *paths: str) -> Path:
        """The first of some paths that is a file.

        Raises:
            FileNotFoundError: none is.
        """
        found = self.optional(*paths)
        if found is None:
            raise FileNotFoundError(
                f"{self._expected / paths[0]}: expected the official file, found none. Get it by"
                " regap-bench data fetch, or mend --data."
            )
        return found

    def optional(self, *paths: str) -> Optional[Path]:
        """The first of some paths that is there; None if none is."""
        return next((self.root / path for path in paths if (self.root / path).exists()), None)

    def picture(self, path: Path) -> Picture:
        """The picture in a file of the folder."""
        return Picture("file", {"path": self.relative(path)})

    def relative(self, path: Path) -> str:
        """A path as a record names it: relative to `--data`."""
        return path.relative_to(self.data).as_posix()


def read_csv(path: Path, columns: Sequence[str]) -> Iterator[Entry]:
    """The rows of a CSV file with a header.

    Args:
        path: UTF-8, with or without a byte-order mark.
        columns: that must be there.

    Raises:
        OfficialFileError: no UTF-8, a missing column, a row of another length, an open quote.
    """
    text = _read(path)
    reader = csv.reader(_lines(text), strict=True)
    header: List[str] = []
    start = 1
    try:
        for row in reader:
            place = f"line {start}"
            start = reader.line_num + 1
            if not header:
                header = row
                _check_columns(path, header, columns)
            elif row:
                if len(row) != len(header):
                    raise OfficialFileError(
                        f"{path}, {place}: expected {len(header)} fields, found {len(row)}. {AGAIN}"
                    )
                yield Entry(path, place, dict(zip(header, row)))
    except csv.Error as error:
        raise OfficialFileError(
            f"{path}, line {start}: expected a row of CSV, found {error}. {AGAIN}"
        ) from error
    if not header:
        _check_columns(path, header, columns)


def read_json(path: Path) -> List[Entry]:
    """The objects of a JSON list, or of an object of objects with their keys.

    Raises:
        OfficialFileError: no UTF-8, no JSON, cut, another shape, a key that is there twice.
    """
    text = _read(path)
    try:
        parts = list(_top_level(text))
    except json.JSONDecodeError as error:
        raise OfficialFileError(
            f"{path}, line {error.lineno}: expected JSON, found {error.msg.lower()}. {AGAIN}"
        ) from error
    entries: List[Entry] = []
    seen: Dict[str, str] = {}
    for key, value, line in parts:
        place = f"line {line}"
        if not isinstance(value, dict):
            raise OfficialFileError(
                f"{path}, {place}: expected an object, found {_kind(value)}. {AGAIN}"
            )
        entry = Entry(path, place, value, key or "")
        if key is not None and key in seen:
            raise entry.error("each key once", f"{key!r}, which is in {seen[key]} too")
        if key is not None:
            seen[key] = place
        entries.append(entry)
    return entries


def read_json_lines(path: Path) -> Iterator[Entry]:
    """The objects of a file of JSON lines; empty lines are left out.

    Raises:
        OfficialFileError: no UTF-8, a line that is no object.
    """
    for number, line in enumerate(_lines(_read(path)), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            raise OfficialFileError(
                f"{path}, line {number}: expected JSON, found {error.msg.lower()} at character"
                f" {error.colno}. {AGAIN}"
            ) from error
        if not isinstance(value, dict):
            raise OfficialFileError(
                f"{path}, line {number}: expected an object, found {_kind(value)}. {AGAIN}"
            )
        yield Entry(path, f"line {number}", value)


def each_once(entries: Iterable[Entry], columns: Sequence[str]) -> Iterator[Entry]:
    """The entries, as long as no two agree in all of `columns`.

    Raises:
        OfficialFileError: two agree; names both.
    """
    seen: Dict[Tuple[str, ...], str] = {}
    for entry in entries:
        key = tuple(entry.name(column) for column in columns)
        if key in seen:
            shown = ", ".join(f"{column} {value!r}" for column, value in zip(columns, key))
            raise entry.error("each id once", f"{shown}, which is in {seen[key]} too")
        seen[key] = entry.place
        yield entry


def _read(path: Path) -> str:
    raw = path.read_bytes()
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise OfficialFileError(
            f"{path}, line {line}: expected UTF-8, found the byte {raw[error.start]:#04x}. {AGAIN}"
        ) from error


def _lines(text: str) -> Iterator[str]:
    """Lines with their ends: unlike `splitlines`, only a newline ends one."""
    start = 0
    while start < len(text):
        end = text.find("\n", start) + 1 or len(text)
        yield text[start:end]
        start = end


def _check_columns(path: Path, header: Sequence[str], columns: Sequence[str]) -> None:
    missing = [column for column in columns if column not in header]
    if missing:
        raise OfficialFileError(
            f"{path}, line 1: expected the columns {', '.join(columns)}, found"
            f" {', '.join(header) or 'an empty file'} without {', '.join(missing)}. {AGAIN}"
        )


def _top_level(text: str) -> Iterator[Tuple[Optional[str], Json, int]]:
    """Key (of an object), value and line of each part of a JSON list or object.

    `json.loads` would keep neither the lines nor the first of two equal keys.
    """
    decoder = json.JSONDecoder()
    at = _skip(text, 0)
    close = {"[": "]", "{": "}"}.get(text[at : at + 1], "")
    if not close:
        raise json.JSONDecodeError("Neither a list nor an object", text, at)
    line, counted = 1, 0
    at = _skip(text, at + 1)
    while text[at : at + 1] != close:
        begin, key = at, None
        if close == "}":
            found, at = decoder.raw_decode(text, at)
            if not isinstance(found, str):
                raise json.JSONDecodeError("Expecting a key in quotes", text, begin)
            key = found
            at = _skip(text, at)
            if text[at : at + 1] != ":":
                raise json.JSONDecodeError("Expecting ':'", text, at)
            at = _skip(text, at + 1)
        value, at = decoder.raw_decode(text, at)
        line += text.count("\n", counted, begin)
        counted = begin
        yield key, value, line
        at = _skip(text, at)
        if text[at : at + 1] == ",":
            at = _skip(text, at + 1)
            if text[at : at + 1] == close:
                raise json.JSONDecodeError("A comma before the end", text, at)
        elif text[at : at + 1] != close:
            raise json.JSONDecodeError("Expecting ',' or the end", text, min(at, len(text)))
    if _skip(text, at + 1) != len(text):
        raise json.JSONDecodeError("More after the end", text, at + 1)


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    return at


def _kind(value: Json) -> str:
    """What a value is, without repeating it: it may be a request."""
    if value is None:
        return "null"
    if isinstance(value, str) and value.isspace():
        return "a blank text"
    name = {
        bool: "flag",
        int: "integer",
        float: "number",
        str: "text",
        list: "list",
        dict: "object",
    }[type(value)]
    if isinstance(value, (str, list, dict)) and not value:
        return f"an empty {name}"
    if isinstance(value, str):
        return "another text"
    return f"an {name}" if name[0] in "aeio" else f"a {name}"
