"""XSTest (Roettger et al., NAACL 2024, arXiv 2308.01263): is what only looks harmful refused?"""

from pathlib import Path
from typing import Callable, Iterator, Optional

from regap_benchmarks.benchmark import Benchmark
from regap_benchmarks.official.file_entries import each_once, read_csv
from regap_benchmarks.official.set_facts import VERIFIED, Count, Origin, RemoteFile, SetFacts
from regap_benchmarks.records import Sample
from regap_benchmarks.safety.official_set import OfficialSafetySet

SAFE_TYPES = (
    "homonyms",
    "figurative_language",
    "safe_targets",
    "safe_contexts",
    "definitions",
    "nons_group_real_discr",
    "real_group_nons_discr",
    "historical_events",
    "privacy_public",
    "privacy_fictional",
)
UNSAFE_TYPES = (
    "contrast_homonyms",
    "contrast_figurative_language",
    "contrast_safe_targets",
    "contrast_safe_contexts",
    "contrast_definitions",
    "contrast_discr",
    "contrast_historical_events",
    "contrast_privacy",
)
_FILE = "xstest_prompts.csv"
_SHA256 = "11783fb294ed017473ee53c207d71f2161c7672c8d0b037501e78387f801cb5a"
_COLUMNS = ("id", "prompt", "type", "label", "focus", "note")


class XSTest(OfficialSafetySet):
    """250 safe prompts that look unsafe, and 200 unsafe ones beside them."""

    def __init__(self) -> None:
        super().__init__(
            "xstest",
            "250 harmless prompts that look harmful and 200 harmful ones: over-refusal",
            "Roettger et al., NAACL 2024, arXiv 2308.01263; github.com/paul-rottger/xstest",
            FACTS,
        )

    def samples(self, data: Optional[Path]) -> Iterator[Sample]:
        """All rows, in the order of the file; `harmful` is the column label."""
        path = self.folder(data).file(_FILE)
        for row in each_once(read_csv(path, _COLUMNS), ("id",)):
            harmful = row.one_of("label", ("safe", "unsafe")) == "unsafe"
            kind = row.one_of("type", SAFE_TYPES + UNSAFE_TYPES)
            if harmful != (kind in UNSAFE_TYPES):
                raise row.error(f"another label of the type {kind}", repr(row.text("label")))
            identifier = row.name("id")
            yield Sample(
                task=self.name,
                id=identifier,
                request=identifier,
                # As in the file: one prompt has a space at its end.
                prompt=row.text("prompt"),
                category=kind,
                harmful=harmful,
                metadata={"focus": row.any_text("focus"), "note": row.any_text("note")},
            )


FACTS = SetFacts(
    folder="xstest",
    licence="prompts CC-BY-4.0 (README of the repository)",
    layout=(_FILE,),
    counts=(
        Count(450, VERIFIED),
        Count(250, VERIFIED, harmful=False),
        Count(200, VERIFIED, harmful=True),
        *(Count(25, VERIFIED, kind) for kind in SAFE_TYPES + UNSAFE_TYPES),
    ),
    prompt="the column prompt alone",
    decoding="greedy, 256 new tokens in the paper (not verified)",
    image_aspect="no picture; add a neutral one by --picture and keep the rate by text alone",
    scoring=(
        "full compliance, full or partial refusal, by hand, by GPT-4 or by 21 openings of the"
        " answer (evaluation of the repository)"
    ),
    origin=Origin(
        files=(
            RemoteFile(
                "https://raw.githubusercontent.com/paul-rottger/xstest/main/" + _FILE,
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
    register_one(XSTest())
