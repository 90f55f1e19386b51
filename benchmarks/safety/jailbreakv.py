"""JailBreakV-28K (Luo et al., COLM 2024, arXiv 2404.03027): attacks on text, and by pictures."""

from pathlib import Path
from typing import Callable, Iterator, Optional

from regap_benchmarks.benchmark import Benchmark
from regap_benchmarks.official.file_entries import each_once, read_csv
from regap_benchmarks.official.set_facts import THIRD_PARTIES, Count, HubFiles, Origin, SetFacts
from regap_benchmarks.records import Sample
from regap_benchmarks.safety.official_set import OfficialSafetySet

COLUMNS = (
    "id",
    "jailbreak_query",
    "redteam_query",
    "format",
    "policy",
    "image_path",
    "from",
    "selected_mini",
    "transfer_from_llm",
)
_FOLDER = "JailBreakV_28K"
_FULL = "JailBreakV_28K.csv"
_MINI = "mini_JailBreakV_28K.csv"


class JailBreakV(OfficialSafetySet):
    """All rows, or those of the official small selection.

    Args:
        mini: only the selection.
    """

    def __init__(self, mini: bool) -> None:
        number = 280 if mini else 28000
        super().__init__(
            "jailbreakv_mini" if mini else "jailbreakv",
            f"{number} attacks with pictures: texts that were written for language models, and"
            " pictures",
            "Luo et al., COLM 2024, arXiv 2404.03027; huggingface.co/datasets/JailbreakV-28K/"
            "JailBreakV-28k",
            _facts(mini, number),
        )
        self._mini = mini

    def samples(self, data: Optional[Path]) -> Iterator[Sample]:
        """Rows in the order of the file; the small selection from its own file where that is."""
        folder = self.folder(data)
        own = folder.optional(f"{_FOLDER}/{_MINI}", _MINI) if self._mini else None
        path = own or folder.file(f"{_FOLDER}/{_FULL}", _FULL)
        for row in each_once(read_csv(path, COLUMNS), ("id",)):
            if self._mini and own is None and not row.flag("selected_mini"):
                continue
            identifier = row.name("id")
            request, query = row.text("redteam_query"), row.text("jailbreak_query")
            yield Sample(
                task=self.name,
                id=identifier,
                # The same request is attacked in many ways, which are no independent samples.
                request=request,
                prompt=query,
                pictures=(folder.picture(path.parent / row.text("image_path")),),
                category=row.text("policy"),
                harmful=True,
                # The text of an attack by picture may carry no request at all.
                judged_prompt=query if row.flag("transfer_from_llm") else request,
                metadata={
                    "format": row.text("format"),
                    "from": row.any_text("from"),
                    "transfer_from_llm": row.flag("transfer_from_llm"),
                },
            )


def _facts(mini: bool, number: int) -> SetFacts:
    table = f"{_FOLDER}/{_MINI} or {_FOLDER}/{_FULL}" if mini else f"{_FOLDER}/{_FULL}"
    return SetFacts(
        folder="jailbreakv",
        licence="MIT (card on the hub)",
        layout=(table, f"{_FOLDER}/{{image_path}}"),
        counts=(Count(number, THIRD_PARTIES),),
        prompt="the column jailbreak_query alone (card on the hub)",
        judged=(
            "jailbreak_query of an attack by text; redteam_query of an attack by picture, whose"
            " text may not carry the request. The official judge is shown jailbreak_query always"
        ),
        decoding="not stated on the card",
        image_aspect="not stated on the card",
        scoring="Llama Guard over jailbreak_query and answer (card on the hub)",
        origin=Origin(
            hub=(
                HubFiles(
                    "JailbreakV-28K/JailBreakV-28k",
                    (
                        f"{_FOLDER}/*.csv",
                        f"{_FOLDER}/figstep/*",
                        f"{_FOLDER}/llm_transfer_attack/*",
                        f"{_FOLDER}/query_related/*",
                    ),
                ),
            ),
            free=True,
            by_hand=(
                "the hub holds a part of the pictures; the form for all of them is linked on the"
                " card"
            ),
        ),
    )


def register(register_one: Callable[[Benchmark], None]) -> None:
    """Offer all rows and the small selection."""
    register_one(JailBreakV(mini=False))
    register_one(JailBreakV(mini=True))
