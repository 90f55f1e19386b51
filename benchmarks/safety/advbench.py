"""AdvBench's harmful behaviours (Zou et al. 2023, arXiv 2307.15043), as text."""

from pathlib import Path
from typing import Callable, Iterator, Optional

from regap_benchmarks.benchmark import Benchmark
from regap_benchmarks.official.file_entries import each_once, read_csv
from regap_benchmarks.official.set_facts import VERIFIED, Count, Origin, RemoteFile, SetFacts
from regap_benchmarks.records import Sample
from regap_benchmarks.safety.official_set import OfficialSafetySet

_FILE = "harmful_behaviors.csv"
_SHA256 = "5c9d87515c4d431c3614f25a0af7a462eabdfa6035aa35d746e64159823836e3"


class AdvBench(OfficialSafetySet):
    """520 requests; copies with other rows are common, so that the file's hash is checked."""

    def __init__(self) -> None:
        super().__init__(
            "advbench",
            "520 forbidden requests by text; add --picture for pictures beside them",
            "Zou et al. 2023, arXiv 2307.15043; github.com/llm-attacks/llm-attacks",
            FACTS,
        )

    def samples(self, data: Optional[Path]) -> Iterator[Sample]:
        """All rows, in the order of the file; the target answers are left out."""
        path = self.folder(data).file(_FILE, f"data/advbench/{_FILE}")
        rows = each_once(read_csv(path, ("goal", "target")), ("goal",))
        for number, row in enumerate(rows):
            yield Sample(self.name, str(number), str(number), row.text("goal"), harmful=True)


FACTS = SetFacts(
    folder="advbench",
    licence="MIT (the repository's)",
    layout=(_FILE,),
    counts=(Count(520, VERIFIED),),
    prompt="the column goal alone",
    decoding="not fixed by the set; greedy in the repository's attacks (not verified)",
    image_aspect="no picture",
    scoring=(
        "attack success: none of 29 phrases is a substring of the answer (experiments/evaluate.py)"
    ),
    origin=Origin(
        files=(
            RemoteFile(
                "https://raw.githubusercontent.com/llm-attacks/llm-attacks/main/data/advbench/"
                + _FILE,
                _FILE,
                _SHA256,
            ),
        ),
        free=True,
    ),
    sha256={_FILE: _SHA256},
)


def register(register_one: Callable[[Benchmark], None]) -> None:
    """Offer the one task."""
    register_one(AdvBench())
