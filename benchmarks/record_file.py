"""Files of records that last: a header, then line by line, continued after a kill.

A kill can cut the last line only; that line is dropped when the file is continued.
"""

import contextlib
import errno
import os
from pathlib import Path
from types import TracebackType
from typing import Dict, Generic, List, Mapping, Optional, Sequence, Tuple, Type, TypeVar

from regap_benchmarks.records import (
    AttackedPicture,
    Json,
    Judgement,
    LayerGap,
    Response,
    RunHeader,
    read_run,
    record_key,
    to_line,
)

R = TypeVar("R", Response, Judgement, LayerGap, AttackedPicture)


class RecordFileError(RuntimeError):
    """A file that cannot be continued or written."""


class RecordFile(Generic[R]):
    """A file of `kind`, open for appending. A context manager.

    Attributes:
        path: the file.
        header: as it is in the file.
        records: what it held when it was opened.

    Args:
        path: made with its folder if it is missing.
        kind: `Response`, `Judgement`, `LayerGap` or `AttackedPicture`.
        header: of this run. A file that is there must have been begun with equal settings,
            samples, shard and judge.

    Raises:
        RecordFileError: the file is another run's, or another process is writing it.
        RecordError: the file is damaged elsewhere than in its last line.
    """

    def __init__(self, path: Path, kind: Type[R], header: RunHeader) -> None:
        self.path = path
        self._kind: Type[R] = kind
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab", buffering=0)
        try:
            _lock(self._file.fileno(), path)
            self.records: List[R] = self._continue(header)
        except BaseException:
            self._file.close()
            raise

    def _continue(self, header: RunHeader) -> List[R]:
        self._drop_cut_line()
        if self.path.stat().st_size == 0:
            self._write(to_line(header))
            self.header = header
            return []
        found, records = read_run(self.path, self._kind)
        differences = header_differences(found, header)
        if differences:
            raise RecordFileError(
                f"{self.path}: expected a file of the same run, found other settings:"
                f" {'; '.join(differences)}. Repeat the command with the settings of the file, or"
                " choose another --output."
            )
        self.header = found
        return records

    def _drop_cut_line(self) -> None:
        content = self.path.read_bytes()
        if content and not content.endswith(b"\n"):
            self._file.truncate(content.rfind(b"\n") + 1)

    def append(self, records: Sequence[R]) -> None:
        """Write records and see them on the disk before returning.

        Raises:
            RecordFileError: the disk is full or gone. What was written before stays.
        """
        if records:
            self._write("\n".join(to_line(record) for record in records))

    def _write(self, lines: str) -> None:
        descriptor = self._file.fileno()
        start = os.fstat(descriptor).st_size
        left = memoryview(lines.encode("utf-8") + b"\n")
        try:
            while left:
                left = left[os.write(descriptor, left) :]
            os.fsync(descriptor)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, start)
            raise RecordFileError(
                f"{self.path}: expected to write a line, found {error.strerror}. Make room and"
                " repeat the command: it goes on after the last whole line."
            ) from error

    def close(self) -> None:
        """Close the file and let others write it."""
        self._file.close()

    def __enter__(self) -> "RecordFile[R]":
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self.close()


def header_differences(found: RunHeader, expected: RunHeader) -> List[str]:
    """How two headers differ in what decides the records: one phrase for each setting."""
    differences = _differing(found.settings, expected.settings, "")
    differences += _differing(found.judge or {}, expected.judge or {}, "judge.")
    if found.samples_sha256 != expected.samples_sha256:
        differences.append(f"{found.samples} other samples instead of {expected.samples}")
    elif found.cells != expected.cells:
        differences.append("other tasks")
    if found.shard != expected.shard:
        differences.append(f"shard {found.shard} instead of {expected.shard}")
    return differences


def _differing(found: Mapping[str, Json], expected: Mapping[str, Json], prefix: str) -> List[str]:
    differences = []
    for key in sorted(set(found) | set(expected)):
        old, new = found.get(key), expected.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            differences += _differing(old, new, f"{prefix}{key}.")
        elif _normal(old) != _normal(new):
            differences.append(f"{prefix}{key} {old!r} instead of {new!r}")
    return differences


def _normal(value: object) -> object:
    return [_normal(item) for item in value] if isinstance(value, (list, tuple)) else value


def replace_records(path: Path, header: RunHeader, records: Sequence[R]) -> None:
    """Write a whole file beside `path` and put it in its place, so that it is never half there.

    Raises:
        RecordFileError: it cannot be written; a file that was there stays as it was.
    """
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        with new.open("w", encoding="utf-8") as lines:
            lines.write(to_line(header) + "\n")
            for record in records:
                lines.write(to_line(record) + "\n")
            lines.flush()
            os.fsync(lines.fileno())
        os.replace(new, path)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise RecordFileError(
            f"{path}: expected to write the file, found {error.strerror}. Make room and repeat the"
            " command."
        ) from error


def merge_shards(paths: Sequence[Path], output: Path, order: Sequence[Tuple[str, str]]) -> int:
    """Merge the finished shards of one run into one file, in the order of the samples.

    Args:
        paths: all shards.
        output: the file to write; it is replaced.
        order: (task, id) of every sample of the run.

    Returns:
        the number of records.

    Raises:
        RecordFileError: shards of different runs, a shard that is missing or there twice, a sample
            in none or in two, a sample that is not the run's.
        RecordError: a damaged file.
    """
    header: Optional[RunHeader] = None
    shards: Dict[int, Path] = {}
    records: Dict[Tuple[str, str], Response] = {}
    for path in paths:
        found, part = read_run(path, Response)
        number, count = found.shard
        if number in shards:
            raise RecordFileError(
                f"{path}: expected each shard once, found number {number} in {shards[number]} as"
                " well. Keep one of them."
            )
        shards[number] = path
        whole = RunHeader(found.settings, found.cells, found.samples_sha256, found.environment)
        differences = header_differences(whole, header or whole)
        if count != len(paths) or differences:
            said = "; ".join(differences) or f"a shard of {count} among {len(paths)} files"
            raise RecordFileError(
                f"{path}: expected the shards of one run, found {said}. Merge the shards of one"
                " command only."
            )
        header = header or whole
        for record in part:
            key = record_key(record)
            if key in records:
                raise RecordFileError(
                    f"{path}: expected each sample in one shard, found {key[1]!r} of {key[0]!r} in"
                    " another as well. Generate the shards again with one number of processes."
                )
            records[key] = record
    missing = [key for key in order if key not in records]
    unknown = set(records).difference(order)
    if header is None or missing or unknown:
        example = missing[0] if missing else next(iter(unknown), None)
        raise RecordFileError(
            f"{output}: expected {len(order)} samples in {len(paths)} shards, found"
            f" {len(missing)} missing and {len(unknown)} unknown, such as {example}. Run the same"
            " command again until every shard is complete."
        )
    replace_records(output, header, [records[key] for key in order])
    return len(records)


def _lock(descriptor: int, path: Path) -> None:
    try:
        import fcntl
    except ImportError:  # Windows: two writers are found when the file is read
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            return  # a file system without locks
        raise RecordFileError(
            f"{path}: expected to be its only writer, found another process that writes it. Wait"
            " for it, or choose another --output."
        ) from error
