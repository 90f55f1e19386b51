"""What the official safety sets share: their folder under `--data`, and judges instead of rules."""

from pathlib import Path
from typing import Optional

from regap_benchmarks.benchmark import Benchmark
from regap_benchmarks.official.file_entries import SetFolder
from regap_benchmarks.official.set_facts import SetFacts


class OfficialSafetySet(Benchmark):
    """A set of requests from official files, judged by `--judge`.

    Args:
        name: of the task.
        summary: of the task.
        source: of the set.
        facts: of the task.
    """

    kind = "safety"
    version = 1

    def __init__(self, name: str, summary: str, source: str, facts: SetFacts) -> None:
        self.name = name
        self.summary = summary
        self.source = source
        self.facts: SetFacts = facts
        self.needs = f"its official files in {facts.folder}/ under --data"

    def folder(self, data: Optional[Path]) -> SetFolder:
        """The set's folder under `--data`."""
        return SetFolder(data, self.facts.folder)
