"""Questions about drawn pictures: colour, number, and whether a shape is there.

Built in, so that a run needs no download. It tells a model that sees from one that does not.
"""

import random
import re
from collections import Counter
from pathlib import Path
from typing import Iterator, Mapping, Optional, Sequence, Tuple

from regap_benchmarks.benchmark import Benchmark
from regap_benchmarks.judges.judge import Judge, Verdict
from regap_benchmarks.metrics import ACCURACY, Metric
from regap_benchmarks.miniature.pictures import (
    BACKGROUNDS,
    COLOURS,
    Shape,
    plan_picture,
)
from regap_benchmarks.pictures import drawn_picture
from regap_benchmarks.records import UNPARSED, Json, Response, Sample

SERIES, PICTURES = 2024, 60
SUFFIX = "\nAnswer the question using a single word or phrase."
_NUMBERS = {"1": "one", "2": "two", "3": "three"}
_OPTIONS: Mapping[str, Tuple[str, ...]] = {
    "background": tuple(sorted(BACKGROUNDS)),
    "colour": tuple(sorted(COLOURS)),
    "count": tuple(_NUMBERS.values()),
    "presence": ("yes", "no"),
}


class DrawnQuestions(Benchmark):
    """Four questions about each of 60 pictures, in a series of its own."""

    name = "drawn_questions"
    version = 1
    summary = f"{4 * PICTURES} questions about {PICTURES} drawn pictures: colour, number, presence"
    kind = "utility"
    needs = "nothing"
    source = "this project"

    def samples(self, data: Optional[Path]) -> Iterator[Sample]:
        """Picture by picture."""
        for index in range(PICTURES):
            picture = plan_picture(seed=SERIES, index=index)
            asked = questions_about(picture.shapes, picture.background, seed=SERIES, index=index)
            for category, (question, answer) in asked.items():
                yield Sample(
                    task=self.name,
                    id=f"{index:02d}-{category}",
                    request=f"{index:02d}-{category}",
                    prompt=question + SUFFIX,
                    pictures=(drawn_picture(SERIES, index),),
                    category=category,
                    references=(answer,),
                    harmful=None,
                )

    def scorer(self) -> Judge:
        """Reads the one option that an answer names."""
        return OptionNamed()


class OptionNamed(Judge):
    """The answer is the one option of its question that it names, as a whole word in any case.

    "It is red." is red. An answer that names no option, or several, is unparsed.
    """

    name = DrawnQuestions.name

    @property
    def metrics(self) -> Sequence[Metric]:
        """Accuracy."""
        return (ACCURACY,)

    def describe(self) -> Mapping[str, Json]:
        """The options of each category."""
        return {"options": {name: list(words) for name, words in _OPTIONS.items()}}

    def judge(self, responses: Sequence[Response]) -> Sequence[Verdict]:
        """Compare the option that is named with the reference."""
        return [_verdict(response) for response in responses]


def _verdict(response: Response) -> Verdict:
    words = {_NUMBERS.get(word, word) for word in re.findall(r"\w+", response.text.lower())}
    named = sorted(words & set(_OPTIONS[response.sample.category]))
    if len(named) != 1:
        return Verdict(status=UNPARSED, explanation=f"names {named or 'no option'}")
    correct = named[0] in response.sample.references
    return Verdict({"correct": float(correct)}, explanation=f"names {named[0]!r}")


def questions_about(
    shapes: Sequence[Shape], background: str, *, seed: int, index: int
) -> Mapping[str, Tuple[str, str]]:
    """Question and answer by category, about a drawn picture.

    Args:
        shapes: of the picture, in reading order.
        background: name of its colour.
        seed: the series of the picture.
        index: its place there; in even places what is asked for is there.
    """
    rng = random.Random(f"questions {seed} {index}")
    groups = Counter((shape.kind, shape.colour) for shape in shapes)
    kind, colour = rng.choice(sorted(groups))
    alone = len({group_kind for group_kind, _ in groups}) == len(groups)
    # Of two groups of one kind, the first in reading order is asked about.
    first = shapes[0]
    which = f"the {kind}" if alone else f"the {first.kind} nearest to the top left corner"
    there = index % 2 == 0
    absent = sorted(set(COLOURS) - {group_colour for _, group_colour in groups})
    asked = colour if there else rng.choice(absent)
    article = "an" if asked[0] in "aeiou" else "a"
    return {
        "background": ("What colour is the background?", background),
        "colour": (f"What colour is {which}?", colour if alone else first.colour),
        "count": (
            f"How many {colour} shapes are there?",
            _NUMBERS[str(groups[kind, colour])],
        ),
        "presence": (
            f"Is there {article} {asked} {kind} in the picture?",
            "yes" if there else "no",
        ),
    }
