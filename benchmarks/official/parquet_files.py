"""Parquet files of the Hugging Face hub: texts by row, and pictures one at a time.

pyarrow is imported when the first file is read; pictures stay in the file until one is asked for.
"""

import functools
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any, Iterator, List, Mapping, Sequence, Tuple

from regap_benchmarks.official.file_entries import AGAIN, Entry, OfficialFileError, SetFolder
from regap_benchmarks.records import Json, Picture

if TYPE_CHECKING:
    from PIL.Image import Image

KIND = "parquet"
_COLUMN = "image"


def read_parquet(path: Path, columns: Sequence[str], *, needed: Sequence[str]) -> Iterator[Entry]:
    """The rows of a file, from 0, without its pictures.

    Args:
        path: of the file.
        columns: that are read.
        needed: that must be there, read or not.

    Raises:
        OfficialFileError: no parquet file, a missing column.
        ModuleNotFoundError: pyarrow is not installed.
    """
    number = 0
    table = _open(path)
    names = table.schema_arrow.names
    missing = [column for column in (*columns, *needed) if column not in names]
    if missing:
        raise OfficialFileError(
            f"{path}: expected the columns {', '.join((*columns, *needed))}, found"
            f" {', '.join(names)} without {', '.join(missing)}. {AGAIN}"
        )
    for batch in table.iter_batches(columns=list(columns)):
        for values in batch.to_pylist():
            yield Entry(path, f"row {number}", values)
            number += 1


def parquet_picture(folder: SetFolder, path: Path, row: int) -> Picture:
    """The picture in a row, counted from 0."""
    return Picture(KIND, {"path": folder.relative(path), "row": row, "column": _COLUMN})


def open_picture(parameters: Mapping[str, Json], data: Path) -> "Image":
    """Read the picture of a recipe.

    Raises:
        OfficialFileError: no such row, or no picture in it.
    """
    from PIL import Image

    path, row = data / str(parameters["path"]), parameters["row"]
    if not isinstance(row, int):
        raise TypeError(f"expected an integer, found {row!r}")
    column = str(parameters["column"])
    for group, (first, last) in enumerate(_groups(path)):
        if first <= row < last:
            value = _pictures(path, group, column)[row - first]
            raw = value.get("bytes") if isinstance(value, dict) else None
            if not isinstance(raw, bytes):
                raise OfficialFileError(
                    f"{path}, row {row}: expected a picture in {column!r}, found none. {AGAIN}"
                )
            with Image.open(io.BytesIO(raw)) as image:
                return image.convert("RGB")
    raise OfficialFileError(f"{path}: expected a row {row}, found fewer. {AGAIN}")


def _open(path: Path) -> Any:
    try:
        from pyarrow import ArrowInvalid
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise ModuleNotFoundError(
            f"{path}: expected pyarrow to read it, found none. Run: pip install pyarrow."
        ) from error
    try:
        return ParquetFile(path)
    except (ArrowInvalid, OSError) as error:
        raise OfficialFileError(
            f"{path}: expected a parquet file, found another or a cut one. {AGAIN}"
        ) from error


@functools.lru_cache(maxsize=64)
def _groups(path: Path) -> List[Tuple[int, int]]:
    """First row and the one after the last, of each group of rows."""
    with _open(path) as table:
        ends = [0]
        for group in range(table.num_row_groups):
            ends.append(ends[-1] + table.metadata.row_group(group).num_rows)
    return list(zip(ends, ends[1:]))


# Neighbouring rows are asked for one after the other; a group is all that is held.
@functools.lru_cache(maxsize=1)
def _pictures(path: Path, group: int, column: str) -> List[Any]:
    with _open(path) as table:
        rows: List[Any] = table.read_row_group(group, columns=[column]).column(0).to_pylist()
    return rows
