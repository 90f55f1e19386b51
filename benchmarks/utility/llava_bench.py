"""LLaVA-Bench (in the wild): open questions, graded against answers of GPT-4.

Liu et al., NeurIPS 2023, arXiv 2304.08485; liuhaotian/llava-bench-in-the-wild. The grader gives the
reference and the model two scores from 1 to 10; the benchmark's is the ratio of their means. The
official grader, gpt-4-0314, is gone: numbers of another one are not comparable with published ones.
"""

from pathlib import Path
from typing import Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from regap_benchmarks.benchmark import Benchmark
from regap_benchmarks.judges.chat_server import ChatServer
from regap_benchmarks.judges.grader import Grader
from regap_benchmarks.judges.judge import Judge, Verdict
from regap_benchmarks.metrics import Metric
from regap_benchmarks.official.files import (
    first_file,
    folder_of,
    read_json_lines,
    read_json_object,
    relative,
    string,
    with_keys,
)
from regap_benchmarks.official.stored_answers import (
    StoredAnswer,
    StoredAnswers,
    as_official,
    read_llava_answers,
)
from regap_benchmarks.pictures import file_picture
from regap_benchmarks.records import (
    SCORED,
    UNPARSED,
    Json,
    Judgement,
    Response,
    RunHeader,
    Sample,
)
from regap_benchmarks.utility.lmms_lab import parquet_files, parquet_rows

SYSTEM = "You are a helpful and precise assistant for checking the quality of the answer."
TEMPERATURE, MAX_TOKENS = 0.2, 1024
CATEGORIES = ("conv", "detail", "complex")
_RULE = "llava_bench_{}"
_HIGHEST = 10.0
_FOLDERS = ("llava-bench-in-the-wild", "llava_bench")


class LlavaBench(Benchmark):
    """60 questions about 24 pictures: conversation, detail and complex reasoning."""

    name = "llava_bench"
    version = 1
    summary = "LLaVA-Bench (in the wild): 60 open questions, graded against GPT-4's answers"
    kind = "utility"
    needs = (
        "llava-bench-in-the-wild/questions.jsonl, context.jsonl, answers_gpt4.jsonl and images of"
        " liuhaotian/llava-bench-in-the-wild, or data/train-*.parquet of lmms-lab's set of that"
        " name; to grade, rule.json of LLaVA's llava/eval/table beside them,"
        " --grader-url and --grader-model"
    )
    source = (
        "arXiv 2304.08485; liuhaotian/llava-bench-in-the-wild; LLaVA's eval_gpt_review_bench.py"
    )

    def samples(self, data: Optional[Path]) -> Iterator[Sample]:
        """In the order of the file."""
        folder = folder_of(data, _FOLDERS, self.name, self.needs)
        rules = read_json_object(folder / "rule.json") if (folder / "rule.json").is_file() else {}
        files = parquet_files(folder, "train")
        if files and not (folder / "questions.jsonl").is_file():
            yield from self._from_parquet(files, data or folder, rules)
            return
        path = first_file(folder, ("questions.jsonl",), self.name, self.needs)
        references = {
            str(line["question_id"]): string(line, "text", where)
            for where, line in read_json_lines(
                folder / "answers_gpt4.jsonl", ("question_id", "text")
            )
        }
        contexts = {
            str(line["image"]): _caption(line["caption"])
            for _, line in read_json_lines(folder / "context.jsonl", ("image", "caption"))
        }
        for where, line in read_json_lines(path, ("question_id", "image", "text", "category")):
            number, image = str(line["question_id"]), str(line["image"])
            if number not in references or image not in contexts:
                raise ValueError(
                    f"{where}: expected an answer of GPT-4 and a context for the question, found"
                    f" none for {number!r} or {image!r}. Fetch the files of one release."
                )
            category = string(line, "category", where)
            question = string(line, "text", where)
            picture = folder / "images" / image
            yield Sample(
                task=self.name,
                id=number,
                request=image,
                prompt=question,
                pictures=(file_picture(relative(picture, data or folder)),),
                category=category,
                references=(references[number],),
                metadata=_grading(rules, category, contexts[image], question, references[number]),
            )

    def _from_parquet(
        self, files: Sequence[Path], data: Path, rules: Mapping[str, Json]
    ) -> Iterator[Sample]:
        columns = ("question_id", "question", "category", "caption", "gpt_answer", "image_id")
        for where, row, picture in parquet_rows(files, data, columns):
            question, category = string(row, "question", where), string(row, "category", where)
            reference = string(row, "gpt_answer", where)
            yield Sample(
                task=self.name,
                id=str(row["question_id"]),
                request=str(row["image_id"]),
                prompt=question,
                pictures=(picture,) if picture else (),
                category=category,
                references=(reference,),
                metadata=_grading(rules, category, _caption(row["caption"]), question, reference),
            )

    def scorer(self) -> Judge:
        """The grader that the flags or the environment name."""
        return LlavaBenchGrader()

    def stored_answers(self, path: Path, data: Optional[Path]) -> StoredAnswers:
        """Reviews of eval_gpt_review_bench.py, which need no `data`; or LLaVA's answers."""
        lines = list(read_json_lines(path, ("question_id",)))
        if not any("tuple" in line for _, line in lines):
            return StoredAnswers(as_official(tuple(self.samples(data))), read_llava_answers(path))
        samples: Dict[str, Sample] = {}
        answers = []
        for where, line in lines:
            review = with_keys(line, ("question_id", "category", "tuple", "content"), where)
            number = str(review["question_id"])
            category = string(review, "category", where).replace(_RULE.format(""), "")
            samples.setdefault(number, Sample(self.name, number, number, "", category=category))
            verdict = _stored_verdict(review["tuple"], string(review, "content", where), where)
            answers.append(StoredAnswer(number, "graded", where, verdict=verdict))
        if data is None:
            note = "The questions are those that are reviewed: give --data to see missing ones."
            return StoredAnswers(as_official(tuple(samples.values())), tuple(answers), (note,))
        return StoredAnswers(as_official(tuple(self.samples(data))), tuple(answers))

    def official(self, header: RunHeader, judgements: Sequence[Judgement]) -> Mapping[str, Json]:
        """What summarize_gpt_review.py prints: percent with one decimal, by category.

        A review that cannot be read enters the means as -1 and -1, as there.
        """
        pairs: Dict[str, List[Tuple[float, float]]] = {"all": []}
        for item in judgements:
            pair = read_scores(item.raw) if item.raw else None
            if item.status in (SCORED, UNPARSED):
                pairs.setdefault(item.category, []).append(pair or (-1.0, -1.0))
                pairs["all"].append(pair or (-1.0, -1.0))
        return {
            **{name: _summary(found) for name, found in sorted(pairs.items())},
            "unread": sum(item.status == UNPARSED for item in judgements),
        }


class LlavaBenchGrader(Grader):
    """Asks a model for two scores, as eval_gpt_review_bench.py does.

    A reply whose first line is not two numbers is unparsed: it has no score in the estimates, and
    -1 of -1 in the official numbers.
    """

    name = LlavaBench.name
    more_values = ("reference",)

    @property
    def metrics(self) -> Sequence[Metric]:
        """The ratio is the published one."""
        return (
            Metric(
                "relative_score",
                "score",
                True,
                summary="mean score over that of the reference answers",
                statistic="ratio_to_reference",
            ),
            Metric("score", "score", True, summary="mean score, of 10"),
        )

    def describe(self) -> Mapping[str, Json]:
        """The model; None where nothing names one, such as for stored reviews."""
        return {
            "rule": "LLaVA eval_gpt_review_bench.py",
            "model": self.model,
            "temperature": TEMPERATURE,
            "max_tokens": MAX_TOKENS,
        }

    def judge(self, responses: Sequence[Response]) -> Sequence[Verdict]:
        """One request for each answer."""
        return [self._graded(self.server, response) for response in responses]

    def _graded(self, server: ChatServer, response: Response) -> Verdict:
        metadata = response.sample.metadata
        before, after = metadata.get("grading_before"), metadata.get("grading_after")
        if not isinstance(before, str) or not isinstance(after, str):
            raise ValueError(
                f"Sample {response.sample.id!r} of 'llava_bench': expected the grader's rule in the"
                " record, found none. Put rule.json of LLaVA's llava/eval/table into the folder"
                f" {_FOLDERS[0]} of --data, and generate again."
            )
        reply = server.ask(
            [
                {"role": "system", "content": SYSTEM},
                {"role": "user", "content": before + response.text + after},
            ],
            temperature=TEMPERATURE,
            max_tokens=MAX_TOKENS,
        )
        return review_verdict(reply)


def read_scores(review: str) -> Optional[Tuple[float, float]]:
    """The two numbers of a review's first line, split at single spaces; None for anything else."""
    parts = review.split("\n")[0].replace(",", " ").split(" ")
    if len(parts) != 2:
        return None
    try:
        return float(parts[0]), float(parts[1])
    except ValueError:
        return None


def review_verdict(review: str) -> Verdict:
    """What a review says of an answer, with the scores of 10 as fractions."""
    pair = read_scores(review)
    if pair is None:
        return Verdict(
            status=UNPARSED,
            explanation="no two scores in the first line, -1 officially",
            raw=review,
        )
    reference, score = (value / _HIGHEST for value in pair)
    if not (0 <= reference <= 1 and 0 <= score <= 1):
        return Verdict(status=UNPARSED, explanation=f"scores {pair} out of range", raw=review)
    values = {"score": score, "reference": reference}
    return Verdict(values, SCORED, f"{pair[1]:g} against {pair[0]:g}", review)


def _stored_verdict(pair: Json, review: str, where: str) -> Verdict:
    found = read_scores(review) or (-1.0, -1.0)
    if not isinstance(pair, list) or [float(str(value)) for value in pair] != list(found):
        raise ValueError(
            f"{where}: expected the scores that the review's first line says, {list(found)}, found"
            f" {pair}. The file was changed: restore it."
        )
    return review_verdict(review)


def _summary(pairs: Sequence[Tuple[float, float]]) -> Optional[Dict[str, Json]]:
    if not pairs:
        return None
    reference, score = (round(sum(column) / len(pairs), 3) for column in zip(*pairs))
    return {
        "relative_score": round(score / reference * 100, 1) if reference else None,
        "reference": round(reference * 10, 1),
        "score": round(score * 10, 1),
        "n": len(pairs),
    }


def _caption(caption: Json) -> str:
    return "\n".join(map(str, caption)) if isinstance(caption, list) else str(caption)


def _grading(
    rules: Mapping[str, Json], category: str, context: str, question: str, reference: str
) -> Dict[str, Json]:
    """What stands before and after the model's answer in the message to the grader."""
    if not rules:
        return {}
    name = _RULE.format(category)
    rule = with_keys(rules.get(name), ("prompt", "role"), f"rule.json, {name}")
    role = rule["role"]
    return {
        "grading_before": (
            f"[Context]\n{context}\n\n[Question]\n{question}\n\n[{role} 1]\n{reference}\n\n"
            f"[End of {role} 1]\n\n[{role} 2]\n"
        ),
        "grading_after": f"\n\n[End of {role} 2]\n\n[System]\n{rule['prompt']}\n\n",
    }
