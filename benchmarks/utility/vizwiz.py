"""VizWiz-VQA: questions of blind people about their own pictures (Gurari et al., CVPR 2018).

The test answers are with a server (EvalAI). LLaVA asks 8000 questions, tells the model to say
'Unanswerable' where the picture does not do, and uploads what `m4c_answer` makes of the answers
(haotian-liu/LLaVA, scripts/convert_vizwiz_for_submission.py). The validation set has answers and is
scored here. Data: CC BY 4.0.
"""

import json
from pathlib import Path
from typing import Iterator, List, Mapping, Optional, Sequence

from regap_benchmarks.benchmark import Benchmark
from regap_benchmarks.judges.judge import Judge
from regap_benchmarks.official.files import (
    first_file,
    folder_of,
    read_json,
    relative,
    string,
    with_keys,
)
from regap_benchmarks.official.stored_answers import LAST
from regap_benchmarks.pictures import file_picture
from regap_benchmarks.records import Json, Judgement, Response, RunHeader, Sample
from regap_benchmarks.utility.lmms_lab import parquet_files
from regap_benchmarks.utility.vqa_answer import m4c_answer, m4c_score
from regap_benchmarks.utility.vqa_parquet import vizwiz_val
from regap_benchmarks.utility.vqa_scorer import (
    ANSWERED,
    SAID_UNANSWERABLE,
    SHORT_ANSWER,
    VQA_ACCURACY,
    VqaScorer,
    answered,
    mean_percent,
    people,
    question_lines,
)

HINT = "\nWhen the provided information is insufficient, respond with 'Unanswerable'."
_SOURCE = (
    "Gurari et al., CVPR 2018; vizwiz.org; LLaVA's convert_vizwiz_for_submission.py; CC BY 4.0"
)


class VizWiz(Benchmark):
    """The test set, as LLaVA asks it; a server has the answers."""

    name = "vizwiz"
    version = 1
    summary = "blind people's questions: 8000 of the test set, scored by a server"
    kind = "utility"
    needs = "vizwiz/llava_test.jsonl of LLaVA's eval.zip; vizwiz/test/*.jpg of vizwiz.org"
    source = _SOURCE
    # Upstream's script keeps the last answer to a question, and passes over others' questions.
    answered_twice = LAST
    ignores_unknown = True

    def samples(self, data: Optional[Path]) -> Iterator[Sample]:
        """LLaVA's questions, in their order."""
        folder = folder_of(data, ("vizwiz",), self.name, self.needs)
        path = first_file(folder, ("llava_test.jsonl",), self.name, self.needs)
        for _, sample, _ in question_lines(path, folder / "test", self.name, data or folder):
            yield sample

    def scorer(self) -> Judge:
        """What can be said without the server: how many answers say something."""
        return VqaScorer(self.name, (ANSWERED, SAID_UNANSWERABLE), "m4c_answer", m4c_score)

    def write_submission(
        self, responses: Sequence[Response], path: Path, data: Optional[Path] = None
    ) -> None:
        """`[{"image": ..., "answer": ...}]`, in the order of the questions."""
        rows = [
            {"image": response.sample.metadata["image"], "answer": m4c_answer(response.text)}
            for response in answered(responses, self.name)
        ]
        path.write_text(json.dumps(rows), encoding="utf-8")


class VizWizVal(Benchmark):
    """The validation set, scored as M4C scores: the official annotations have ten answers each."""

    name = "vizwiz_val"
    version = 1
    summary = "blind people's questions: 4319 of the validation set"
    kind = "utility"
    needs = (
        "vizwiz/val.json and vizwiz/val/*.jpg of vizwiz.org (Annotations.zip, val.zip); or"
        " VizWiz-VQA/data/val-*.parquet of lmms-lab/VizWiz-VQA"
    )
    source = _SOURCE

    def samples(self, data: Optional[Path]) -> Iterator[Sample]:
        """The official questions with LLaVA's prompt, which capitalises them; ids are images."""
        folder = folder_of(data, ("vizwiz", "VizWiz-VQA"), self.name, self.needs)
        files = parquet_files(folder, "val")
        if files and not (folder / "val.json").is_file():
            yield from vizwiz_val(self.name, files, data or folder, HINT)
            return
        path = first_file(folder, ("val.json", "Annotations/val.json"), self.name, self.needs)
        for number, row in enumerate(_list(path)):
            where = f"{path}, question {number}"
            with_keys(row, ("image", "question", "answers"), where)
            image = string(row, "image", where)
            yield Sample(
                task=self.name,
                id=image,
                request=image,
                prompt=string(row, "question", where).capitalize() + HINT + SHORT_ANSWER,
                pictures=(file_picture(relative(folder / "val" / image, data or folder)),),
                category=str(row.get("answer_type", "")),
                references=people(row["answers"], where),
                metadata={"question_id": image, "image": image},
            )

    def scorer(self) -> Judge:
        """M4C's score."""
        metrics = (VQA_ACCURACY, SAID_UNANSWERABLE)
        return VqaScorer(self.name, metrics, "m4c_score", m4c_score)

    def official(self, header: RunHeader, judgements: Sequence[Judgement]) -> Mapping[str, Json]:
        """Accuracy in percent; None with gaps, where LLaVA's script for the test set stops."""
        whole = sum("score" in item.values for item in judgements) == header.samples
        return {"accuracy": mean_percent(judgements, "score") if whole else None}


def _list(path: Path) -> List[Mapping[str, Json]]:
    rows = read_json(path)
    if not isinstance(rows, list):
        raise ValueError(
            f"{path}: expected a JSON list of questions, found a {type(rows).__name__}. Pass the"
            " official file."
        )
    return rows
