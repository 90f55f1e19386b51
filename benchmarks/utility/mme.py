"""MME: two questions about each picture, one to be answered yes and one no.

Fu et al., arXiv 2306.13394; 14 subtasks, 2374 questions. For academic research only, not to be
passed on. The rule is that of the official `eval_tool/calculation.py`: 100 times the accuracy and
100 times accuracy+, the share of pictures with both answers right, summed over the subtasks.
"""

from pathlib import Path
from typing import Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from regap_benchmarks.benchmark import Benchmark
from regap_benchmarks.judges.judge import Judge, Verdict
from regap_benchmarks.metrics import PARSED_ACCURACY, Metric
from regap_benchmarks.official.files import (
    first_file,
    folder_of,
    read_json_lines,
    relative,
    repeated,
    string,
)
from regap_benchmarks.official.stored_answers import (
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
from regap_benchmarks.statistics.metric_statistics import ALL_OF_REQUEST
from regap_benchmarks.utility.lmms_lab import parquet_files, parquet_rows

PERCEPTION = (
    "existence",
    "count",
    "position",
    "color",
    "posters",
    "celebrity",
    "scene",
    "landmark",
    "artwork",
    "OCR",
)
COGNITION = (
    "commonsense_reasoning",
    "numerical_calculation",
    "text_translation",
    "code_reasoning",
)
SUFFIX = "\nAnswer the question using a single word or phrase."
_OFFICIAL_SUFFIX = "Please answer yes or no."
_IMAGES = "MME_Benchmark_release_version"
_PER_PICTURE = 2


class MME(Benchmark):
    """LLaVA's questions, with the answers of the official files."""

    name = "mme"
    version = 1
    summary = "yes or no, two questions about each picture; 2374 in 14 subtasks, points to 2800"
    kind = "utility"
    needs = (
        "MME/llava_mme.jsonl of LLaVA's eval.zip; MME/MME_Benchmark_release_version/SUBTASK with"
        " pictures and answers, or answers in MME/eval_tool/Your_Results/SUBTASK.txt;"
        " or MME/data/test-*.parquet of lmms-lab/MME"
    )
    source = "arXiv 2306.13394; BradyFU/Awesome-Multimodal-Large-Language-Models, Evaluation"

    def samples(self, data: Optional[Path]) -> Iterator[Sample]:
        """LLaVA's questions, in their order. Those that have no answer are left out, as upstream.

        Ids are SUBTASK/FILE/NUMBER, from 0 within a picture.
        """
        folder = folder_of(data, ("MME", "mme"), self.name, self.needs)
        files = parquet_files(folder)
        if files and not (folder / "llava_mme.jsonl").is_file():
            yield from self._from_parquet(files, data or folder)
            return
        path = first_file(folder, ("llava_mme.jsonl",), self.name, self.needs)
        answers = _official_answers(folder, self.needs)
        numbers: Dict[str, int] = {}
        for where, line in read_json_lines(path, ("question_id", "text", "category")):
            picture, subtask = string(line, "question_id", where), string(line, "category", where)
            if subtask not in PERCEPTION + COGNITION:
                raise ValueError(
                    f"{where}: expected one of MME's 14 subtasks, found {subtask!r}. Pass LLaVA's"
                    " question file."
                )
            prompt = string(line, "text", where)
            question = plain_question(prompt)
            answer = answers.get((subtask, Path(picture).stem, question))
            if answer is None:
                continue
            number = numbers.get(picture, 0)
            numbers[picture] = number + 1
            image = folder / _IMAGES / str(line.get("image", picture))
            yield Sample(
                task=self.name,
                id=f"{picture}/{number}",
                request=picture,
                prompt=prompt,
                pictures=(file_picture(relative(image, data or folder)),),
                category=subtask,
                references=(answer,),
                metadata={"question": question},
            )

    def scorer(self) -> Judge:
        """MME's rule."""
        return MMERule()

    def stored_answers(self, path: Path, data: Optional[Path]) -> StoredAnswers:
        """LLaVA's answer lines, or a folder of the official tool: SUBTASK.txt, four columns.

        The folder holds questions and right answers itself and needs no `data`.
        """
        if path.is_dir():
            return _read_results(self.name, path)
        samples = as_official(tuple(self.samples(data)))
        by_question = {(item.request, item.metadata["question"]): item.id for item in samples}
        answers, skipped = [], 0
        for answer in read_llava_answers(path):
            name = by_question.get((answer.id, plain_question(answer.prompt)))
            if name is None:
                skipped += 1
                continue
            answers.append(StoredAnswer(name, answer.text, answer.where, answer.prompt))
        notes = (
            (
                f"{skipped} answers are to questions without a right answer in the official files:"
                " upstream's script passes over them, and so does this.",
            )
            if skipped
            else ()
        )
        return StoredAnswers(samples, tuple(answers), notes)

    def official(self, header: RunHeader, judgements: Sequence[Judgement]) -> Mapping[str, Json]:
        """Points of each subtask and of both parts, unrounded, as calculation.py sums them."""
        numbers: Dict[str, Json] = {}
        for part, subtasks in (("perception", PERCEPTION), ("cognition", COGNITION)):
            total, found = 0.0, {}
            for subtask in subtasks:
                points = _points([item for item in judgements if item.category == subtask])
                if points is not None:
                    found[subtask] = points
                    total += float(str(points["score"]))
            numbers[part] = total if found else None
            numbers[f"{part}_subtasks"] = dict(found)
        return numbers

    def _from_parquet(self, files: Sequence[Path], data: Path) -> Iterator[Sample]:
        columns = ("question_id", "question", "answer", "category")
        numbers: Dict[str, int] = {}
        for where, row, picture in parquet_rows(files, data, columns):
            request, question = str(row["question_id"]), plain_question(str(row["question"]))
            if row["category"] not in PERCEPTION + COGNITION:
                raise ValueError(
                    f"{where}: expected one of MME's 14 subtasks, found {row['category']!r}. Pass"
                    " the files of lmms-lab/MME."
                )
            number = numbers.get(request, 0)
            numbers[request] = number + 1
            yield Sample(
                task=self.name,
                id=f"{request}/{number}",
                request=request,
                prompt=question + SUFFIX,
                pictures=(picture,) if picture else (),
                category=row["category"],
                references=(_label(str(row["answer"]), where),),
                metadata={"question": question},
            )


class MMERule(Judge):
    """Yes or no if the answer in lower case is that, or has it in its first four characters.

    "yes" is looked for before "no". Anything else is unparsed, which the official numbers count as
    wrong.
    """

    name = MME.name
    judges_empty = True

    @property
    def metrics(self) -> Sequence[Metric]:
        """The two published totals, accuracy and accuracy+."""
        return (
            Metric(
                "perception",
                "perception_correct",
                True,
                summary="acc and acc+ in points, summed over 10 subtasks; 2000 at most",
                statistic="sum_of_categories",
                official=True,
                factor=100.0,
            ),
            Metric(
                "cognition",
                "cognition_correct",
                True,
                summary="acc and acc+ in points, summed over 4 subtasks; 800 at most",
                statistic="sum_of_categories",
                official=True,
                factor=100.0,
            ),
            Metric("accuracy", "correct", True, summary="answers that are right", official=True),
            Metric(
                "accuracy_plus",
                "correct",
                True,
                summary="pictures with both answers right",
                statistic=ALL_OF_REQUEST,
                official=True,
            ),
            PARSED_ACCURACY,
        )

    def describe(self) -> Mapping[str, Json]:
        """The rule's name."""
        return {"rule": "MME eval_tool/calculation.py"}

    def judge(self, responses: Sequence[Response]) -> Sequence[Verdict]:
        """Each answer by itself."""
        return [_verdict(response) for response in responses]


def read_answer(text: str) -> Optional[str]:
    """Yes, no, or None where the official tool says "other"."""
    lower = text.lower()
    if lower in ("yes", "no"):
        return lower
    beginning = lower[:4]
    return "yes" if "yes" in beginning else "no" if "no" in beginning else None


def plain_question(text: str) -> str:
    """A question without the suffixes of LLaVA and of the official files."""
    question = text.replace(SUFFIX.strip(), "").strip()
    return question.replace(_OFFICIAL_SUFFIX, "").strip()


def _verdict(response: Response) -> Verdict:
    sample = response.sample
    answer = read_answer(response.text)
    correct = float(answer == sample.references[0])
    part = "perception" if sample.category in PERCEPTION else "cognition"
    values = {"correct": correct, f"{part}_correct": correct}
    if answer is not None:
        values["parsed_correct"] = correct
        return Verdict(values, SCORED, f"reads {answer}")
    status = UNPARSED if response.text.strip() else EMPTY
    return Verdict(values, status, "neither yes nor no in the first four characters")


def _points(judgements: Sequence[Judgement]) -> Optional[Dict[str, Json]]:
    pictures: Dict[str, List[float]] = {}
    for item in judgements:
        pictures.setdefault(item.request, []).append(item.values.get("correct", 0.0))
    count = sum(map(len, pictures.values()))
    if not count:
        return None
    acc = sum(map(sum, pictures.values())) / count
    both = sum(sum(right) == _PER_PICTURE for right in pictures.values()) / len(pictures)
    return {
        "acc": acc,
        "acc_plus": both,
        "score": acc * 100 + both * 100,
        "questions": count,
        "pictures": len(pictures),
    }


def _official_answers(folder: Path, needs: str) -> Dict[Tuple[str, str, str], str]:
    """Right answers by subtask, file name without ending, and question."""
    found: Dict[Tuple[str, str, str], str] = {}
    template = folder / "eval_tool" / "Your_Results"
    for subtask in PERCEPTION + COGNITION:
        base = folder / _IMAGES / subtask
        beside = base / "questions_answers_YN"
        texts = sorted((beside if beside.is_dir() else base).glob("*.txt"))
        for path in texts:
            for where, cells in _tab_lines(path, 2):
                found[subtask, path.stem, plain_question(cells[0])] = _label(cells[1], where)
        if not texts and (template / f"{subtask}.txt").is_file():
            for where, cells in _tab_lines(template / f"{subtask}.txt", 3):
                key = (subtask, Path(cells[0]).stem, plain_question(cells[1]))
                found[key] = _label(cells[2], where)
    if not found:
        raise FileNotFoundError(
            f"{folder}: expected MME's right answers, found none. The task 'mme' needs: {needs}."
        )
    return found


def _read_results(task: str, folder: Path) -> StoredAnswers:
    """The official tool's SUBTASK.txt; two consecutive lines are one picture's."""
    samples, answers = [], []
    for subtask in PERCEPTION + COGNITION:
        path = folder / f"{subtask}.txt"
        if not path.is_file():
            continue
        lines = list(_tab_lines(path, 4))
        pictures = [cells[0] for _, cells in lines[::_PER_PICTURE]]
        odd = [
            number
            for number in range(0, len(lines), _PER_PICTURE)
            if [cells[0] for _, cells in lines[number : number + 2]] != [lines[number][1][0]] * 2
        ]
        if odd or repeated(pictures):
            raise ValueError(
                f"{path}: expected two consecutive lines for each picture, found"
                f" {(repeated(pictures) or [lines[odd[0]][1][0]])[0]!r} otherwise. Write the file"
                " again: the official tool pairs lines by their place."
            )
        for place, (where, (picture, question, label, text)) in enumerate(lines):
            name = f"{subtask}/{picture}/{place % _PER_PICTURE}"
            samples.append(
                Sample(
                    task=task,
                    id=name,
                    request=f"{subtask}/{picture}",
                    prompt=question,
                    category=subtask,
                    references=(_label(label, where),),
                )
            )
            answers.append(StoredAnswer(name, text, where))
    if not samples:
        raise FileNotFoundError(
            f"{folder}: expected SUBTASK.txt of MME's official tool, found none. Pass its folder."
        )
    return StoredAnswers(as_official(samples), tuple(answers))


def _tab_lines(path: Path, columns: int) -> Iterator[Tuple[str, List[str]]]:
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
        if not line.strip():
            continue
        cells = line.rstrip("\r").split("\t")
        where = f"{path}, line {number}"
        if len(cells) != columns:
            raise ValueError(
                f"{where}: expected {columns} cells between tabs, found {len(cells)}. Pass the"
                " official file; an answer may hold no tab and no line end."
            )
        yield where, cells


def _label(text: str, where: str) -> str:
    label = text.strip().lower()
    if label not in ("yes", "no"):
        raise ValueError(f"{where}: expected the answer Yes or No, found {text!r}. Fetch it again.")
    return label
