"""VQAv2: short answers about COCO pictures (Goyal et al., CVPR 2017, arXiv 1612.00837).

LLaVA asks the 107 394 questions of test-dev2015, whose answers a server has (EvalAI 830), and
uploads what `m4c_answer` makes of them for all of test2015, "" where it did not ask
(haotian-liu/LLaVA, scripts/convert_vqav2_for_submission.py). Of val2014 the answers are public:
there the same upload is scored here as the server does it. Data: CC BY 4.0.
"""

import json
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence

from regap_benchmarks.benchmark import Benchmark
from regap_benchmarks.judges.judge import Judge
from regap_benchmarks.official.files import (
    first_file,
    folder_of,
    read_json_lines,
    read_json_object,
    relative,
    string,
    with_keys,
)
from regap_benchmarks.official.stored_answers import LAST
from regap_benchmarks.pictures import file_picture
from regap_benchmarks.records import ERROR, Json, Judgement, Response, RunHeader, Sample
from regap_benchmarks.utility.lmms_lab import parquet_files
from regap_benchmarks.utility.vqa_answer import m4c_answer, vqa_tool_score
from regap_benchmarks.utility.vqa_parquet import vqav2_val
from regap_benchmarks.utility.vqa_scorer import (
    ANSWERED,
    SHORT_ANSWER,
    VQA_ACCURACY,
    VqaScorer,
    people,
    question_lines,
)

_TEST_DEV = "llava_vqav2_mscoco_test-dev2015.jsonl"
_TEST = "llava_vqav2_mscoco_test2015.jsonl"
_VAL = "v2_OpenEnded_mscoco_val2014_questions.json"
_VAL_ANSWERS = "v2_mscoco_val2014_annotations.json"
_SOURCE = "arXiv 1612.00837; visualqa.org; LLaVA's convert_vqav2_for_submission.py; CC BY 4.0"


def submitted_score(answer: str, answers: Sequence[str]) -> float:
    """What the challenge's tool gives an answer that was uploaded as LLaVA does it."""
    return vqa_tool_score(m4c_answer(answer), answers)


class VqaV2(Benchmark):
    """Test-dev, as LLaVA asks it; a server has the answers."""

    name = "vqav2"
    version = 1
    summary = "short answers: 107,394 questions of test-dev2015, scored by a server"
    kind = "utility"
    needs = (
        f"vqav2/{_TEST_DEV} and, to submit, vqav2/{_TEST} of LLaVA's eval.zip;"
        " vqav2/test2015/*.jpg of COCO"
    )
    source = _SOURCE
    # Upstream's script keeps the last answer to a question, and passes over others' questions.
    answered_twice = LAST
    ignores_unknown = True
    submits_gaps = True

    def samples(self, data: Optional[Path]) -> Iterator[Sample]:
        """LLaVA's questions, in their order."""
        folder = folder_of(data, ("vqav2",), self.name, self.needs)
        path = first_file(folder, (_TEST_DEV,), self.name, self.needs)
        for _, sample, _ in question_lines(path, folder / "test2015", self.name, data or folder):
            yield sample

    def scorer(self) -> Judge:
        """What can be said without the server: how many answers say something."""
        return VqaScorer(self.name, (ANSWERED,), "m4c_answer", submitted_score)

    def write_submission(
        self, responses: Sequence[Response], path: Path, data: Optional[Path] = None
    ) -> None:
        """`[{"question_id": ..., "answer": ...}]` for all of test2015; "" where none is there."""
        if data is None:
            raise ValueError(
                f"Task {self.name!r}: expected --data, since the server wants a line for each"
                f" question of {_TEST}, found none. Use regap-bench submit with --data."
            )
        folder = folder_of(data, ("vqav2",), self.name, self.needs)
        questions = first_file(folder, (_TEST,), self.name, self.needs)
        said = {
            str(response.sample.metadata["question_id"]): m4c_answer(response.text)
            for response in responses
            if response.finish != ERROR
        }
        rows = [
            {"question_id": line["question_id"], "answer": said.pop(str(line["question_id"]), "")}
            for _, line in read_json_lines(questions, ("question_id",))
        ]
        if said:
            raise ValueError(
                f"{questions}: expected all questions that were asked, found {len(said)} missing,"
                f" such as {next(iter(said))}. Fetch the file again."
            )
        path.write_text(json.dumps(rows), encoding="utf-8")


class VqaV2Val(Benchmark):
    """The validation set, scored as the server scores LLaVA's uploads."""

    name = "vqav2_val"
    version = 1
    summary = "short answers: 214,354 questions of val2014, scored here"
    kind = "utility"
    needs = (
        f"vqav2/{_VAL} and {_VAL_ANSWERS} of visualqa.org; vqav2/val2014/*.jpg of COCO; or"
        " VQAv2/data/validation-*.parquet of lmms-lab/VQAv2"
    )
    source = _SOURCE

    def samples(self, data: Optional[Path]) -> Iterator[Sample]:
        """The official questions with LLaVA's prompt; the category is the type of answer."""
        folder = folder_of(data, ("vqav2", "VQAv2"), self.name, self.needs)
        files = parquet_files(folder, "validation")
        if files and not (folder / _VAL).is_file():
            yield from vqav2_val(self.name, files, data or folder)
            return
        known = self._answers(first_file(folder, (_VAL_ANSWERS,), self.name, self.needs))
        path = first_file(folder, (_VAL,), self.name, self.needs)
        for number, row in enumerate(_list(path, "questions")):
            where = f"{path}, question {number}"
            with_keys(row, ("question_id", "image_id", "question"), where)
            if row["question_id"] not in known:
                raise ValueError(
                    f"{where}: expected a question of {_VAL_ANSWERS}, found {row['question_id']!r}."
                    " Fetch both files again."
                )
            answers = known[row["question_id"]]
            image = folder / "val2014" / f"COCO_val2014_{int(row['image_id']):012d}.jpg"
            yield Sample(
                task=self.name,
                id=str(row["question_id"]),
                request=image.name,
                prompt=string(row, "question", where) + SHORT_ANSWER,
                pictures=(file_picture(relative(image, data or folder)),),
                category=str(answers["answer_type"]),
                references=people(answers["answers"], where),
                metadata={"question_id": row["question_id"], "image": image.name},
            )

    def scorer(self) -> Judge:
        """The challenge's rule over LLaVA's upload."""
        rule = "vqa_tool_score of m4c_answer"
        return VqaScorer(self.name, (VQA_ACCURACY,), rule, submitted_score)

    def official(self, header: RunHeader, judgements: Sequence[Judgement]) -> Mapping[str, Json]:
        """`overall` and `perAnswerType` of vqaEval.py: percent, to two decimals.

        A missing answer is the empty one that LLaVA uploads in its place, and wrong.
        """
        by_type: Dict[str, Json] = {}
        for kind in dict.fromkeys(cell.category for cell in header.cells):
            asked = sum(cell.samples for cell in header.cells if cell.category == kind)
            by_type[kind] = _percent([i for i in judgements if i.category == kind], asked)
        return {"overall": _percent(judgements, header.samples), "perAnswerType": by_type}

    def _answers(self, path: Path) -> Dict[Any, Mapping[str, Any]]:
        found: Dict[Any, Mapping[str, Any]] = {}
        for number, row in enumerate(_list(path, "annotations")):
            where = f"{path}, annotation {number}"
            with_keys(row, ("question_id", "answers", "answer_type"), where)
            found[row["question_id"]] = row
        return found


def _list(path: Path, key: str) -> List[Dict[str, Any]]:
    rows = read_json_object(path).get(key)
    if not isinstance(rows, list):
        raise ValueError(
            f"{path}: expected a list under {key!r}, found {type(rows).__name__}. Pass the official"
            " file."
        )
    return rows


def _percent(judgements: Sequence[Judgement], asked: int) -> Optional[float]:
    # In vqaEval.py's order of operations.
    total = sum(item.values.get("score", 0.0) for item in judgements)
    return round(100 * total / asked, 2) if asked else None
