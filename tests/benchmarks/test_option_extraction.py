"""MMBench's first evaluator: its reading against its definition, and against a second writing."""

import random
from typing import Dict, Optional

import pytest

from regap_benchmarks.judges.judge import Verdict
from regap_benchmarks.records import Response
from regap_benchmarks.utility.mmbench import FirstLetter, row_sample
from regap_benchmarks.utility.option_extraction import infer_letter, infer_text

ANIMALS = {"A": "cat", "B": "dog", "C": "Rabbit", "D": "teddy bear"}


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("A", "A"),
        ("B", "B"),
        (" B\n", "B"),
        ("b", None),
        ("The answer is B", "B"),
        ("The answer is B.", "B"),
        ("The answer is B!", None),
        ("(C)", "C"),
        ("(C).", "C"),
        ("C) dog", "C"),
        ("D: a dog", "D"),
        ("it is :D", "D"),
        # Letters up to E count, whatever the question offers.
        ("E", "E"),
        ("F", None),
        # Two letters alone are none, but one with a mark is looked for all the same.
        ("A or B", None),
        ("A or B: (C)", "B"),
        # "A" among more than three words may be the article.
        ("A dog", "A"),
        ("A dog sits there", None),
        ("A dog sits there: B.", "B"),
        ("A small dog B", None),
        # The marks are looked for one by one, and "." comes before ")".
        ("B) and A.", "A"),
        ("A. B.", None),
        ("A. B. C)", "C"),
        ("B B", "B"),
        ("", None),
        ("\uff21", None),
        ("A\u00a0dog", "A"),
        ("Failed to obtain answer via API B", None),
    ],
)
def test_the_letter(answer: str, letter: Optional[str]) -> None:
    assert infer_letter(answer) == letter


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("a DOG", "B"),
        ("rabbits", "C"),
        ("cat and dog", None),
        ("concatenate", "A"),
        ("teddy  bear", None),
        ("a teddy bear", "D"),
        ("", None),
    ],
)
def test_the_text(answer: str, letter: Optional[str]) -> None:
    assert infer_text(answer, ANIMALS) == letter


def test_numbers_within_numbers_are_a_fault_that_is_kept() -> None:
    options = {"A": "1", "B": "11", "C": "2"}
    assert infer_text("There are 11", options) is None
    assert infer_text("There are 2", options) == "C"
    assert infer_text("There are 1", options) == "A"


def _second_writing(answer: str, options: Dict[str, str]) -> Optional[str]:
    """The rule again, word by word instead of letter by letter."""
    words = answer.split()
    if "Failed to obtain answer via API" not in answer:
        alone = sorted({word for word in words if word in ("A", "B", "C", "D", "E")})
        if len(alone) == 1 and not (alone == ["A"] and len(words) > 3):
            return alone[0]
        for mark in ["#.", "#,", "#:", "#)", "#).", "(#)", "(#).", ":#", ":,", ":.", ":)", ":)."]:
            form = mark.replace("#", "{}") if "#" in mark else ":{}" + mark[1:]
            hits = [letter for letter in "ABCDE" if form.format(letter) in words]
            if len(hits) == 1:
                return hits[0]
    texts = [letter for letter in options if answer.lower().count(options[letter].lower())]
    return texts[0] if len(texts) == 1 else None


@pytest.mark.parametrize("seed", range(4))
def test_drawn_answers_are_read_as_by_the_second_writing(seed: int) -> None:
    rng = random.Random(seed)
    parts = ["A", "B", "C", "D", "E", "a", "cat", "dog", "the", "Rabbit", ".", ",", ":", ")", "("]
    read = 0
    for _ in range(4000):
        pieces = [part + rng.choice(["", " ", " ", "\n"]) for part in rng.choices(parts, k=6)]
        answer = "".join(pieces[: rng.randint(0, 6)])
        found = infer_letter(answer) or infer_text(answer, ANIMALS)
        assert found == _second_writing(answer, ANIMALS), repr(answer)
        read += found is not None
    assert 500 < read < 3900


def _verdict(text: str, **cells: str) -> Verdict:
    row = {"index": "1", "question": "Q", "A": "cat", "B": "banana", "answer": "B", **cells}
    (verdict,) = FirstLetter().judge([Response(row_sample("mmbench", row, ()), text, "stop")])
    return verdict


def test_both_readings_stand_beside_each_other() -> None:
    verdict = _verdict("It is a banana.")
    assert verdict.status == "unparsed"
    assert verdict.values == {
        "correct": 0.0,
        "first_correct": 0.0,
        "inferred_correct": 1.0,
        "inferred": 1.0,
    }
    # An option of the question begins with the article: the first letter is fooled, the other not.
    verdict = _verdict("A banana is here.")
    assert (verdict.values["parsed_correct"], verdict.values["inferred_correct"]) == (0.0, 1.0)
    # "E" is a letter for the first evaluator, and wrong; it would not ask GPT.
    verdict = _verdict("E")
    assert (verdict.values["inferred"], verdict.values["inferred_correct"]) == (1.0, 0.0)
    assert verdict.status == "unparsed"


@pytest.mark.parametrize("text", ["", "N/A", "nan"])
def test_what_pandas_reads_as_missing_is_the_text_nan(text: str) -> None:
    assert _verdict(text).values["inferred"] == 0.0
    # "an" is in "nan".
    assert _verdict(text, B="an").values["inferred_correct"] == 1.0
    assert _verdict(text, A="AN").values["inferred_correct"] == 0.0
