"""MM-SafetyBench (Liu et al., ECCV 2024, arXiv 2311.17600): 13 scenarios, three kinds of picture.

Reads the repository's layout (questions as JSON, pictures as files) and that of its copy on the
Hugging Face hub (parquet). Spelling of scenarios as upstream.
"""

import re
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Mapping, Optional, Set, Tuple

from regap_benchmarks.benchmark import Benchmark
from regap_benchmarks.official.file_entries import AGAIN, Entry, SetFolder, each_once, read_json
from regap_benchmarks.official.parquet_files import parquet_picture, read_parquet
from regap_benchmarks.official.set_facts import (
    THIRD_PARTIES,
    UNVERIFIED,
    Count,
    HubFiles,
    Origin,
    RemoteFile,
    SetFacts,
)
from regap_benchmarks.records import Picture, Sample
from regap_benchmarks.safety.official_set import OfficialSafetySet

SCENARIOS: Mapping[str, int] = {
    "01-Illegal_Activitiy": 97,
    "02-HateSpeech": 163,
    "03-Malware_Generation": 44,
    "04-Physical_Harm": 144,
    "05-EconomicHarm": 122,
    "06-Fraud": 154,
    "07-Sex": 109,
    "08-Political_Lobbying": 153,
    "09-Privacy_Violence": 139,
    "10-Legal_Opinion": 130,
    "11-Financial_Advice": 167,
    "12-Health_Consultation": 109,
    "13-Gov_Decision": 149,
}
# What ECSO and others report: the scenarios whose answers are judged as safe or unsafe.
COMMON = tuple(name for name in SCENARIOS if name[:2] in ("01", "02", "03", "04", "05", "06", "07"))
COMMON += ("09-Privacy_Violence",)
# The kind of picture and the field of the question that belongs to it.
VARIANTS: Mapping[str, Tuple[Optional[str], str]] = {
    "sd": ("SD", "Rephrased Question(SD)"),
    "typo": ("TYPO", "Rephrased Question"),
    "sd_typo": ("SD_TYPO", "Rephrased Question"),
    "text": (None, "Changed Question"),
    "question": (None, "Question"),
}
_TINY = "TinyVersion_ID_List.json"
_TEXT_ONLY = "Text_only"
_RAW = "https://raw.githubusercontent.com/isXinLiu/MM-SafetyBench/main/"


class MMSafetyBench(OfficialSafetySet):
    """One kind of picture, over all scenarios, the common ones, or the tiny list.

    Args:
        variant: a name of `VARIANTS`.
        subset: "", "common" or "tiny".
    """

    def __init__(self, variant: str, subset: str) -> None:
        number = {"": 1680, "common": 972, "tiny": 168}[subset]
        picture, field = VARIANTS[variant]
        shown = f"{picture} pictures" if picture else "text alone"
        super().__init__(
            "_".join(filter(None, ("mm_safetybench", variant, subset))),
            f"{number} questions, {shown}" + (f", {subset} subset" if subset else ""),
            "Liu et al., ECCV 2024, arXiv 2311.17600; github.com/isXinLiu/MM-SafetyBench",
            _facts(variant, subset, number),
        )
        self._picture, self._field = picture, field
        self._subset = subset

    def samples(self, data: Optional[Path]) -> Iterator[Sample]:
        """The scenarios by number, each in the order of its file."""
        folder = self.folder(data)
        chosen = self._chosen(folder)
        questions = folder.optional("data/processed_questions", "processed_questions")
        for scenario in COMMON if self._subset == "common" else SCENARIOS:
            wanted = None if chosen is None else chosen.get(scenario, set())
            if wanted is not None and not wanted:
                continue
            read = self._from_json if questions else self._from_parquet
            found = set()
            for sample in read(folder, scenario):
                identifier = str(sample.metadata["id"])
                if wanted is None or identifier in wanted:
                    found.add(identifier)
                    yield sample
            if wanted is not None and wanted - found:
                raise ValueError(
                    f"{folder.root / _TINY}: expected ids of {scenario}, found"
                    f" {', '.join(sorted(wanted - found))}, which it does not hold. {AGAIN}"
                )

    def _chosen(self, folder: SetFolder) -> Optional[Dict[str, Set[str]]]:
        if self._subset != "tiny":
            return None
        chosen: Dict[str, Set[str]] = {}
        for entry in each_once(read_json(folder.file(_TINY, f"data/{_TINY}")), ("Scenario",)):
            scenario = entry.one_of("Scenario", tuple(SCENARIOS))
            chosen[scenario] = {str(number) for number in entry.items("Sampled_ID_List")}
        return chosen

    def _from_json(self, folder: SetFolder, scenario: str) -> Iterator[Sample]:
        names = (
            f"data/processed_questions/{scenario}.json",
            f"processed_questions/{scenario}.json",
        )
        images = folder.optional("data/imgs", "imgs") or folder.root / "data" / "imgs"
        for entry in read_json(folder.file(*names)):
            pictures: Tuple[Picture, ...] = ()
            if self._picture:
                path = images / scenario / self._picture / f"{entry.key}.jpg"
                pictures = (folder.picture(path),)
            question = entry.text("Question")
            yield self._sample(scenario, entry.key, entry.text(self._field), question, pictures)

    def _from_parquet(self, folder: SetFolder, scenario: str) -> Iterator[Sample]:
        if self._field == "Question":
            raise FileNotFoundError(
                f"{folder.root}: expected data/processed_questions, found none: the copy on the"
                " hub does not hold the field 'Question'. Get the repository's files."
            )
        requests = {
            row.name("id"): row.text("question")
            for row in _rows(_parquet(folder, scenario, _TEXT_ONLY))
        }
        path = _parquet(folder, scenario, self._picture or _TEXT_ONLY)
        for number, row in enumerate(_rows(path)):
            identifier = row.name("id")
            if identifier not in requests:
                raise row.error(f"an id of {_TEXT_ONLY}", repr(identifier))
            pictures = (parquet_picture(folder, path, number),) if self._picture else ()
            prompt = row.text("question")
            yield self._sample(scenario, identifier, prompt, requests[identifier], pictures)

    def _sample(
        self, scenario: str, number: str, prompt: str, question: str, pictures: Tuple[Picture, ...]
    ) -> Sample:
        return Sample(
            task=self.name,
            id=f"{scenario}/{number}",
            request=f"{scenario}/{number}",
            prompt=prompt,
            pictures=pictures,
            category=scenario,
            harmful=True,
            judged_prompt=question if question != prompt else None,
            metadata={"id": number},
        )


def _rows(path: Path) -> Iterator[Entry]:
    return each_once(read_parquet(path, ("id", "question"), needed=("image",)), ("id",))


def _parquet(folder: SetFolder, scenario: str, split: str) -> Path:
    """The file of a scenario and split: the hub names folders and files in more than one way."""
    plain = scenario.split("-", 1)[1]
    # A split's name ends where its file's does, or at a number of parts: SD is no SD_TYPO.
    part = re.compile(rf"(?:^|/){plain}/(?:.*/)?{split}(?:-[0-9].*)?(?:/[^/]*)?\.parquet$")
    found: List[Path] = [
        path
        for path in sorted(folder.root.rglob("*.parquet"))
        if part.search(path.relative_to(folder.root).as_posix())
    ]
    if len(found) != 1:
        shown = ", ".join(str(path) for path in found) or "none"
        raise FileNotFoundError(
            f"{folder.root}: expected data/processed_questions, or one parquet file"
            f" {plain}/{split}, found {shown}. Get the files by regap-bench data fetch."
        )
    return found[0]


def _counts(subset: str, number: int) -> Tuple[Count, ...]:
    if subset == "tiny":
        return (Count(number, UNVERIFIED),)
    names = COMMON if subset == "common" else tuple(SCENARIOS)
    return (
        Count(number, THIRD_PARTIES),
        *(Count(SCENARIOS[name], THIRD_PARTIES, name) for name in names),
    )


def _facts(variant: str, subset: str, number: int) -> SetFacts:
    picture, field = VARIANTS[variant]
    return SetFacts(
        folder="mm-safetybench",
        licence="CC BY-NC 4.0 (page on the hub); terms of GPT-4 and Stable Diffusion apply too",
        layout=(
            "data/processed_questions/{scenario}.json",
            *((f"data/imgs/{{scenario}}/{picture}/{{id}}.jpg",) if picture else ()),
            "or data/{scenario}/{split}.parquet and Text_only.parquet, as on the hub",
            *((_TINY,) if subset == "tiny" else ()),
        ),
        counts=_counts(subset, number),
        prompt=f"the field {field!r} alone (from third parties)",
        judged=(
            "the field 'Question', from the hub's copy 'Text_only'; a rephrased question does not"
            " carry the request"
        ),
        decoding="greedy; 1024 new tokens in ETA, 2048 in ECSO",
        image_aspect="pad, as LLaVA-1.5 does (ECSO, ETA)" if picture else "no picture",
        scoring=(
            "GPT-4, by scenario: safe or unsafe for 01-07 and 09, refusal for 08 and 13, advice"
            " with caution for 10-12; rate of attacks (from third parties)"
        ),
        origin=Origin(
            files=(RemoteFile(f"{_RAW}{_TINY}", _TINY),),
            hub=(HubFiles("PKU-Alignment/MM-SafetyBench", ("data/*/*.parquet",)),),
            by_hand=(
                "the repository's own form, which alone holds the field 'Question': its folder"
                " data/processed_questions, and the zip of pictures that its README links, unpacked"
                " into data/imgs"
            ),
        ),
    )


def register(register_one: Callable[[Benchmark], None]) -> None:
    """Offer each kind of picture, and text alone, over each subset."""
    for variant in VARIANTS:
        for subset in ("", "common", "tiny"):
            register_one(MMSafetyBench(variant, subset))
