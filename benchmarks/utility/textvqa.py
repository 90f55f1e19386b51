"""TextVQA: questions that ask to read text in pictures (Singh et al., CVPR 2019).

LLaVA-1.5 asks the 5000 questions of validation set v0.5.1, each with the tokens that an OCR system
(Rosetta) read, as "Reference OCR token: ..."; its published 58.2 and 61.3 need them. Scoring is
LLaVA's `eval_textvqa.py` with M4C's evaluator. Data: CC BY 4.0.
"""

import re
from pathlib import Path
from typing import Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from regap_benchmarks.benchmark import Benchmark
from regap_benchmarks.judges.judge import Judge
from regap_benchmarks.official.files import first_file, folder_of, read_json_object, with_keys
from regap_benchmarks.official.stored_answers import (
    StoredAnswer,
    StoredAnswers,
    as_official,
    read_llava_answers,
)
from regap_benchmarks.records import Json, Judgement, RunHeader, Sample
from regap_benchmarks.utility.lmms_lab import parquet_files
from regap_benchmarks.utility.vqa_answer import ANSWERS, m4c_score
from regap_benchmarks.utility.vqa_parquet import textvqa_val
from regap_benchmarks.utility.vqa_scorer import (
    SHORT_ANSWER,
    VQA_ACCURACY,
    VqaScorer,
    mean_percent,
    people,
    question_lines,
    question_of,
)

_QUESTIONS = "llava_textvqa_val_v051_ocr.jsonl"
_ANNOTATIONS = "TextVQA_0.5.1_val.json"
_OCR = "Reference OCR token:"
_Key = Tuple[str, str]


class TextVqa(Benchmark):
    """As LLaVA-1.5 asks it: with OCR tokens in the prompt."""

    name = "textvqa"
    version = 1
    summary = "reading text in pictures: 5000 questions with OCR tokens, as LLaVA publishes it"
    kind = "utility"
    needs = (
        f"textvqa/{_QUESTIONS} of LLaVA's eval.zip; textvqa/{_ANNOTATIONS} and"
        " textvqa/train_images/*.jpg of textvqa.org; or textvqa/data/validation-*.parquet of"
        " lmms-lab/textvqa"
    )
    source = "Singh et al., CVPR 2019; textvqa.org; LLaVA's eval_textvqa.py; CC BY 4.0"
    with_ocr = True

    def samples(self, data: Optional[Path]) -> Iterator[Sample]:
        """LLaVA's questions, in their order; ids are IMAGE-NUMBER, numbered within a picture."""
        folder = folder_of(data, ("textvqa",), self.name, self.needs)
        files = parquet_files(folder, "validation")
        if files and not (folder / _QUESTIONS).is_file():
            yield from textvqa_val(self.name, files, data or folder, with_ocr=self.with_ocr)
            return
        path = first_file(folder, (_QUESTIONS,), self.name, self.needs)
        known = _annotations(first_file(folder, (_ANNOTATIONS,), self.name, self.needs))
        numbers: Dict[str, int] = {}
        images = folder / "train_images"
        for where, sample, _ in question_lines(path, images, self.name, data or folder):
            prompt = sample.prompt if self.with_ocr else question_of(sample.prompt) + SHORT_ANSWER
            key = (sample.id, asked_question(sample.prompt, where))
            if key not in known:
                raise ValueError(
                    f"{where}: expected a question of {_ANNOTATIONS}, found {key[1]!r} about"
                    f" {key[0]!r}. Fetch both files again."
                )
            number = numbers[sample.id] = numbers.get(sample.id, -1) + 1
            yield Sample(
                task=self.name,
                id=f"{sample.id}-{number}",
                request=sample.request,
                prompt=prompt,
                pictures=sample.pictures,
                references=known[key],
                metadata=sample.metadata,
            )

    def scorer(self) -> Judge:
        """M4C's score."""
        return VqaScorer(self.name, (VQA_ACCURACY,), "m4c_score", m4c_score)

    def stored_answers(self, path: Path, data: Optional[Path]) -> StoredAnswers:
        """LLaVA's answers; a `question_id` is a picture's, so the prompt says which question."""
        samples = as_official(tuple(self.samples(data)))
        ids: Dict[_Key, List[str]] = {}
        for sample in samples:
            key = (str(sample.metadata["question_id"]), question_of(sample.prompt).lower())
            ids.setdefault(key, []).append(sample.id)
        answers, taken = [], dict.fromkeys(ids, 0)
        for answer in read_llava_answers(path):
            key = (answer.id, asked_question(answer.prompt, answer.where))
            if key not in ids:
                raise ValueError(
                    f"{answer.where}: expected an answer to a question of {_QUESTIONS}, found one"
                    f" to {key[1]!r} about {key[0]!r}. Pass answers to this set."
                )
            # The same question twice about a picture: each answer is one of them.
            place = min(taken[key], len(ids[key]) - 1)
            taken[key] += 1
            answers.append(
                StoredAnswer(
                    ids[key][place], answer.text, answer.where, answer.prompt, answer.metadata
                )
            )
        return StoredAnswers(samples, tuple(answers))

    def official(self, header: RunHeader, judgements: Sequence[Judgement]) -> Mapping[str, Json]:
        """`Samples` and `Accuracy` (percent) of eval_textvqa.py: over the answers in the file."""
        scored = [item for item in judgements if "score" in item.values]
        return {"Samples": len(scored), "Accuracy": mean_percent(scored, "score")}


class TextVqaWithoutOcr(TextVqa):
    """The same questions without OCR tokens, as lmms-eval's default asks."""

    name = "textvqa_no_ocr"
    summary = "reading text in pictures: the 5000 questions without OCR tokens"
    with_ocr = False


def asked_question(prompt: str, where: str) -> str:
    """The question in a prompt, in lower case, by the three forms that eval_textvqa.py knows.

    "OCR tokens: ... Question: Q Short answer:"; three lines of which one holds the reference
    tokens, before Q or after; two lines, Q first.

    Raises:
        ValueError: another form, at which upstream stops.
    """
    lines = prompt.split("\n")
    if prompt.startswith("OCR tokens: "):
        match = re.search(r"Question: (.*?) Short answer:", prompt, re.DOTALL)
        if match:
            return match.group(1).lower()
    elif f"{_OCR} " in prompt and len(lines) == 3:
        return lines[1 if prompt.startswith(_OCR) else 0].lower()
    elif len(lines) == 2:
        return lines[0].lower()
    raise ValueError(
        f"{where}: expected a prompt of LLaVA's for TextVQA, of two lines, or of three with"
        f" {_OCR!r}, found {prompt[:80]!r}. Ask with LLaVA's question file."
    )


def _annotations(path: Path) -> Dict[_Key, Tuple[str, ...]]:
    """By image and question; of a question that is there twice the last, as upstream has it."""
    rows = read_json_object(path).get("data")
    if not isinstance(rows, list):
        raise ValueError(
            f"{path}: expected a list under 'data', found {type(rows).__name__}. Pass the official"
            " file."
        )
    known: Dict[_Key, Tuple[str, ...]] = {}
    for number, row in enumerate(rows):
        where = f"{path}, question {number}"
        with_keys(row, ("image_id", "question", "answers"), where)
        answers = people(row["answers"], where)
        if len(answers) != ANSWERS:
            raise ValueError(
                f"{where}: expected {ANSWERS} answers, found {len(answers)}. Pass the official"
                " file."
            )
        known[str(row["image_id"]), str(row["question"]).lower()] = answers
    return known
