"""VLGuard's test set (Zong et al., ICML 2024, arXiv 2402.02207): three ways to ask of a picture."""

from pathlib import Path
from typing import Callable, Iterator, Mapping, Optional, Tuple

from regap_benchmarks.benchmark import Benchmark
from regap_benchmarks.official.file_entries import Entry, SetFolder, each_once, read_json
from regap_benchmarks.official.set_facts import (
    VERIFIED,
    Count,
    HubFiles,
    Origin,
    RemoteFile,
    SetFacts,
)
from regap_benchmarks.records import Json, Sample
from regap_benchmarks.safety.official_set import OfficialSafetySet

_COMMIT = "a2f85c9"
_META = ("data/test.json", "test.json")
_REFERENCES = ("data/gpt4_safe_safes.json", "gpt4_safe_safes.json")
_SHA256 = {
    "data/test.json": "a0b6479d0add65d9d1c06da5c89babd30d411bda47146445c13f32778a114980",
    "data/gpt4_safe_safes.json": "60429462f55b72ff1b06b0f648fc307ed287ee45d07148bcaf64dcbdba0d8a44",
}
_RAW = "https://raw.githubusercontent.com/ys-zong/VLGuard/main/"
# The field of the instruction in each split.
FIELDS = {
    "safe_safes": "safe_instruction",
    "safe_unsafes": "unsafe_instruction",
    "unsafes": "instruction",
}
_SUBCATEGORIES: Mapping[str, int] = {
    "risky behavior: sexually explicit": 111,
    "risky behavior: violence": 68,
    "risky behavior: political": 57,
    "risky behavior: professional advice": 34,
    "discrimination: race": 40,
    "discrimination: sex": 31,
    "discrimination: other": 14,
    "privacy: personal data": 69,
    "deception: disinformation": 18,
}


class VLGuard(OfficialSafetySet):
    """One split: harmless or harmful instructions about safe pictures, or about unsafe ones.

    Args:
        split: a name of `FIELDS`.
        summary: of the task.
        facts: of the task.
    """

    def __init__(self, split: str, summary: str, facts: SetFacts) -> None:
        super().__init__(
            f"vlguard_{split}",
            summary,
            f"Zong et al., ICML 2024, arXiv 2402.02207; github.com/ys-zong/VLGuard at {_COMMIT}",
            facts,
        )
        self._split = split

    def samples(self, data: Optional[Path]) -> Iterator[Sample]:
        """The split's records, in the order of the file."""
        folder = self.folder(data)
        references = self._references(folder)
        root = folder.optional("test", "images/test", "images") or folder.root / "test"
        for record in each_once(read_json(folder.file(*_META)), ("id",)):
            if record.flag("safe") != (self._split != "unsafes"):
                continue
            identifier = record.name("id")
            instruction = self._instruction(record)
            yield Sample(
                task=self.name,
                id=identifier,
                request=identifier,
                prompt=instruction,
                pictures=(folder.picture(root / record.text("image")),),
                category=self._category(record),
                harmful=self._split != "safe_safes",
                references=references.get(identifier, ()),
                judged_prompt=instruction,
            )

    def _instruction(self, record: Entry) -> str:
        field = FIELDS[self._split]
        pairs = [pair for pair in record.items("instr-resp") if _has(pair, field)]
        if len(pairs) != 1 or not isinstance(pairs[0], dict):
            raise record.error(f"one {field!r} in 'instr-resp'", str(len(pairs)))
        return Entry(record.path, record.place, pairs[0]).text(field)

    def _category(self, record: Entry) -> str:
        if self._split != "unsafes":
            return ""
        return f"{record.text('harmful_category')}: {record.text('harmful_subcategory')}"

    def _references(self, folder: SetFolder) -> Mapping[str, Tuple[str, ...]]:
        """GPT-4V's answers, 17 of them empty, which the official win rate compares with."""
        if self._split != "safe_safes":
            return {}
        path = folder.optional(*_REFERENCES)
        if path is None:
            return {}
        records = each_once(read_json(path), ("id",))
        return {record.name("id"): (record.any_text("output"),) for record in records}


def _has(pair: Json, field: str) -> bool:
    return isinstance(pair, dict) and field in pair


def _facts(split: str, counts: Tuple[Count, ...]) -> SetFacts:
    rate = (
        "attack success: no refusal phrase of the set's list of 63 in the answer"
        " (VLGuard_eval.py, utils/utils.py)"
    )
    wins = "GPT-4V compares with the reference answers; the share of wins (gpt4_evaluator.py)"
    return SetFacts(
        folder="vlguard",
        licence=(
            "none in the repository; the hub asks to agree to research use and to share contact"
            " information"
        ),
        layout=(
            "data/test.json",
            *(("data/gpt4_safe_safes.json",) if split == "safe_safes" else ()),
            "test/{image}",
        ),
        counts=counts,
        prompt=f"{FIELDS[split]} alone",
        decoding="greedy, 1 to 256 new tokens (utils/model_utils.py)",
        image_aspect="crop: pictures go through CLIP's processor alone (utils/model_utils.py)",
        scoring=wins if split == "safe_safes" else rate,
        origin=Origin(
            files=tuple(RemoteFile(_RAW + path, path, sha256) for path, sha256 in _SHA256.items()),
            hub=(HubFiles("ys-zong/VLGuard", ("test.zip",)),),
            by_hand=(
                "agree at huggingface.co/datasets/ys-zong/VLGuard, log in by hf auth login, fetch,"
                " then unpack test.zip so that the pictures lie in vlguard/test"
            ),
        ),
        sha256={
            path: sha256
            for path, sha256 in _SHA256.items()
            if split == "safe_safes" or path == "data/test.json"
        },
    )


def register(register_one: Callable[[Benchmark], None]) -> None:
    """Offer the three splits: pictures repeat between them, so that each is a task."""
    safe = (Count(558, VERIFIED),)
    unsafe = (
        Count(442, VERIFIED),
        *(Count(number, VERIFIED, category) for category, number in _SUBCATEGORIES.items()),
    )
    for split, summary, counts in (
        ("safe_safes", "558 harmless instructions about harmless pictures", safe),
        ("safe_unsafes", "558 harmful instructions about harmless pictures", safe),
        ("unsafes", "442 harmful pictures with an instruction", unsafe),
    ):
        register_one(VLGuard(split, summary, _facts(split, counts)))
