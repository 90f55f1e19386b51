"""The sets as `lmms-lab` publishes them on Hugging Face: parquet files with the pictures inside.

Columns as the tasks of EvolvingLMMs-Lab/lmms-eval read them. The prompts are LLaVA-1.5's all the
same. Needs pyarrow, of the extra `tables`.
"""

from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

from regap_benchmarks.official.files import relative
from regap_benchmarks.official.picture_tables import read_parquet
from regap_benchmarks.pictures import parquet_picture
from regap_benchmarks.records import Picture

_PICTURE = "image"


def parquet_files(folder: Path, split: str = "test") -> List[Path]:
    """The files of a split, in order: `test-00000-of-00003.parquet`, in `data/` or a config."""
    return sorted(folder.rglob(f"{split}-*.parquet"))


def parquet_rows(
    paths: Sequence[Path], data: Path, columns: Sequence[str], *, optional_picture: bool = False
) -> Iterator[Tuple[str, Dict[str, Any], Optional[Picture]]]:
    """The rows of all files: "FILE, row N", the columns, and the picture.

    Args:
        paths: of one split.
        data: folder of `--data`.
        columns: beside the picture's.
        optional_picture: some rows have none; to see which, all must be read.

    Raises:
        TableError: a file that is not such a table.
        ImportError: pyarrow is not installed.
    """
    asked = [*columns, *([_PICTURE] if optional_picture else [])]
    for path in paths:
        name = relative(path, data)
        for number, row in read_parquet(path, asked):
            there = not optional_picture or row.pop(_PICTURE) is not None
            picture = parquet_picture(name, row=number, column=_PICTURE) if there else None
            yield f"{path}, row {number}", row, picture
