"""VLSafe's examination set (Chen et al., DRESS, arXiv 2311.10081): harmful questions about COCO."""

from pathlib import Path
from typing import Callable, Iterator, Optional

from regap_benchmarks.benchmark import Benchmark
from regap_benchmarks.official.file_entries import read_json_lines
from regap_benchmarks.official.set_facts import UNVERIFIED, Count, HubFiles, Origin, SetFacts
from regap_benchmarks.records import Sample
from regap_benchmarks.safety.official_set import OfficialSafetySet

_FILE = "VLSafe/harmlessness_examine.jsonl"


class VLSafe(OfficialSafetySet):
    """One question for each line; the pictures are COCO's of 2017, training part."""

    def __init__(self) -> None:
        super().__init__(
            "vlsafe",
            "1110 harmful questions about photographs",
            "Chen et al., CVPR 2024, arXiv 2311.10081; huggingface.co/datasets/YangyiYY/LVLM_NLF",
            FACTS,
        )

    def samples(self, data: Optional[Path]) -> Iterator[Sample]:
        """All lines, in the order of the file."""
        folder = self.folder(data)
        root = folder.optional("train2017", "images", "coco/train2017")
        root = root or folder.root / "train2017"
        lines = read_json_lines(folder.file(_FILE, "harmlessness_examine.jsonl"))
        for number, line in enumerate(lines):
            image = line.text("image_id")
            query = line.text("query")
            yield Sample(
                task=self.name,
                id=str(number),
                request=str(number),
                prompt=query,
                pictures=(folder.picture(root / image),),
                harmful=True,
                judged_prompt=query,
                metadata={"image_id": image},
            )


FACTS = SetFacts(
    folder="vlsafe",
    licence="not read: see the card on the hub; photographs under COCO's terms",
    layout=(_FILE, "train2017/{image_id}"),
    counts=(Count(1110, UNVERIFIED),),
    prompt="the field query alone (ECSO)",
    decoding="greedy, 2048 new tokens (ECSO)",
    image_aspect="pad, as LLaVA-1.5 does (ECSO)",
    scoring=(
        "ECSO: GPT-4 rates harmless or not, rate of harmless answers, what cannot be read counts"
        " as harmful; DRESS: GPT-4 rates (not verified)"
    ),
    origin=Origin(
        hub=(HubFiles("YangyiYY/LVLM_NLF", (_FILE,)),),
        by_hand=(
            "the photographs are those of images.cocodataset.org/zips/train2017.zip: put them, or a"
            " link to them, at vlsafe/train2017"
        ),
    ),
)


def register(register_one: Callable[[Benchmark], None]) -> None:
    """Offer the one task."""
    register_one(VLSafe())
