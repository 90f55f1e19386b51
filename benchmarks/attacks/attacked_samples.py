"""Asking a run's samples with the pictures of an attack, beside those that they had."""

import dataclasses
import hashlib
from pathlib import Path
from typing import Dict, List, Mapping, Tuple

from regap_benchmarks.attacks.attack_run import RECORDS
from regap_benchmarks.judges.judge_question import question_of_the_whole
from regap_benchmarks.records import (
    AttackedPicture,
    Json,
    Picture,
    RunHeader,
    Sample,
    read_run,
)

SUFFIX = "-attacked"


class AttackedPictures:
    """The pictures of an attack, by sample.

    Args:
        folder: that `regap-bench attack` wrote.

    Raises:
        FileNotFoundError: no records, or a picture that is missing.
        RecordError: the records are damaged.
        ValueError: an attack that is not finished, or a picture that is another one now.
    """

    def __init__(self, folder: Path) -> None:
        self.header, records = _read(folder)
        self._records: Dict[Tuple[str, str], AttackedPicture] = {
            record.key: record for record in records
        }
        self._folder = folder.resolve()
        if len(records) < self.header.samples:
            raise ValueError(
                f"{folder}: expected a finished attack on {self.header.samples} pictures, found"
                f" {len(records)}. Repeat its command: it goes on."
            )
        for record in records:
            found = hashlib.sha256((folder / record.picture).read_bytes()).hexdigest()
            if found != record.picture_sha256:
                raise ValueError(
                    f"{folder / record.picture}: expected the picture that the attack wrote, found"
                    " another one. Restore it, or attack again into another folder."
                )

    def describe(self) -> Mapping[str, Json]:
        """For the header of a run: the attack's settings, the attacked model among them."""
        return {**self.header.settings, "samples_sha256": self.header.samples_sha256}

    def attacked(self, sample: Sample, single: Sample) -> Sample:
        """The sample with its attacked picture; its id and condition say so.

        Args:
            sample: in any form of conversation.
            single: the same in one turn, as the attack asked it.

        Raises:
            ValueError: the attack has no picture for it.
        """
        if single.key not in self._records:
            raise ValueError(
                f"Sample {single.id!r} of {single.task!r}: expected a picture of it in"
                f" {self._folder}, found none. Pass the attack's own --tasks, --picture and"
                " --limit."
            )
        record = self._records[single.key]
        picture = Picture(
            "file",
            {"path": str(self._folder / record.picture), "sha256": record.picture_sha256},
        )
        return dataclasses.replace(
            sample,
            id=f"{sample.id}{SUFFIX}",
            condition=f"{sample.condition}{SUFFIX}",
            pictures=(picture,),
            judged_prompt=question_of_the_whole(sample),
        )


def _read(folder: Path) -> Tuple[RunHeader, List[AttackedPicture]]:
    path = folder / RECORDS
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: expected the records of an attack, found none. Pass the folder that"
            " regap-bench attack wrote."
        )
    return read_run(path, AttackedPicture)
