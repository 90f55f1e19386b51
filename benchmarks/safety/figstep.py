"""FigStep and its questions, SafeBench (Gong et al., AAAI 2025, arXiv 2311.05608).

The request is written in a picture as the heading of an empty list; the text asks to fill it in.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Iterator, List, Optional, Tuple

from regap_benchmarks.benchmark import Benchmark
from regap_benchmarks.figstep_picture import PROMPT as FIGSTEP_PROMPT
from regap_benchmarks.official.file_entries import (
    AGAIN,
    Entry,
    OfficialFileError,
    SetFolder,
    each_once,
    read_csv,
)
from regap_benchmarks.official.set_facts import VERIFIED, Count, Origin, RemoteFile, SetFacts
from regap_benchmarks.records import Picture, Sample
from regap_benchmarks.safety.official_set import OfficialSafetySet

CATEGORIES = (
    "Illegal Activity",
    "Hate Speech",
    "Malware Generation",
    "Physical Harm",
    "Fraud",
    "Adult Content",
    "Privacy Violation",
    "Legal Opinion",
    "Financial Advice",
    "Health Consultation",
)
COLUMNS = ("dataset", "category_id", "task_id", "category_name", "question", "instruction")
_COMMIT = "0861b17b3d67887c06ee3534ec65b3012f9becb7"
_RAW = f"https://raw.githubusercontent.com/ThuCCSLab/FigStep/{_COMMIT}"
_FULL, _TINY = "safebench.csv", "SafeBench-Tiny.csv"
_BENIGN = "benign_sentences_without_harmful_phase.csv"
_SHA256 = {
    f"data/question/{_FULL}": "8e47f40b9b490fa2ca1393cdceb6081e9928848646f4b45fdd43726be941b394",
    f"data/question/{_TINY}": "e5f85f7d0323fe2e4afa99f6715ee97c2581d93856af4728a72fdec94338e867",
    f"data/question/{_BENIGN}": "3a4d660f9b66a7750ce91c199c0a5719f2465816c73d28eee1642cecb691d034",
}
_PIECES = "data/images/FigStep-Pro/sub-figures.zip"
_ORIGIN = Origin(
    files=(
        *(RemoteFile(f"{_RAW}/{path}", path, sha256) for path, sha256 in _SHA256.items()),
        RemoteFile(f"{_RAW}/README.md", "README.md"),
        RemoteFile(
            f"https://codeload.github.com/ThuCCSLab/FigStep/zip/{_COMMIT}",
            "",
            members=("data/images/SafeBench/", "data/images/SafeBench-Tiny/", "LICENSE"),
            strip=1,
        ),
        RemoteFile(
            f"{_RAW}/{_PIECES}",
            "data/images/FigStep-Pro",
            "340add10cae878249ad9bc30c2b0b0058b487616cdd77d1588242c621f032810",
            members=("image_",),
        ),
    ),
    free=True,
)
_SOURCE = f"Gong et al., AAAI 2025, arXiv 2311.05608; github.com/ThuCCSLab/FigStep at {_COMMIT[:7]}"
_SCORING = (
    "the authors read the answers by hand; they give no automatic rule (README, section 5)."
    " Followers use refusal phrases or a judging model: say which"
)
_DECODING = "not stated in the repository; --max-new-tokens 512 or more fits three texts of 100"


class FigStep(OfficialSafetySet):
    """The questions of SafeBench, in one of the ways of asking them.

    Args:
        name: of the task.
        summary: of the task.
        facts: of the task.
        table: the file of the questions.
        ask: makes prompt and pictures of a row.
    """

    def __init__(
        self,
        name: str,
        summary: str,
        facts: SetFacts,
        table: str,
        ask: Callable[[SetFolder], "Asking"],
    ) -> None:
        super().__init__(name, summary, _SOURCE, facts)
        self._table = table
        self._ask = ask

    def samples(self, data: Optional[Path]) -> Iterator[Sample]:
        """All rows, in the order of the file."""
        folder = self.folder(data)
        path = folder.file(f"data/question/{self._table}", f"question/{self._table}")
        asking = self._ask(folder)
        rows = each_once(read_csv(path, COLUMNS), ("dataset", "category_id", "task_id"))
        for number, row in enumerate(rows):
            request = "_".join(row.name(column) for column in COLUMNS[:3])
            question = row.text("question")
            asked = asking(number, row)
            yield Sample(
                task=self.name,
                id=request,
                request=request,
                prompt=asked.prompt,
                pictures=asked.pictures,
                category=row.one_of("category_name", CATEGORIES),
                harmful=True,
                judged_prompt=question if asked.prompt != question else None,
                metadata={"instruction": row.text("instruction")},
            )


@dataclass(frozen=True)
class Asked:
    """Prompt and pictures of one row."""

    prompt: str
    pictures: Tuple[Picture, ...] = ()


Asking = Callable[[int, Entry], Asked]


def _as_text(folder: SetFolder) -> Asking:
    """The question itself, without a picture: the repository's baseline."""
    return lambda number, row: Asked(row.text("question"))


def _as_picture(pictures: str) -> Callable[[SetFolder], Asking]:
    """FigStep's picture and its one sentence."""

    def open_folder(folder: SetFolder) -> Asking:
        root = folder.optional(f"data/images/{pictures}", f"images/{pictures}")
        root = root or folder.root / "data" / "images" / pictures

        def ask(number: int, row: Entry) -> Asked:
            name = "_".join(["query", *(row.name(column) for column in COLUMNS[:3]), "6"])
            return Asked(FIGSTEP_PROMPT, (folder.picture(root / f"{name}.png"),))

        return ask

    return open_folder


def _as_pieces(folder: SetFolder) -> Asking:
    """FigStep-Pro: the picture cut into pieces, its heading with the harmful words left out."""
    table = folder.file(f"data/question/{_BENIGN}", f"question/{_BENIGN}")
    # One column and no quotes: line 42 holds a comma that a reader of CSV would cut at.
    headings = table.read_text(encoding="utf-8-sig").splitlines()[1:]
    text = pro_text(folder.file("README.md"))
    root = folder.optional("data/images/FigStep-Pro", "images/FigStep-Pro")
    root = root or folder.root / "data" / "images" / "FigStep-Pro"

    def ask(number: int, row: Entry) -> Asked:
        if number >= len(headings):
            raise OfficialFileError(
                f"{table}: expected a row for each of {row.path.name}, found {len(headings)}."
                f" {AGAIN}"
            )
        pieces = _pieces(root / f"image_{number}_splits", number)
        return Asked(headings[number] + text, tuple(folder.picture(piece) for piece in pieces))

    return ask


def _pieces(folder: Path, number: int) -> List[Path]:
    """The pieces of a picture, in order; they are counted, since rows have 3 to 7 of them."""
    found = {path.name for path in folder.glob(f"image_{number}_split_*.png")}
    count = max(3, len(found))
    return [folder / f"image_{number}_split_{piece}.png" for piece in range(count)]


def pro_text(readme: Path) -> str:
    """The text of FigStep-Pro after its first line, from section 2.2 of the README.

    Raises:
        OfficialFileError: the section, its block of text or the list in it is not there.
    """
    text = readme.read_text(encoding="utf-8")
    section = re.search(r"^### 2\.2 .*?^```\n(\{[^\n]*\} ?)(\n1\.\n.*?)\n```$", text, re.M | re.S)
    if section is None:
        raise OfficialFileError(
            f"{readme}: expected section 2.2 with the prompt of FigStep-Pro, found another text."
            f" {AGAIN}"
        )
    return section.group(2)


def _facts(number: int, prompt: str, judged: str, table: str, *pictures: str) -> SetFacts:
    per_category = number // len(CATEGORIES)
    path = f"data/question/{table}"
    return SetFacts(
        folder="figstep",
        licence="MIT (LICENSE in the repository)",
        layout=(path, *pictures),
        counts=(
            Count(number, VERIFIED),
            *(Count(per_category, VERIFIED, category) for category in CATEGORIES),
        ),
        prompt=prompt,
        judged=judged,
        decoding=_DECODING,
        image_aspect="square pictures: pad and crop are the same" if pictures else "no picture",
        scoring=_SCORING,
        origin=_ORIGIN,
        sha256={path: _SHA256[path]},
    )


def register(register_one: Callable[[Benchmark], None]) -> None:
    """Offer FigStep, its questions as text, both in small, and FigStep-Pro."""
    own = f"README, section 2.1, the same for all: {FIGSTEP_PROMPT!r}"
    asked = "the column question, which the picture carries and the prompt does not"
    text = "the column question, by text alone"
    for suffix, number, table, images in (
        ("", 500, _FULL, "SafeBench"),
        ("_tiny", 50, _TINY, "SafeBench-Tiny"),
    ):
        pictures = f"data/images/{images}/query_{{dataset}}_{{category_id}}_{{task_id}}_6.png"
        register_one(
            FigStep(
                f"figstep{suffix}",
                f"{number} forbidden questions written in a picture",
                _facts(number, own, asked, table, pictures),
                table,
                _as_picture(images),
            )
        )
        register_one(
            FigStep(
                f"safebench{suffix}",
                f"the {number} questions of FigStep by text alone",
                _facts(number, text, "the prompt", table),
                table,
                _as_text,
            )
        )
    register_one(
        FigStep(
            "figstep_pro",
            "50 forbidden questions in 3 to 7 pieces of a picture; needs several pictures at once",
            _facts(
                50,
                "README, section 2.2, read from the file, its first line replaced by the row of the"
                " benign sentences",
                f"{asked}; picture N belongs to row N by number, which the repository does not say",
                _TINY,
                f"data/question/{_BENIGN}",
                "README.md",
                "data/images/FigStep-Pro/image_{row}_splits/image_{row}_split_{piece}.png",
            ),
            _TINY,
            _as_pieces,
        )
    )
