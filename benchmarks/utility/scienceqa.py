"""ScienceQA: questions of school science with several choices (Lu et al., NeurIPS 2022).

arXiv 2209.09513; lupantech/ScienceQA, CC BY-NC-SA 4.0. The rule is LLaVA's eval_science_qa.py.
LLaVA publishes the accuracy of the questions with a picture (SQA-IMG); 2023's files are of all.
"""

import re
from pathlib import Path
from typing import Any, Iterator, Mapping, Optional, Sequence

from regap_benchmarks.benchmark import Benchmark
from regap_benchmarks.judges.judge import Judge, Verdict
from regap_benchmarks.metrics import PARSED_ACCURACY, Metric
from regap_benchmarks.official.files import (
    first_file,
    folder_of,
    read_json,
    read_json_object,
    relative,
    with_keys,
)
from regap_benchmarks.official.stored_answers import (
    LAST,
    StoredAnswer,
    StoredAnswers,
    as_official,
    read_llava_answers,
)
from regap_benchmarks.pictures import file_picture
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

SUFFIX = "\nAnswer with the option's letter from the given choices directly."
IMAGE, TEXT = "image", "text"
_LETTERS = "ABCDE"
_PLACEHOLDER = "<image>"
# The last character stands for any: upstream does not escape the full stop.
_ANSWER_IS = re.compile(r"The answer is ([A-Z]).")
_PROBLEMS = ("problems.json", "problems_test_min.json")


class ScienceQA(Benchmark):
    """The test split as LLaVA asks it; the category says whether a question has a picture."""

    name = "scienceqa"
    version = 1
    summary = "science questions with choices; 4241, of which 2017 have a picture (SQA-IMG)"
    kind = "utility"
    needs = (
        "scienceqa/llava_test_CQM-A.json of LLaVA's eval.zip; scienceqa/problems.json and"
        " scienceqa/images/test of lupantech/ScienceQA; or"
        " ScienceQA/ScienceQA-FULL/test-*.parquet of lmms-lab/ScienceQA"
    )
    source = "arXiv 2209.09513; lupantech/ScienceQA, CC BY-NC-SA 4.0; LLaVA's eval_science_qa.py"
    answered_twice = LAST
    ignores_unknown = True

    def samples(self, data: Optional[Path]) -> Iterator[Sample]:
        """LLaVA's questions, in their order."""
        folder = folder_of(data, ("scienceqa", "ScienceQA"), self.name, self.needs)
        # Beside it there may be ScienceQA-IMG, a part of the same questions.
        files = parquet_files(folder / "ScienceQA-FULL") or parquet_files(folder)
        if files and not (folder / "llava_test_CQM-A.json").is_file():
            yield from self._from_parquet(files, data or folder)
            return
        path = first_file(folder, ("llava_test_CQM-A.json",), self.name, self.needs)
        problems_path = first_file(folder, _PROBLEMS, self.name, self.needs)
        problems = read_json_object(problems_path)
        pictures = next(
            (folder / name for name in ("images/test", "test") if (folder / name).is_dir()),
            folder / "images/test",
        )
        for number, item in enumerate(read_json(path)):
            where = f"{path}, item {number}"
            question = with_keys(item, ("id", "conversations"), where)
            problem = with_keys(
                problems.get(str(question["id"])),
                ("answer", "choices"),
                f"{problems_path}, problem {question['id']!r}",
            )
            yield self._sample(question, problem, pictures, data or folder)

    def scorer(self) -> Judge:
        """The rule of LLaVA's eval_science_qa.py."""
        return ChoiceRule()

    def stored_answers(self, path: Path, data: Optional[Path]) -> StoredAnswers:
        """LLaVA's answer lines, or its result file with an answer for each id under "outputs"."""
        samples = as_official(tuple(self.samples(data)))
        if not path.name.endswith((".json", ".json.gz")):
            answers = read_llava_answers(path)
            pictured = {sample.id for sample in samples if sample.category == IMAGE}
            odd = [
                answer.id
                for answer in answers
                if answer.prompt and (_PLACEHOLDER in answer.prompt) != (answer.id in pictured)
            ]
            notes = (
                (
                    f"{len(odd)} prompts, such as that of {odd[0]}, disagree with the question file"
                    " on whether there is a picture: upstream's IMG-Accuracy goes by the prompt,"
                    " and so does the official number.",
                )
                if odd
                else ()
            )
            return StoredAnswers(samples, answers, notes)
        outputs = with_keys(read_json(path), ("outputs",), str(path))["outputs"]
        if not isinstance(outputs, dict) or not all(isinstance(v, str) for v in outputs.values()):
            raise ValueError(
                f"{path}: expected an answer's text for each id under 'outputs', found"
                f" {type(outputs).__name__}. Pass the --output-result of eval_science_qa.py."
            )
        return StoredAnswers(
            samples,
            tuple(
                StoredAnswer(str(name), text, f"{path}, output {name!r}")
                for name, text in outputs.items()
            ),
        )

    def official(self, header: RunHeader, judgements: Sequence[Judgement]) -> Mapping[str, Json]:
        """Accuracies in percent, unrounded; a question without an answer is a wrong one."""
        total = header.samples
        correct = sum(item.values.get("correct", 0.0) for item in judgements)
        pictured = [item.values["image_correct"] for item in judgements if _pictured(item)]
        return {
            "acc": correct / total * 100 if total else None,
            "img_acc": sum(pictured) / len(pictured) * 100 if pictured else None,
            "correct": int(correct),
            "count": total,
        }

    def _sample(
        self, question: Mapping[str, Any], problem: Mapping[str, Any], pictures: Path, data: Path
    ) -> Sample:
        number = str(question["id"])
        text = str(question["conversations"][0]["value"]).replace(_PLACEHOLDER, "").strip()
        image = question.get("image")
        return Sample(
            task=self.name,
            id=number,
            request=number,
            prompt=text + SUFFIX,
            pictures=(file_picture(relative(pictures / str(image), data)),) if image else (),
            category=IMAGE if image else TEXT,
            references=(_LETTERS[int(problem["answer"])],),
            metadata={"choices": len(problem["choices"])},
        )

    def _from_parquet(self, files: Sequence[Path], data: Path) -> Iterator[Sample]:
        """Rows have no id: it is their number, so upstream's answer files do not fit them."""
        columns = ("question", "choices", "answer", "hint")
        rows = parquet_rows(files, data, columns, optional_picture=True)
        for number, (_, row, picture) in enumerate(rows):
            choices = [str(choice) for choice in row["choices"]]
            lines = [f"Context: {row['hint']}"] if row["hint"] else []
            lines.append(str(row["question"]))
            lines += [f"{letter}. {choice}" for letter, choice in zip(_LETTERS, choices)]
            yield Sample(
                task=self.name,
                id=f"row-{number}",
                request=f"row-{number}",
                prompt="\n".join(lines) + SUFFIX,
                pictures=(picture,) if picture else (),
                category=IMAGE if picture else TEXT,
                references=(_LETTERS[int(row["answer"])],),
                metadata={"choices": len(choices)},
            )


class ChoiceRule(Judge):
    """The official rule: a letter alone, "X. ...", or "The answer is X." exactly once.

    What is none of these, or a letter that has no choice, is unparsed; the official numbers count
    it as wrong.
    """

    name = ScienceQA.name
    judges_empty = True

    @property
    def metrics(self) -> Sequence[Metric]:
        """Of all, and of the questions with a picture."""
        return (
            Metric("accuracy", "correct", True, summary="answers that are right", official=True),
            Metric(
                "image_accuracy",
                "image_correct",
                True,
                summary="of the questions with a picture: SQA-IMG",
                official=True,
            ),
            PARSED_ACCURACY,
        )

    def describe(self) -> Mapping[str, Json]:
        """The rule's name."""
        return {"rule": "LLaVA eval_science_qa.py"}

    def judge(self, responses: Sequence[Response]) -> Sequence[Verdict]:
        """Each answer by itself."""
        return [_verdict(response) for response in responses]


def letter_of(text: str) -> Optional[str]:
    """The letter that the official rule reads; None where it reads "FAILED"."""
    if len(text) == 1 and text in _LETTERS:
        return text
    if len(text) >= 3 and text[0] in _LETTERS and text[1:3] == ". ":
        return text[0]
    found = _ANSWER_IS.findall(text)
    return found[0] if len(found) == 1 else None


def choice_of(text: str, choices: int) -> Optional[str]:
    """The letter of one of the first so many choices; None where the rule finds no such letter."""
    letter = letter_of(text)
    return letter if letter is not None and letter in _LETTERS[:choices] else None


def _verdict(response: Response) -> Verdict:
    sample = response.sample
    choices = int(str(sample.metadata["choices"]))
    letter = choice_of(response.text, choices)
    correct = float(letter in sample.references)
    values = {"correct": correct}
    if _has_picture(response):
        values["image_correct"] = correct
    if letter is not None:
        values["parsed_correct"] = correct
        return Verdict(values, SCORED, f"reads {letter}")
    status = UNPARSED if response.text.strip() else EMPTY
    found = letter_of(response.text)
    why = f"{found} of {choices} choices" if found else "no letter by the rule"
    return Verdict(values, status, why)


def _has_picture(response: Response) -> bool:
    # A file of upstream's says in its prompt whether there was one; a run's records in its sample.
    if response.sample.metadata.get("question_id") is not None and response.rendered_prompt:
        return _PLACEHOLDER in response.rendered_prompt
    return response.sample.category == IMAGE


def _pictured(judgement: Judgement) -> bool:
    return "image_correct" in judgement.values
