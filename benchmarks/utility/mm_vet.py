"""MM-Vet: open questions that need several capabilities at once, graded by a model.

Yu et al., ICML 2024, arXiv 2308.02490; yuweihao/MM-Vet, data CC BY-NC 4.0. The grader is shown a
table of examples, question, right answer and answer, and completes the last cell: 0.0 to 1.0. The
official grader is gpt-4-0613; numbers of another one are not comparable with published ones.
"""

import ast
import dataclasses
import json
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Set, Tuple

from regap_benchmarks.benchmark import Benchmark
from regap_benchmarks.judges.chat_server import ChatServer
from regap_benchmarks.judges.grader import Grader
from regap_benchmarks.judges.judge import Judge, Verdict
from regap_benchmarks.metrics import Metric
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
    SCORED,
    UNPARSED,
    Json,
    Judgement,
    Picture,
    Response,
    RunHeader,
    Sample,
)
from regap_benchmarks.utility.lmms_lab import parquet_files, parquet_rows

CAPABILITIES = ("rec", "ocr", "know", "gen", "spat", "math")
TRIES = 5
_MAX_TOKENS = 3
_WARMER = 0.5
_EVALUATOR, _QUESTIONS, _BARD_SET = "mm-vet_evaluator.py", "mm-vet.json", "bard_set.json"
# "FILE, PLACE", id, columns, picture.
_Row = Tuple[str, str, Mapping[str, Any], Optional[Picture]]


class MMVet(Benchmark):
    """218 questions; the category is the set of capabilities that each needs."""

    name = "mm_vet"
    version = 1
    summary = "218 open questions that need several capabilities, graded by a model"
    kind = "utility"
    needs = (
        "mm-vet/mm-vet.json, bard_set.json and images of mm-vet.zip; or MMVet/data/test-*.parquet"
        " of lmms-lab/MMVet; to grade, mm-vet_evaluator.py beside them"
        " of yuweihao/MM-Vet, whose examples are shown to the grader, --grader-url and"
        " --grader-model"
    )
    source = "arXiv 2308.02490; yuweihao/MM-Vet, Apache-2.0, data CC BY-NC 4.0"
    answered_twice = LAST

    def samples(self, data: Optional[Path]) -> Iterator[Sample]:
        """In the order of the file; ids are v1_NUMBER."""
        folder = folder_of(data, ("mm-vet", "mmvet", "MMVet"), self.name, self.needs)
        rubric = _rubric(folder / _EVALUATOR)
        bard = _bard_set(folder / _BARD_SET)
        files = parquet_files(folder)
        in_table = files and not (folder / _QUESTIONS).is_file()
        rows = self._table(files, data or folder) if in_table else self._file(folder, data)
        found = set()
        for where, name, row, picture in rows:
            found.add(name)
            capabilities = [word for word in CAPABILITIES if word in row["capability"]]
            if set(row["capability"]) - set(CAPABILITIES) or not capabilities:
                raise ValueError(
                    f"{where}: expected capabilities of {', '.join(CAPABILITIES)}, found"
                    f" {row['capability']}. Pass the official file."
                )
            question, reference = str(row["question"]), str(row["answer"])
            answer = reference.replace("<AND>", " <AND> ").replace("<OR>", " <OR> ")
            yield Sample(
                task=self.name,
                id=name,
                request=str(row.get("imagename", name)),
                prompt=question,
                pictures=(picture,) if picture else (),
                category="_".join(capabilities),
                references=(reference,),
                metadata={
                    "capabilities": list(capabilities),
                    "row": [question, answer],
                    "bard": name in bard,
                    **rubric,
                },
            )
        if bard - found:
            raise ValueError(
                f"{folder / _BARD_SET}: expected questions of the set, found {len(bard - found)}"
                f" others, such as {min(bard - found)!r}. Fetch the files of one release."
            )

    def _file(self, folder: Path, data: Optional[Path]) -> Iterator[_Row]:
        path = first_file(folder, (_QUESTIONS,), self.name, self.needs)
        for name, item in read_json_object(path).items():
            where = f"{path}, {name}"
            row = with_keys(item, ("imagename", "question", "answer", "capability"), where)
            picture = folder / "images" / str(row["imagename"])
            yield where, name, row, file_picture(relative(picture, data or folder))

    def _table(self, files: Sequence[Path], data: Path) -> Iterator[_Row]:
        columns = ("question_id", "question", "answer", "capability")
        for where, row, picture in parquet_rows(files, data, columns):
            name = str(row["question_id"])
            capability = str(row["capability"]).split(",")
            words = {**row, "capability": [word.strip() for word in capability]}
            yield where, name if name.startswith("v1_") else f"v1_{name}", words, picture

    def scorer(self) -> Judge:
        """The grader that the flags or the environment name."""
        return MMVetGrader(name=self.name)

    def stored_answers(self, path: Path, data: Optional[Path]) -> StoredAnswers:
        """Grades of the official evaluator; or answers, which are graded.

        The answers are LLaVA's lines, or the result file of one object {"v1_0": "..."}.
        """
        samples = as_official(tuple(self.samples(data)))
        if not path.name.endswith((".json", ".json.gz")):
            answers = tuple(
                StoredAnswer(f"v1_{answer.id}", answer.text, answer.where, answer.prompt)
                for answer in read_llava_answers(path)
            )
            return StoredAnswers(samples, answers)
        document = read_json_object(path)
        if all(isinstance(value, str) for value in document.values()):
            texts = [StoredAnswer(name, text, f"{path}, {name}") for name, text in document.items()]
            return StoredAnswers(samples, tuple(texts))
        by_id = {sample.id: sample for sample in samples}
        runs = {len(_grades(item, f"{path}, {name}")) for name, item in document.items()}
        if len(runs) != 1:
            raise ValueError(
                f"{path}: expected as many grades of each answer, found {sorted(runs)}. Let the"
                " official evaluator finish."
            )
        graded = [
            StoredAnswer(
                name,
                "graded",
                f"{path}, {name}",
                verdict=_stored_verdict(by_id[name], _grades(item, f"{path}, {name}")),
            )
            for name, item in document.items()
            if name in by_id
        ]
        graded += [
            StoredAnswer(name, "graded", f"{path}, {name}")
            for name in document
            if name not in by_id
        ]
        return StoredAnswers(samples, tuple(graded))

    def official(self, header: RunHeader, judgements: Sequence[Judgement]) -> Mapping[str, Json]:
        """Percent with one decimal, as the official tables have them; `std` is over the runs.

        None where answers have no grade: the official script needs all. Under "bard" the numbers
        of the script's --use_sub_set, where the files say which questions those are.
        """
        graded = [(item, _scores_of(item)) for item in judgements if "score" in item.values]
        if len(graded) != header.samples or not graded:
            return {"total": None}
        numbers = _official(graded)
        bard = [(item, scores) for item, scores in graded if "bard" in item.values]
        if bard and len(bard) < len(graded):
            numbers["bard"] = _official(bard)
        return numbers


class MMVetBard(MMVet):
    """The questions that Bard took: upstream's --use_sub_set."""

    name = "mm_vet_bard"
    summary = "MM-Vet's 168 questions whose pictures Bard took, as upstream's --use_sub_set"
    # A grade file of the whole set is read, and the others' grades are passed over, as upstream.
    ignores_unknown = True

    def samples(self, data: Optional[Path]) -> Iterator[Sample]:
        """Those of bard_set.json, in the order of the set."""
        asked = [sample for sample in super().samples(data) if sample.metadata["bard"]]
        if not asked:
            raise FileNotFoundError(
                f"{data}: expected {_BARD_SET} for the task {self.name!r}, found none. It needs:"
                f" {self.needs}"
            )
        for sample in asked:
            # All of them are Bard's: there are no numbers beside the set's own.
            yield dataclasses.replace(sample, metadata={**sample.metadata, "bard": False})


def _official(graded: Sequence[Tuple[Judgement, List[float]]]) -> Dict[str, Json]:
    """Total, capabilities and their combinations."""
    runs = range(len(graded[0][1]))
    numbers: Dict[str, Json] = {}
    for name in CAPABILITIES:
        own = [scores for item, scores in graded if name in item.category.split("_")]
        numbers[name] = _rounded_mean(own, runs) if own else None
    totals = _percent([scores for _, scores in graded], runs)
    mean = sum(totals) / len(totals)
    numbers["total"] = round(mean, 1)
    numbers["std"] = round((sum((x - mean) ** 2 for x in totals) / len(totals)) ** 0.5, 1)
    numbers["runs"] = [round(total, 1) for total in totals]
    combinations: Dict[str, Json] = {}
    for category in sorted({item.category for item, _ in graded}):
        own = [scores for item, scores in graded if item.category == category]
        combinations[category] = _rounded_mean(own, runs)
    numbers["combinations"] = combinations
    return numbers


class MMVetGrader(Grader):
    """Asks a model for a grade, as the official evaluator does.

    A reply whose first word is no number from 0 to 1 is asked for again, with the evaluator's
    reminder and a temperature that rises by 0.5; after 5 tries the official grade is 0, and the
    answer is unparsed here. (The evaluator takes over the risen temperature into no other answer,
    and neither does this.)

    Args:
        server: see `Grader`.
        name: of the task.
    """

    def __init__(self, server: Optional[ChatServer] = None, name: str = MMVet.name) -> None:
        super().__init__(server)
        self.name = name

    @property
    def metrics(self) -> Sequence[Metric]:
        """Total and capabilities; what could not be read counts 0 officially."""
        return (
            Metric("total", "score", True, summary="mean grade", official=True),
            *(
                Metric(name, name, True, summary=f"mean grade of {name}", official=True)
                for name in CAPABILITIES
            ),
            *(
                [Metric("bard_total", "bard", True, summary="of Bard's questions", official=True)]
                if self.name == MMVet.name
                else []
            ),
            Metric("parsed_total", "parsed_score", True, summary="mean grade that could be read"),
        )

    def describe(self) -> Mapping[str, Json]:
        """The model; None where nothing names one, such as for stored grades."""
        return {"rule": "MM-Vet mm-vet_evaluator.py", "model": self.model, "tries": TRIES}

    def judge(self, responses: Sequence[Response]) -> Sequence[Verdict]:
        """One request for each answer, and more where a reply cannot be read."""
        return [self._graded(self.server, response) for response in responses]

    def _graded(self, server: ChatServer, response: Response) -> Verdict:
        metadata = response.sample.metadata
        row, rubric, reminder = (metadata.get(key) for key in ("row", "rubric", "reminder"))
        if not isinstance(rubric, str) or not isinstance(row, list):
            raise ValueError(
                f"Sample {response.sample.id!r} of 'mm_vet': expected the grader's examples in the"
                f" record, found none. Put {_EVALUATOR} of yuweihao/MM-Vet into the folder mm-vet"
                " of --data, and generate again."
            )
        content = rubric + "\n" + " | ".join([*map(str, row), response.text, ""])
        replies: List[str] = []
        temperature = 0.0
        while len(replies) < TRIES:
            reply = server.ask(
                [{"role": "user", "content": content + (str(reminder) if replies else "")}],
                temperature=temperature,
                max_tokens=_MAX_TOKENS,
            )
            replies.append(reply)
            score = read_grade(reply)
            if score is not None:
                return _verdict(response.sample, [score], [reply], len(replies))
            temperature += _WARMER if len(replies) > 1 else 0.0
        return _verdict(response.sample, [None], replies[-1:], len(replies))


def read_grade(reply: str) -> Optional[float]:
    """The number that a reply's first word is; None where it is none from 0 to 1."""
    try:
        score = float(reply.split(" ")[0].strip())
    except ValueError:
        return None
    return score if 0 <= score <= 1 else None


def _verdict(
    sample: Sample, scores: Sequence[Optional[float]], replies: Sequence[str], tries: int
) -> Verdict:
    known = [0.0 if score is None else score for score in scores]
    mean = sum(known) / len(known)
    capabilities = sample.metadata["capabilities"]
    if not isinstance(capabilities, list):
        raise TypeError(f"capabilities {capabilities!r}")
    values = {"score": mean, **{str(name): mean for name in capabilities}}
    if sample.metadata.get("bard"):
        values["bard"] = mean
    raw = json.dumps({"scores": known, "replies": list(replies)}, ensure_ascii=False)
    if None in scores:
        return Verdict(values, UNPARSED, f"no grade after {tries} tries, 0 officially", raw)
    return Verdict({**values, "parsed_score": mean}, SCORED, f"graded {mean:g}", raw)


def _stored_verdict(sample: Sample, grades: Sequence[Tuple[float, str]]) -> Verdict:
    # After its last try the evaluator keeps a reply that it did not read: its 0 is no grade.
    scores = [None if score == 0 and read_grade(text) != 0 else score for score, text in grades]
    return _verdict(sample, scores, [text for _, text in grades], TRIES)


def _grades(item: object, where: str) -> List[Tuple[float, str]]:
    found = with_keys(item, ("score", "content"), where)
    scores, contents = found["score"], found["content"]
    if not (isinstance(scores, list) and isinstance(contents, list)) or not (
        0 < len(scores) == len(contents)
    ):
        raise ValueError(
            f"{where}: expected a list of scores and one of replies, found {scores!r} and"
            f" {contents!r}. Pass the evaluator's grade file."
        )
    for score in scores:
        if not isinstance(score, (int, float)) or not 0 <= score <= 1:
            raise ValueError(
                f"{where}: expected scores from 0 to 1, found {score!r}. Pass the evaluator's grade"
                " file."
            )
    return [(float(score), str(text)) for score, text in zip(scores, contents)]


def _scores_of(judgement: Judgement) -> List[float]:
    return [float(score) for score in json.loads(judgement.raw)["scores"]]


def _percent(scores: Sequence[Sequence[float]], runs: Sequence[int]) -> List[float]:
    """Of each run, the mean in percent, in the evaluator's order of operations."""
    return [sum(own[run] for own in scores) / len(scores) * 100 for run in runs]


def _rounded_mean(scores: Sequence[Sequence[float]], runs: Sequence[int]) -> float:
    found = _percent(scores, runs)
    return round(sum(found) / len(found), 1)


def _bard_set(path: Path) -> Set[str]:
    if not path.is_file():
        return set()
    names = read_json(path)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(
            f"{path}: expected a list of question ids, found {str(names)[:60]}. Fetch it again."
        )
    return set(names)


def _rubric(path: Path) -> Dict[str, Any]:
    """The examples and the reminder of the official evaluator, read and never run."""
    if not path.is_file():
        return {}
    tree = ast.parse(path.read_text(encoding="utf-8"))
    rubric = [
        node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Constant)
        and [ast.unparse(target) for target in node.targets] == ["prompt"]
    ]
    reminders = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and node.value.startswith("\n")
        and "(digit)" in node.value
    ]
    if len(rubric) != 1 or len(reminders) != 1:
        raise ValueError(
            f"{path}: expected one `prompt` and one reminder, found {len(rubric)} and"
            f" {len(reminders)}. Pass the evaluator of yuweihao/MM-Vet."
        )
    return {"rubric": rubric[0], "reminder": reminders[0]}
