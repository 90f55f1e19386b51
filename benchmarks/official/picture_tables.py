"""Pictures that lie in the cells of a table: base64 in a TSV, bytes in a parquet file.

A row is found by its place, so that a table of hundreds of megabytes is never held.
"""

import base64
import binascii
import contextlib
import csv
import functools
import io
import sys
from pathlib import Path
from typing import Any, BinaryIO, Dict, Iterator, List, Mapping, Optional, Tuple

_READ_ERRORS = (OSError, ValueError, csv.Error, binascii.Error, IndexError)


class TableError(ValueError):
    """A table that cannot be read."""


def read_tsv(path: Path) -> Iterator[Tuple[int, Dict[str, str]]]:
    """The rows of a TSV with a header, each with the byte at which it begins.

    Cells may be quoted and hold line ends, as pandas reads them.

    Raises:
        TableError: a row with another number of cells than the header.
        FileNotFoundError: no such file.
    """
    with path.open("rb") as file:
        lines = _Lines(file)
        header = _next_row(csv.reader(lines, delimiter="\t"))
        if header is None:
            raise TableError(f"{path}: expected a header and rows, found an empty file. Fetch it.")
        while True:
            offset = lines.position
            cells = _next_row(csv.reader(lines, delimiter="\t"))
            if cells is None:
                return
            if not cells:
                continue
            if len(cells) != len(header):
                raise TableError(
                    f"{path}, row at byte {offset}: expected {len(header)} cells, found"
                    f" {len(cells)}. Fetch the file again."
                )
            yield offset, dict(zip(header, cells))


def picture_in_tsv(parameters: Mapping[str, Any], path: Path) -> io.BytesIO:
    """The file that a cell holds in base64.

    Args:
        parameters: "offset", the byte at which the row begins, and "column", from 0.
        path: of the TSV.

    Raises:
        TableError: no such row, or no base64 in the cell.
    """
    offset, column = int(parameters["offset"]), int(parameters["column"])
    try:
        with path.open("rb") as file:
            file.seek(offset)
            cells = _next_row(csv.reader(_Lines(file), delimiter="\t")) or []
        return io.BytesIO(base64.b64decode(cells[column], validate=True))
    except _READ_ERRORS as error:
        raise TableError(
            f"{path}, row at byte {offset}: expected a picture in base64 in column {column}, found"
            f" {type(error).__name__}: {error}. Fetch the file again."
        ) from error


def read_parquet(path: Path, columns: "List[str]") -> Iterator[Tuple[int, Dict[str, Any]]]:
    """The rows of a parquet file with their numbers, of some columns only.

    Raises:
        TableError: not a parquet file, or one without such a column.
        ImportError: pyarrow is not installed.
    """
    parquet = _pyarrow_parquet()
    try:
        with parquet.ParquetFile(path) as table:
            number = 0
            for batch in table.iter_batches(batch_size=256, columns=columns):
                missing = sorted(set(columns) - set(batch.schema.names))
                if missing:
                    raise TableError(
                        f"{path}: expected the columns {', '.join(columns)}, found none named"
                        f" {', '.join(missing)}. Pass the file of lmms-lab."
                    )
                for row in batch.to_pylist():
                    yield number, row
                    number += 1
    except OSError as error:
        raise TableError(
            f"{path}: expected a parquet file, found {error}. Fetch it again."
        ) from error
    except ValueError as error:
        if isinstance(error, TableError):
            raise
        raise TableError(
            f"{path}: expected a parquet file, found {error}. Fetch it again."
        ) from error


def picture_in_parquet(parameters: Mapping[str, Any], path: Path) -> io.BytesIO:
    """The file that a cell of Hugging Face's image type holds; of a list, the middle one.

    Args:
        parameters: "row", from 0, and "column", by name.
        path: of the parquet file.

    Raises:
        TableError: no such row, or no bytes in the cell.
        ImportError: pyarrow is not installed.
    """
    row, column = int(parameters["row"]), str(parameters["column"])
    parquet = _pyarrow_parquet()
    try:
        with parquet.ParquetFile(path) as table:
            before = 0
            for group in range(table.num_row_groups):
                size = table.metadata.row_group(group).num_rows
                if row < before + size:
                    cell = table.read_row_group(group, columns=[column])[column][row - before]
                    found = cell.as_py()
                    if isinstance(found, list):
                        found = found[len(found) // 2]
                    return io.BytesIO(found["bytes"])
                before += size
        raise IndexError(f"{before} rows")
    except (*_READ_ERRORS, KeyError, TypeError) as error:
        raise TableError(
            f"{path}, row {row}: expected a picture in column {column!r}, found"
            f" {type(error).__name__}: {error}. Fetch the file again."
        ) from error


class _Lines:
    """The lines of a binary file as text, and how far they were read.

    Args:
        file: at the beginning of a line.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.position = file.tell()

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self._file.readline()
        if not line:
            raise StopIteration
        self.position += len(line)
        return line.decode("utf-8")


def _next_row(reader: "Iterator[List[str]]") -> Optional[List[str]]:
    with _large_cells():
        return next(reader, None)


@contextlib.contextmanager
def _large_cells() -> Iterator[None]:
    # The limit is the process's: it is raised for one row, and set back.
    before = csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    try:
        yield
    finally:
        csv.field_size_limit(before)


@functools.cache
def _pyarrow_parquet() -> Any:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise ImportError(
            "Parquet: expected the package pyarrow, found none. Run: pip install"
            ' "regap-plugin[tables]".'
        ) from error
    return parquet
