"""SEED-Bench-1: multiple choice about pictures and videos (Li et al., arXiv 2307.16125).

19 242 questions in twelve dimensions, nine of pictures and three of videos, of which LLaVA shows
the middle frame. Scoring: haotian-liu/LLaVA, scripts/convert_seed_for_submission.py. Code
Apache-2.0, data CC BY-NC 4.0.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from regap_benchmarks.benchmark import Benchmark
from regap_benchmarks.judges.judge import Judge, Verdict
from regap_benchmarks.metrics import Metric
from regap_benchmarks.official.files import first_file, folder_of, read_json_object, with_keys
from regap_benchmarks.official.stored_answers import LAST
from regap_benchmarks.records import (
    EMPTY,
    SCORED,
    UNPARSED,
    Json,
    Judgement,
    Response,
    RunHeader,
    Sample,
)
from regap_benchmarks.utility.lmms_lab import parquet_files, parquet_rows
from regap_benchmarks.utility.vqa_scorer import answered, question_ids, question_lines

LETTERS = ("A", "B", "C", "D")
_QUESTIONS = "llava-seed-bench.jsonl"
_ANSWERS = "SEED-Bench.json"
_TYPES = ("image", "video")
_SUFFIX = "\nAnswer with the option's letter from the given choices directly."
# `question_type` of SEED-Bench.json, which the table of lmms-lab does not have; as SEED-Bench's own
# evaluation code names them. (An early README of it has 3 and 4 the other way round.)
DIMENSIONS = {
    1: "Scene Understanding",
    2: "Instance Identity",
    3: "Instance Attributes",
    4: "Instance Location",
    5: "Instances Counting",
    6: "Spatial Relation",
    7: "Instance Interaction",
    8: "Visual Reasoning",
    9: "Text Understanding",
    10: "Action Recognition",
    11: "Action Prediction",
    12: "Procedure Understanding",
}


class SeedBench(Benchmark):
    """As LLaVA-1.5 asks it."""

    name = "seed_bench"
    version = 1
    summary = "multiple choice about pictures and middle frames of videos: 19,242 questions"
    kind = "utility"
    needs = (
        f"seed_bench/{_QUESTIONS} of LLaVA's eval.zip; seed_bench/{_ANSWERS},"
        " seed_bench/SEED-Bench-image/* and, by LLaVA's extract_video_frames.py,"
        " seed_bench/SEED-Bench-video-image/* of AILab-CVC/SEED-Bench; or"
        " SEED-Bench/data/test-*.parquet of lmms-lab/SEED-Bench"
    )
    source = "arXiv 2307.16125; LLaVA's convert_seed_for_submission.py; data CC BY-NC 4.0"
    # Upstream looks answers up by question: the last counts, others' are passed over.
    answered_twice = LAST
    ignores_unknown = True

    def samples(self, data: Optional[Path]) -> Iterator[Sample]:
        """LLaVA's questions in their order; the category is "image/DIMENSION" or "video/..."."""
        names = ("seed_bench", "SEED-Bench")
        folder = folder_of(data, names, self.name, self.needs)
        files = parquet_files(folder)
        if files and not (folder / _QUESTIONS).is_file():
            yield from self._from_parquet(files, data or folder)
            return
        known = _answers(first_file(folder, (_ANSWERS,), self.name, self.needs))
        path = first_file(folder, (_QUESTIONS,), self.name, self.needs)
        for where, sample, _ in question_lines(path, folder, self.name, data or folder):
            if sample.id not in known:
                raise ValueError(
                    f"{where}: expected a question of {_ANSWERS}, found {sample.id!r}. Fetch both"
                    " files again."
                )
            category, answer, official_id = known[sample.id]
            yield Sample(
                task=self.name,
                id=sample.id,
                request=sample.request,
                prompt=sample.prompt,
                pictures=sample.pictures,
                category=category,
                references=(answer,),
                metadata={**sample.metadata, "question_id": official_id},
            )

    def _from_parquet(self, files: Sequence[Path], data: Path) -> Iterator[Sample]:
        columns = ["question_id", "question", "answer", "data_id", "data_type", "question_type_id"]
        columns += [f"choice_{letter.lower()}" for letter in LETTERS]
        for where, row, picture in parquet_rows(files, data, columns):
            kind, number, answer = row["data_type"], row["question_type_id"], row["answer"]
            if kind not in _TYPES or number not in DIMENSIONS or answer not in LETTERS:
                raise ValueError(
                    f"{where}: expected a data_type of {', '.join(_TYPES)}, a question_type_id from"
                    f" 1 to {len(DIMENSIONS)} and an answer of {', '.join(LETTERS)}, found"
                    f" {kind!r}, {number!r} and {answer!r}. Pass the files of lmms-lab/SEED-Bench."
                )
            options = [f"{letter}. {row[f'choice_{letter.lower()}']}" for letter in LETTERS]
            yield Sample(
                task=self.name,
                id=str(row["question_id"]),
                request=str(row["data_id"]),
                prompt="\n".join([str(row["question"]), *options]) + _SUFFIX,
                pictures=(picture,) if picture else (),
                category=f"{kind}/{DIMENSIONS[number]}",
                references=(answer,),
                metadata={"question_id": row["question_id"]},
            )

    def scorer(self) -> Judge:
        """The letter, and nothing but it."""
        return SeedRule()

    def official(self, header: RunHeader, judgements: Sequence[Judgement]) -> Mapping[str, Json]:
        """What convert_seed_for_submission.py prints, in percent; a missing answer is wrong."""
        asked: Counter[str] = Counter()
        for cell in header.cells:
            asked[cell.category] += cell.samples
        right = Counter(item.category for item in judgements if item.values.get("correct"))
        found: Dict[str, Json] = {
            category.partition("/")[2]: 100 * right[category] / count
            for category, count in asked.items()
        }
        for label, prefix in (("Total", ""), *((kind, f"{kind}/") for kind in _TYPES)):
            chosen = [category for category in asked if category.startswith(prefix)]
            count = sum(asked[category] for category in chosen)
            correct = sum(right[category] for category in chosen)
            found[f"{label} accuracy"] = 100 * correct / count if count else None
        return found

    def write_submission(
        self, responses: Sequence[Response], path: Path, data: Optional[Path] = None
    ) -> None:
        """Lines of `{"question_id": ..., "prediction": ...}`, the whole text of each answer."""
        lines = [
            json.dumps({"question_id": question_id, "prediction": response.text})
            for question_id, response in question_ids(answered(responses, self.name))
        ]
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


class SeedRule(Judge):
    """LLaVA's rule: an answer is right whose whole text is the letter of the right choice.

    "B." and "b" are wrong, and counted as unparsed beside it, since they are no letter.
    `first_letter_accuracy` is the rule of lmms-eval 0.7.2: the first character, in any case.
    """

    name = SeedBench.name
    judges_empty = True

    @property
    def metrics(self) -> Sequence[Metric]:
        """Official: all, pictures, videos; and the rule of lmms-eval."""
        return (
            Metric("accuracy", "correct", True, None, "answers that are the letter", official=True),
            *(
                Metric(f"{kind}_accuracy", f"correct_{kind}", True, None, official=True)
                for kind in _TYPES
            ),
            Metric(
                "first_letter_accuracy",
                "first_letter",
                True,
                None,
                "answers that begin with the letter, as lmms-eval reads them",
                official=True,
            ),
        )

    def describe(self) -> Mapping[str, Json]:
        """The rule's name."""
        return {"rule": "LLaVA convert_seed_for_submission.py"}

    def judge(self, responses: Sequence[Response]) -> Sequence[Verdict]:
        """Each answer by itself."""
        return [_verdict(response) for response in responses]


def _verdict(response: Response) -> Verdict:
    text, (answer,) = response.text, response.sample.references
    kind = response.sample.category.partition("/")[0]
    correct = float(text == answer)
    begins = float(text.strip()[:1].lower() == answer.lower())
    values = {"correct": correct, f"correct_{kind}": correct, "first_letter": begins}
    if text in LETTERS:
        return Verdict(values, SCORED, f"says {text}")
    status = UNPARSED if text.strip() else EMPTY
    return Verdict(values, status, "is no letter alone; the official rule takes it for wrong")


def _answers(path: Path) -> Dict[str, Tuple[str, str, Json]]:
    """By question id as text: category, letter, id as the file has it."""
    document = read_json_object(path)
    with_keys(document, ("question_type", "questions"), str(path))
    names = {number: name for name, number in document["question_type"].items()}
    questions: List[Dict[str, Any]] = document["questions"]
    found = {}
    for place, row in enumerate(questions):
        where = f"{path}, question {place}"
        with_keys(row, ("question_id", "data_type", "question_type_id", "answer"), where)
        kind, number = row["data_type"], row["question_type_id"]
        if kind not in _TYPES or number not in names or row["answer"] not in LETTERS:
            raise ValueError(
                f"{where}: expected a data_type of {', '.join(_TYPES)}, a question_type_id of"
                f" question_type and an answer of {', '.join(LETTERS)}, found {kind!r}, {number!r}"
                f" and {row['answer']!r}. Pass the file of SEED-Bench-1."
            )
        category = f"{kind}/{names[number]}"
        found[str(row["question_id"])] = (category, str(row["answer"]), row["question_id"])
    return found
