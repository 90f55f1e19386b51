"""What every benchmark does: official files in, samples out, and a scorer where it has one."""

import abc
from pathlib import Path
from typing import TYPE_CHECKING, Iterable, Mapping, Optional, Sequence

from regap_benchmarks.official.stored_answers import (
    REFUSED,
    StoredAnswers,
    as_official,
    read_llava_answers,
)

if TYPE_CHECKING:
    from regap_benchmarks.judges.judge import Judge
    from regap_benchmarks.official.set_facts import SetFacts
    from regap_benchmarks.records import Json, Judgement, Response, RunHeader, Sample


class Benchmark(abc.ABC):
    """A set of questions.

    Attributes:
        name: as in `--tasks NAME`, lower case with underscores.
        version: raised when samples, prompts or scoring change.
        summary: one line for `regap-bench tasks`.
        kind: "safety" (judged by `--judge`) or "utility" (scored by its own rules).
        needs: the files that `--data` must hold, as a user would say it; "nothing" if built in.
        source: paper, repository, licence.
        answered_twice: what upstream's scorer does with a question that a file answers twice:
            `stored_answers.LAST` or `REFUSED`.
        ignores_unknown: whether it passes over answers to questions that were not asked.
        submits_gaps: whether its server takes a file in which some answers are missing.
        facts: what is known of an official set; None for one that needs no files or says no more.
    """

    name: str
    version: int
    summary: str
    kind: str
    needs: str
    source: str
    answered_twice: str = REFUSED
    ignores_unknown: bool = False
    submits_gaps: bool = False
    facts: Optional["SetFacts"] = None

    @abc.abstractmethod
    def samples(self, data: Optional[Path]) -> Iterable["Sample"]:
        """All samples in the official order, each with its own picture (condition "own") or none.

        Args:
            data: folder of the official files; None where `--data` was not given.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: a file is not as expected; names file and line.
        """

    def scorer(self) -> Optional["Judge"]:
        """What scores the answers; None for a set that `--judge` judges."""
        return None

    def stored_answers(self, path: Path, data: Optional[Path]) -> StoredAnswers:
        """Read a file that upstream's own scripts wrote, for `regap-bench score --format llava`.

        This reads LLaVA's answer lines, whose `question_id` is a sample's id; a set with other
        files has its own.

        Args:
            path: the file of answers, or the folder where upstream writes one.
            data: folder of the official files.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: a file is not as expected.
        """
        return StoredAnswers(as_official(tuple(self.samples(data))), read_llava_answers(path))

    def official(
        self, header: "RunHeader", judgements: "Sequence[Judgement]"
    ) -> "Mapping[str, Json]":
        """The numbers that upstream's scorer prints, with its names, units and rounding.

        None stands for what it divides by zero for. Empty for a set without a published scorer.

        Args:
            header: says what was asked.
            judgements: of `scorer()`, of one picture condition.
        """
        return {}

    def write_submission(
        self, responses: "Sequence[Response]", path: Path, data: Optional[Path] = None
    ) -> None:
        """Write the file that the set's evaluation server takes.

        Args:
            responses: of one picture condition.
            path: the file.
            data: folder of the official files, where a server wants answers to questions that the
                run did not ask.

        Raises:
            ValueError: the set has no server, or the server would refuse the file: answers are
                missing or ended in an error.
        """
        raise ValueError(
            f"Task {self.name!r}: expected a set that a server scores, found one that is scored"
            " here. Leave out --submission."
        )
