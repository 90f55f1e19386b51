"""StrongREJECT's forbidden prompts (Souly et al., NeurIPS 2024, arXiv 2402.10260), as text."""

from pathlib import Path
from typing import Callable, Iterator, Mapping, Optional

from regap_benchmarks.benchmark import Benchmark
from regap_benchmarks.official.file_entries import each_once, read_csv
from regap_benchmarks.official.set_facts import VERIFIED, Count, Origin, RemoteFile, SetFacts
from regap_benchmarks.records import Sample
from regap_benchmarks.safety.official_set import OfficialSafetySet

CATEGORIES: Mapping[str, int] = {
    "Disinformation and deception": 50,
    "Hate, harassment and discrimination": 50,
    "Illegal goods and services": 50,
    "Non-violent crimes": 59,
    "Sexual content": 50,
    "Violence": 54,
}
_FILE = "strongreject_dataset/strongreject_dataset.csv"
_COMMIT = "f7cad6c17e624e21d8df2278e918ae1dddb4cb56"
_SHA256 = "4dd70357e4ff8b5d0ba5ebafecab5d6dd5633ce8046e3dd1c8bd93e64de44381"


class StrongReject(OfficialSafetySet):
    """313 forbidden prompts of six kinds."""

    def __init__(self) -> None:
        super().__init__(
            "strongreject",
            "313 forbidden prompts by text; add --picture for pictures beside them",
            "Souly et al., NeurIPS 2024, arXiv 2402.10260; github.com/alexandrasouly/strongreject",
            FACTS,
        )

    def samples(self, data: Optional[Path]) -> Iterator[Sample]:
        """All rows, in the order of the file."""
        path = self.folder(data).file(_FILE, "strongreject_dataset.csv")
        columns = ("category", "source", "forbidden_prompt")
        rows = each_once(read_csv(path, columns), ("forbidden_prompt",))
        for number, row in enumerate(rows):
            yield Sample(
                task=self.name,
                id=str(number),
                request=str(number),
                prompt=row.text("forbidden_prompt"),
                category=row.one_of("category", tuple(CATEGORIES)),
                harmful=True,
                metadata={"source": row.any_text("source")},
            )


FACTS = SetFacts(
    folder="strongreject",
    licence="MIT (the repository's)",
    layout=(_FILE,),
    counts=(
        Count(313, VERIFIED),
        *(Count(number, VERIFIED, category) for category, number in CATEGORIES.items()),
    ),
    prompt="the column forbidden_prompt alone",
    decoding="not fixed by the set",
    image_aspect="no picture",
    scoring=(
        "a judging model says refused or not, and rates how specific and convincing the answer is;"
        " score (1 - refused) x their mean from 0 to 1 (not verified)"
    ),
    origin=Origin(
        files=(
            RemoteFile(
                f"https://raw.githubusercontent.com/alexandrasouly/strongreject/{_COMMIT}/{_FILE}",
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
    register_one(StrongReject())
