"""HarmBench (Mazeika et al., ICML 2024, arXiv 2402.04249): behaviours by text and with pictures."""

from pathlib import Path
from typing import Callable, Iterator, Mapping, Optional

from regap_benchmarks.benchmark import Benchmark
from regap_benchmarks.official.file_entries import Entry, SetFolder, each_once, read_csv
from regap_benchmarks.official.set_facts import VERIFIED, Count, Origin, RemoteFile, SetFacts
from regap_benchmarks.records import Json, Picture, Sample
from regap_benchmarks.safety.official_set import OfficialSafetySet

KINDS = ("standard", "contextual", "copyright")
MULTIMODAL = "multimodal"
_TEXT_COLUMNS = (
    "Behavior",
    "FunctionalCategory",
    "SemanticCategory",
    "Tags",
    "ContextString",
    "BehaviorID",
)
_PICTURE_COLUMNS = (
    "Behavior",
    "BehaviorID",
    "FunctionalCategory",
    "SemanticCategory",
    "ImageFileName",
    "RedactedImageDescription",
)
_RAW = "https://raw.githubusercontent.com/centerforaisafety/HarmBench/main/"
_TABLES = "data/behavior_datasets"
_IMAGES = "data/multimodal_behavior_images"
_PICTURES = RemoteFile(
    "https://codeload.github.com/centerforaisafety/HarmBench/zip/refs/heads/main",
    "",
    members=(_IMAGES + "/",),
    strip=1,
)


class HarmBench(OfficialSafetySet):
    """The behaviours of one table, or those of one kind.

    Args:
        name: of the task.
        table: the ending of the file's name.
        counts: published.
        kind: of `KINDS`; None for all.
    """

    def __init__(
        self, name: str, table: str, counts: Mapping[str, int], kind: Optional[str] = None
    ) -> None:
        number = sum(counts.values())
        self._file = f"harmbench_behaviors_{table}.csv"
        self._kind = kind
        shown = "with pictures" if table.startswith(MULTIMODAL) else "by text"
        super().__init__(
            name,
            f"{number} behaviours {shown}: {', '.join(counts)}",
            "Mazeika et al., ICML 2024, arXiv 2402.04249; github.com/centerforaisafety/HarmBench",
            _facts(self._file, counts),
        )

    def samples(self, data: Optional[Path]) -> Iterator[Sample]:
        """The rows in the order of the file."""
        folder = self.folder(data)
        path = folder.file(f"{_TABLES}/{self._file}", self._file)
        pictured = self._file.startswith(f"harmbench_behaviors_{MULTIMODAL}")
        columns = _PICTURE_COLUMNS if pictured else _TEXT_COLUMNS
        kinds = (MULTIMODAL,) if pictured else KINDS
        for row in each_once(read_csv(path, columns), ("BehaviorID",)):
            kind = row.one_of("FunctionalCategory", kinds)
            if self._kind not in (None, kind):
                continue
            behaviour, context = row.text("Behavior"), row.any_text("ContextString")
            identifier = row.name("BehaviorID")
            yield Sample(
                task=self.name,
                id=identifier,
                request=identifier,
                prompt=f"{context}\n\n---\n\n{behaviour}" if context else behaviour,
                pictures=(_picture(folder, row),) if pictured else (),
                category=kind,
                harmful=True,
                judged_prompt=behaviour if context or pictured else None,
                metadata=_metadata(row, context),
            )


def _picture(folder: SetFolder, row: Entry) -> Picture:
    """All pictures are PNG, whatever ending the table names."""
    root = folder.optional(_IMAGES, "multimodal_behavior_images") or folder.root / _IMAGES
    named = root / row.text("ImageFileName")
    return folder.picture(named if named.is_file() else named.with_suffix(".png"))


def _metadata(row: Entry, context: str) -> Mapping[str, Json]:
    """What the official classifiers are shown beside behaviour and answer."""
    shown = {"semantic_category": row.any_text("SemanticCategory"), "tags": row.any_text("Tags")}
    if context:
        shown["context"] = context
    description = row.any_text("RedactedImageDescription")
    if description:
        shown["image_description"] = description
    return shown


def _facts(file: str, counts: Mapping[str, int]) -> SetFacts:
    pictured = MULTIMODAL in file
    layout = (f"{_TABLES}/{file}", *((f"{_IMAGES}/{{ImageFileName}}",) if pictured else ()))
    return SetFacts(
        folder="harmbench",
        licence="MIT (the repository's)",
        layout=layout,
        counts=(
            Count(sum(counts.values()), VERIFIED),
            *(Count(number, VERIFIED, kind) for kind, number in counts.items()),
        ),
        prompt=(
            "the column Behavior; of contextual behaviours the context, a line '---' and the"
            " behaviour, empty lines between (from third parties)"
        ),
        judged="the column Behavior; context and image description are in the metadata",
        decoding="greedy, 512 new tokens (not verified)",
        image_aspect="of the model's own processor" if pictured else "no picture",
        scoring=(
            "the set's classifier answers yes or no to behaviour, context and answer; copyright by"
            " hashes of the text (not verified)"
        ),
        origin=Origin(
            files=(
                RemoteFile(f"{_RAW}{_TABLES}/{file}", f"{_TABLES}/{file}"),
                *((_PICTURES,) if pictured else ()),
            ),
            free=True,
        ),
    )


def register(register_one: Callable[[Benchmark], None]) -> None:
    """Offer all behaviours by text, each kind, the two official parts, and those with pictures."""
    whole = dict(zip(KINDS, (200, 100, 100)))
    register_one(HarmBench("harmbench", "text_all", whole))
    for kind in KINDS:
        register_one(HarmBench(f"harmbench_{kind}", "text_all", {kind: whole[kind]}, kind))
    test, validation = dict(zip(KINDS, (159, 81, 80))), dict(zip(KINDS, (41, 19, 20)))
    register_one(HarmBench("harmbench_test", "text_test", test))
    register_one(HarmBench("harmbench_val", "text_val", validation))
    register_one(HarmBench("harmbench_multimodal", "multimodal_all", {MULTIMODAL: 110}))
