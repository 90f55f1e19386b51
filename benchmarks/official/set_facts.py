"""What is known of an official set, as data: where it is, what it holds, how it is asked.

`regap-bench tasks NAME` prints it, `data check` counts by it, `data fetch` gets the files by it.
"""

from dataclasses import dataclass, field
from typing import Dict, Mapping, Optional, Sequence, Tuple

from regap_benchmarks.records import Sample

# How well a number is known.
VERIFIED = "verified"
THIRD_PARTIES = "from third parties"
UNVERIFIED = "not verified"
MARKS = (VERIFIED, THIRD_PARTIES, UNVERIFIED)


@dataclass(frozen=True)
class Count:
    """How many samples there are of a kind.

    Attributes:
        number: published.
        mark: one of `MARKS`.
        category: only those of this category; None for all.
        harmful: only those that are marked so; None for all.
    """

    number: int
    mark: str
    category: Optional[str] = None
    harmful: Optional[bool] = None

    def __post_init__(self) -> None:
        if self.mark not in MARKS:
            raise ValueError(f"Count: expected a mark of {MARKS}, found {self.mark!r}.")

    @property
    def kind(self) -> str:
        """What is counted, in words."""
        harm = {None: "", True: "harmful ", False: "harmless "}[self.harmful]
        of = f" of {self.category}" if self.category is not None else ""
        return f"{harm}samples{of}"

    def tally(self, samples: Sequence[Sample]) -> int:
        """How many of `samples` are of the kind."""
        return sum(
            self.category in (None, sample.category) and self.harmful in (None, sample.harmful)
            for sample in samples
        )

    def __str__(self) -> str:
        return f"{self.number} {self.kind} ({self.mark})"


@dataclass(frozen=True)
class RemoteFile:
    """One file at an address that names its version.

    Attributes:
        url: https.
        path: where it goes, under the set's folder.
        sha256: of the file; "" where it is not known.
        members: of an archive, beginnings of the paths that are unpacked, after the first
            `strip` folders; none: the file is no archive, or stays packed.
        strip: leading folders of an archive's paths that are left out.
    """

    url: str
    path: str
    sha256: str = ""
    members: Tuple[str, ...] = ()
    strip: int = 0


@dataclass(frozen=True)
class HubFiles:
    """Files of a data set on the Hugging Face hub.

    Attributes:
        repository: as in huggingface.co/datasets/REPOSITORY.
        patterns: shell patterns of the files that are needed.
        revision: branch or commit.
    """

    repository: str
    patterns: Tuple[str, ...]
    revision: str = "main"


@dataclass(frozen=True)
class Origin:
    """How the files are got.

    Attributes:
        files: over https.
        hub: from the hub.
        free: whether the licence was read and lets anyone fetch and use the files. Where it does
            not, `data fetch` asks for --accept-licence.
        by_hand: what a user does for what cannot be fetched; "" when nothing is left.
    """

    files: Tuple[RemoteFile, ...] = ()
    hub: Tuple[HubFiles, ...] = ()
    free: bool = False
    by_hand: str = ""


@dataclass(frozen=True)
class SetFacts:
    """What `regap-bench tasks NAME` says of an official set beside its summary.

    Attributes:
        folder: of the set, under --data.
        licence: with where it was read.
        layout: files under that folder; what begins with "or " takes the place of all before it.
        counts: published numbers.
        prompt: what the model is asked, and from where this is known.
        judged: the question that a judge is shown.
        decoding: of the official evaluation.
        image_aspect: preprocessing of the official evaluation, as for --image-aspect.
        scoring: the official rule and its source.
        origin: how the files are got.
        sha256: of files whose official content is known, by path under the folder.
    """

    folder: str
    licence: str
    layout: Tuple[str, ...]
    counts: Tuple[Count, ...]
    prompt: str
    decoding: str
    image_aspect: str
    scoring: str
    judged: str = "the prompt"
    origin: Origin = field(default_factory=Origin)
    sha256: Mapping[str, str] = field(default_factory=dict)

    def lines(self) -> Dict[str, str]:
        """All but how the files are got, by name, for printing."""
        return {
            "licence": self.licence,
            "layout": "; ".join(self._place(path) for path in self.layout),
            "counts": "; ".join(str(count) for count in self.counts),
            "prompt": self.prompt,
            "judged question": self.judged,
            "decoding": self.decoding,
            "image aspect": self.image_aspect,
            "scoring": self.scoring,
            "fetch": self._fetch(),
        }

    def _place(self, path: str) -> str:
        if path.startswith("or "):
            return f"or {self.folder}/{path[3:]}"
        return f"{self.folder}/{path}"

    def _fetch(self) -> str:
        places = [file.url for file in self.origin.files]
        places += [f"huggingface.co/datasets/{hub.repository}" for hub in self.origin.hub]
        ways = []
        if places:
            asked = "" if self.origin.free else " with --accept-licence"
            ways.append(f"regap-bench data fetch{asked}, from {', '.join(places)}")
        if self.origin.by_hand:
            ways.append(f"by hand: {self.origin.by_hand}")
        return "; ".join(ways) or "nothing to fetch"
