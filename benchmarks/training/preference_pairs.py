"""Preference pairs about pictures, in SPA-VL's columns, as a data set that TRL takes.

SPA-VL (Zhang et al., arXiv 2406.12030), sqrti/SPA-VL on the hub: `question`, `chosen`, `rejected`
and `image`. The names of the columns are from third parties.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Sequence

if TYPE_CHECKING:
    from datasets import Dataset

COLUMNS = ("question", "chosen", "rejected", "image")


def read_preference_pairs(paths: Sequence[Path], *, images: "Path | None" = None) -> "Dataset":
    """Pairs of parquet files with the pictures inside, or of JSON lines with paths of pictures.

    Pictures stay in their files until a batch wants them.

    Args:
        paths: of one format.
        images: folder of the pictures that JSON lines name.

    Returns:
        columns `image`, `prompt`, `chosen` and `rejected`, the texts as conversations of one turn.

    Raises:
        ValueError: another format, a column or a text is missing, an answer that equals the other.
        FileNotFoundError: a file or a picture is missing.
    """
    from datasets import Image, load_dataset

    for path in paths:
        if not path.is_file():
            raise FileNotFoundError(f"{path}: expected a file of preference pairs, found none.")
    kinds = {path.suffix for path in paths}
    if kinds not in ({".parquet"}, {".jsonl"}):
        raise ValueError(
            f"--pairs: expected .parquet or .jsonl files, found {sorted(kinds)}. Pass files of one"
            " of the two."
        )
    (kind,) = kinds
    name = "parquet" if kind == ".parquet" else "json"
    rows = load_dataset(name, data_files=[str(path) for path in paths], split="train")
    missing = [column for column in COLUMNS if column not in rows.column_names]
    if missing:
        raise ValueError(
            f"{paths[0]}: expected the columns {', '.join(COLUMNS)}, found no"
            f" {', '.join(missing)}. Name them so."
        )
    for number, row in enumerate(rows.select_columns(list(COLUMNS[:3]))):
        _check(row, f"{paths[0].name}, pair {number}")
    if kind == ".jsonl":
        root = images or paths[0].parent
        for number, name in enumerate(rows["image"]):
            if not (root / str(name)).is_file():
                raise FileNotFoundError(
                    f"{paths[0].name}, pair {number}: expected the picture {root / str(name)},"
                    " found none. Pass --images."
                )
        rows = rows.map(lambda row: {"image": str(root / row["image"])})
    kept = [column for column in rows.column_names if column not in ("image", "chosen", "rejected")]
    return rows.map(_conversation, remove_columns=kept).cast_column("image", Image())


def _conversation(row: Dict[str, Any]) -> Dict[str, Any]:
    return {
        "prompt": [{"role": "user", "content": row["question"]}],
        "chosen": [{"role": "assistant", "content": row["chosen"]}],
        "rejected": [{"role": "assistant", "content": row["rejected"]}],
    }


def _check(row: Dict[str, Any], where: str) -> None:
    for column in COLUMNS[:3]:
        if not isinstance(row[column], str) or not row[column].strip():
            raise ValueError(f"{where}: expected a text in {column!r}, found none. Leave it out.")
    if row["chosen"] == row["rejected"]:
        raise ValueError(
            f"{where}: expected two different answers, found one twice: it says nothing. Leave it"
            " out."
        )
