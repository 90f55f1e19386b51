"""GQA: questions from scene graphs, one right answer each (Hudson and Manning, CVPR 2019).

LLaVA asks the 12 578 questions of testdev_balanced, writes `[{questionId, prediction}]`
(haotian-liu/LLaVA, scripts/convert_gqa_for_eval.py) and scores with the set's own `eval.py`, whose
accuracy is equality with the one answer, letter by letter. Data: CC BY 4.0.
"""

import dataclasses
import json
from pathlib import Path
from typing import Dict, Iterator, Mapping, Optional, Sequence

from regap_benchmarks.benchmark import Benchmark
from regap_benchmarks.judges.judge import Judge, Verdict
from regap_benchmarks.metrics import ACCURACY, Metric
from regap_benchmarks.official.files import (
    first_file,
    folder_of,
    read_json_object,
    relative,
    string,
    with_keys,
)
from regap_benchmarks.official.stored_answers import LAST
from regap_benchmarks.pictures import file_picture
from regap_benchmarks.records import Json, Judgement, Response, RunHeader, Sample
from regap_benchmarks.utility.vqa_parquet import gqa_rows
from regap_benchmarks.utility.vqa_scorer import (
    SHORT_ANSWER,
    answered,
    mean_percent,
    question_ids,
    question_lines,
)

_QUESTIONS = "llava_gqa_testdev_balanced.jsonl"
_ANSWERS = "testdev_balanced_questions.json"
# Where LLaVA's guide has GQA's download, and where its zip file unpacks to.
_PLACES = (
    _ANSWERS,
    f"data/{_ANSWERS}",
    f"data/questions1.2/{_ANSWERS}",
    f"questions1.2/{_ANSWERS}",
)
_OPEN = "query"


class Gqa(Benchmark):
    """As LLaVA-1.5 asks it."""

    name = "gqa"
    version = 1
    summary = "questions from scene graphs: 12,578 of testdev_balanced"
    kind = "utility"
    needs = (
        f"gqa/data/{_ANSWERS} and gqa/data/images/*.jpg of GQA's download; gqa/{_QUESTIONS} of"
        " LLaVA's eval.zip, which has the order (or else that of GQA's file is taken); or"
        " GQA/testdev_balanced_{instructions,images} of lmms-lab/GQA"
    )
    source = "Hudson and Manning, CVPR 2019; LLaVA's convert_gqa_for_eval.py; CC BY 4.0"
    # eval.py looks predictions up by question: the last counts, others' are passed over.
    answered_twice = LAST
    ignores_unknown = True

    def samples(self, data: Optional[Path]) -> Iterator[Sample]:
        """LLaVA's questions in their order; the category is the structural type."""
        folder = folder_of(data, ("gqa", "GQA"), self.name, self.needs)
        if (folder / "testdev_balanced_instructions").is_dir():
            for where, question_id, row, picture in gqa_rows(folder, data or folder):
                sample = self._sample(question_id, row, where, folder, data)
                yield dataclasses.replace(sample, pictures=(picture,))
            return
        path = first_file(folder, _PLACES, self.name, self.needs)
        known = read_json_object(path)
        images = folder / "data" / "images" if (folder / "data").is_dir() else folder / "images"
        if not (folder / _QUESTIONS).is_file():
            for question_id, row in known.items():
                yield self._sample(question_id, row, f"{path}, {question_id}", images, data)
            return
        questions = question_lines(folder / _QUESTIONS, images, self.name, data or folder)
        for where, sample, _ in questions:
            if sample.id not in known:
                raise ValueError(
                    f"{where}: expected a question of {path.name}, found {sample.id!r}. Fetch both"
                    " files again."
                )
            at = f"{path}, {sample.id}"
            yield self._sample(sample.id, known[sample.id], at, images, data, sample.prompt)

    def scorer(self) -> Judge:
        """Equality."""
        return GqaRule()

    def official(self, header: RunHeader, judgements: Sequence[Judgement]) -> Mapping[str, Json]:
        """Accuracies of eval.py, in percent: all, binary and open questions, structural types.

        None with gaps: it stops where a prediction is missing.
        """
        if sum("correct" in item.values for item in judgements) != header.samples:
            return {"Accuracy": None}
        types = dict.fromkeys(item.category for item in judgements)
        return {
            "Accuracy": mean_percent(judgements, "correct"),
            "Binary": mean_percent(judgements, "correct_binary"),
            "Open": mean_percent(judgements, "correct_open"),
            "Accuracy / structural type": {
                kind: mean_percent([i for i in judgements if i.category == kind], "correct")
                for kind in types
            },
        }

    def write_submission(
        self, responses: Sequence[Response], path: Path, data: Optional[Path] = None
    ) -> None:
        """`[{"questionId": ..., "prediction": ...}]`: testdev_balanced_predictions.json."""
        rows = [
            {"questionId": question_id, "prediction": prediction(response.text)}
            for question_id, response in question_ids(answered(responses, self.name))
        ]
        path.write_text(json.dumps(rows), encoding="utf-8")

    def _sample(
        self,
        question_id: str,
        row: Mapping[str, Json],
        where: str,
        images: Path,
        data: Optional[Path],
        prompt: Optional[str] = None,
    ) -> Sample:
        with_keys(row, ("imageId", "question", "answer", "types"), where)
        types = row["types"]
        image = f"{string(row, 'imageId', where)}.jpg"
        return Sample(
            task=self.name,
            id=question_id,
            request=image,
            prompt=prompt or string(row, "question", where) + SHORT_ANSWER,
            pictures=(file_picture(relative(images / image, data or images)),),
            category=str(types.get("structural", "")) if isinstance(types, dict) else "",
            references=(string(row, "answer", where),),
            metadata={"question_id": question_id, "image": image},
        )


class GqaRule(Judge):
    """An answer is right that equals the one answer, without periods at its end, in lower case.

    Nothing else is mended: "A dog" and " dog" are not "dog". An empty answer is a wrong one.
    """

    name = Gqa.name
    judges_empty = True

    @property
    def metrics(self) -> Sequence[Metric]:
        """Accuracy; that of questions with two answers to choose from; that of the others."""
        return (
            ACCURACY,
            Metric("binary_accuracy", "correct_binary", True, None, "yes or no, this or that"),
            Metric("open_accuracy", "correct_open", True, None, "any answer"),
        )

    def describe(self) -> Mapping[str, Json]:
        """The rule's name."""
        return {"rule": "GQA eval.py after LLaVA's convert_gqa_for_eval.py"}

    def judge(self, responses: Sequence[Response]) -> Sequence[Verdict]:
        """Each answer by itself."""
        verdicts = []
        for response in responses:
            said = prediction(response.text)
            correct = float(said == response.sample.references[0])
            kind = "correct_open" if response.sample.category == _OPEN else "correct_binary"
            values: Dict[str, float] = {"correct": correct, kind: correct}
            verdicts.append(Verdict(values, explanation=f"counts as {said!r}"))
        return verdicts


def prediction(text: str) -> str:
    """The answer as LLaVA's convert_gqa_for_eval.py hands it to GQA's eval.py."""
    return text.rstrip(".").lower()
