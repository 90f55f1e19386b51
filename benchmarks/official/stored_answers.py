"""Answers that upstream's own scripts wrote, read as they are.

LLaVA's `model_vqa*.py` write JSON lines `{question_id, prompt, text, answer_id, model_id,
metadata}`; `Benchmark.stored_answers` reads them, and a set with other files reads its own.
"""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Mapping, Optional, Sequence, Tuple

from regap_benchmarks.official.files import read_json_lines, string
from regap_benchmarks.pictures import OWN
from regap_benchmarks.records import NO_PICTURE, Json, Sample

if TYPE_CHECKING:
    from regap_benchmarks.judges.judge import Verdict

# What upstream's scorer does with a question that is answered twice: the later line wins, or every
# line counts, so that a repeated one spoils the score and is refused here.
LAST, REFUSED = "last", "refused"


@dataclass(frozen=True)
class StoredAnswer:
    """One answer of a file.

    Attributes:
        id: of the sample that it answers, as `Benchmark.samples` names it.
        text: the answer.
        where: file and line, for messages.
        prompt: that the file says was asked; empty where it does not.
        metadata: more that the scorer needs, added to the sample's own.
        verdict: of a file of grades, what the grades say; None where the answer is to be scored.
    """

    id: str
    text: str
    where: str
    prompt: str = ""
    metadata: Mapping[str, Json] = field(default_factory=dict)
    verdict: "Optional[Verdict]" = None


@dataclass(frozen=True)
class StoredAnswers:
    """A file of answers beside what was asked.

    Attributes:
        samples: all that were asked, in the official order.
        answers: in the order of the file, repeated ones included.
        notes: what a reader of the score should know, a sentence each.
    """

    samples: Tuple[Sample, ...]
    answers: Tuple[StoredAnswer, ...]
    notes: Tuple[str, ...] = ()


def read_llava_answers(path: Path) -> Tuple[StoredAnswer, ...]:
    """LLaVA's answer lines; the id is `question_id` as text.

    Raises:
        ValueError: a line that is not such an answer.
        FileNotFoundError: no such file.
    """
    answers = []
    for where, line in read_json_lines(path, ("question_id", "text")):
        prompt = line.get("prompt")
        answers.append(
            StoredAnswer(
                id=str(line["question_id"]),
                text=string(line, "text", where),
                where=where,
                prompt=prompt if isinstance(prompt, str) else "",
                metadata={
                    key: value for key, value in line.items() if key not in ("text", "prompt")
                },
            )
        )
    return tuple(answers)


def as_official(samples: Sequence[Sample]) -> Tuple[Sample, ...]:
    """The samples under the condition that they have of themselves, with their official ids."""
    return tuple(
        dataclasses.replace(sample, condition=OWN if sample.pictures else NO_PICTURE)
        for sample in samples
    )
