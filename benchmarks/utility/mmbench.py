"""MMBench: questions with up to four choices, each asked with its choices in several orders.

Liu et al., ECCV 2024, arXiv 2307.06281; open-compass/MMBench, Apache-2.0. The file of July 2023,
which LLaVA-1.5 is published on, holds every order as a row of its own: 1176 questions in 4377 rows.
The English development file of later has other questions, and is a task of its own.
"""

from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from regap_benchmarks.benchmark import Benchmark
from regap_benchmarks.judges.judge import Judge, Verdict
from regap_benchmarks.metrics import PARSED_ACCURACY, Metric
from regap_benchmarks.official.files import first_file, folder_of, relative
from regap_benchmarks.official.picture_tables import read_tsv
from regap_benchmarks.official.stored_answers import (
    LAST,
    StoredAnswer,
    StoredAnswers,
    as_official,
    read_llava_answers,
)
from regap_benchmarks.pictures import tsv_picture
from regap_benchmarks.records import (
    EMPTY,
    SCORED,
    UNPARSED,
    Json,
    Judgement,
    Picture,
    Response,
    RunHeader,
    Sample,
)
from regap_benchmarks.statistics.metric_statistics import ALL_OF_REQUEST
from regap_benchmarks.utility.lmms_lab import parquet_files, parquet_rows
from regap_benchmarks.utility.mmbench_workbook import read_workbook, write_workbook
from regap_benchmarks.utility.option_extraction import infer_letter, infer_text

SUFFIX = "\nAnswer with the option's letter from the given choices directly."
# The k-th order of the question with index i has the index i + k * 1,000,000.
ROTATION = 1_000_000
LETTERS = "ABCD"
_COLUMNS = ("index", "question", "hint", "A", "B", "C", "D", "category", "image")
# A cell that holds no picture holds the index of the row that does.
_LONGEST_INDEX = 64
# What convert_mmbench_for_submission.py leaves out.
_NOT_SUBMITTED = ("hint", "category", "source", "image", "comment", "l2-category")
# pandas reads these as missing, and LLaVA "nan" and "none" in any case: there the options end.
_MISSING = frozenset(
    (
        "",
        "#N/A",
        "#N/A N/A",
        "#NA",
        "-1.#IND",
        "-1.#QNAN",
        "-NaN",
        "-nan",
        "1.#IND",
        "1.#QNAN",
        "<NA>",
        "N/A",
        "NA",
        "NULL",
        "NaN",
        "None",
        "n/a",
        "nan",
        "null",
    )
)


class MMBench(Benchmark):
    """The development file of July 2023, in every order of its choices."""

    name = "mmbench"
    version = 1
    summary = "questions with choices in every order; 1176 questions, 4377 rows (dev, 20230712)"
    kind = "utility"
    needs = "mmbench/mmbench_dev_20230712.tsv"
    source = "arXiv 2307.06281; open-compass/MMBench, Apache-2.0; LLaVA's model_vqa_mmbench.py"
    answered_twice = LAST
    ignores_unknown = True
    file = "mmbench_dev_20230712.tsv"

    def samples(self, data: Optional[Path]) -> Iterator[Sample]:
        """Row by row; all orders of a question are one request."""
        folder = folder_of(data, ("mmbench",), self.name, self.needs)
        path = first_file(folder, (self.file,), self.name, self.needs)
        yield from self._from_tsv(path, data or folder)

    def _from_tsv(self, path: Path, data: Path) -> Iterator[Sample]:
        offsets: Dict[str, int] = {}
        for offset, row in read_tsv(path):
            where = f"{path}, row at byte {offset}"
            missing = [name for name in _COLUMNS if name not in row]
            if missing or not row.get("index", "").isdigit():
                raise ValueError(
                    f"{where}: expected the columns {', '.join(_COLUMNS)} and a number as index,"
                    f" found none of {', '.join(missing) or 'that index'}. Pass the official file."
                )
            offsets[row["index"]] = offset
            source = row["image"] if len(row["image"]) <= _LONGEST_INDEX else row["index"]
            if source and source not in offsets:
                raise ValueError(
                    f"{where}: expected a picture, or the index of an earlier row with one, found"
                    f" {source!r}. Fetch the file again."
                )
            column = list(row).index("image")
            name = relative(path, data)
            pictures = (tsv_picture(name, offset=offsets[source], column=column),) if source else ()
            yield row_sample(self.name, row, pictures)

    def scorer(self) -> Judge:
        """The first letter of the answer; beside it, the first evaluator's own reading."""
        return FirstLetter(self.name)

    def stored_answers(self, path: Path, data: Optional[Path]) -> StoredAnswers:
        """LLaVA's answer lines, or the workbook made of them, which needs no `data`.

        A row without an answer has an empty prediction, as in upstream's workbook.
        """
        samples: Tuple[Sample, ...]
        if path.suffix == ".xlsx":
            rows = list(read_workbook(path))
            samples = as_official([row_sample(self.name, row, ()) for row in rows])
            answers = tuple(
                StoredAnswer(row["index"], row["prediction"], f"{path}, row {number}")
                for number, row in enumerate(rows, start=2)
            )
            return StoredAnswers(samples, answers)
        samples = as_official(tuple(self.samples(data)))
        return _with_rounds(samples, read_llava_answers(path), path)

    def official(self, header: RunHeader, judgements: Sequence[Judgement]) -> Mapping[str, Json]:
        """Accuracies in percent: circular, of the first order, of all rows. None with gaps.

        Under "can_infer" by the reading of `option_extraction.py`, without GPT: what it cannot
        read counts as wrong, and is counted.
        """
        by_request: Dict[str, List[bool]] = {}
        for item in judgements:
            by_request.setdefault(item.request, []).append(item.values.get("correct") == 1)
        rows = [right for group in by_request.values() for right in group]
        first = [
            item.values["first_correct"] for item in judgements if "first_correct" in item.values
        ]
        whole = len(rows) == header.samples and bool(rows)
        right = sum(all(group) for group in by_request.values())
        inferred: Dict[str, List[bool]] = {}
        for item in judgements:
            inferred.setdefault(item.request, []).append(item.values.get("inferred_correct") == 1)
        by_text = sum(all(group) for group in inferred.values())
        return {
            "circular_acc": right / len(by_request) * 100 if whole else None,
            "single_pass_acc": sum(first) / len(first) * 100 if whole and first else None,
            "row_acc": sum(rows) / len(rows) * 100 if whole else None,
            "questions": len(by_request),
            "rows": len(rows),
            "can_infer": {
                "circular_acc": by_text / len(inferred) * 100 if whole else None,
                "row_acc": sum(map(sum, inferred.values())) / len(rows) * 100 if whole else None,
                "rows_for_gpt": sum(item.values.get("inferred") == 0 for item in judgements),
            },
        }

    def write_submission(
        self, responses: Sequence[Response], path: Path, data: Optional[Path] = None
    ) -> None:
        """The workbook of convert_mmbench_for_submission.py."""
        rows = []
        for response in responses:
            columns = response.sample.metadata["columns"]
            if not isinstance(columns, dict):
                raise TypeError(f"columns {columns!r}")
            rows.append((columns, response.text))
        write_workbook(rows, path)


class MMBenchEn(MMBench):
    """The English development set of later: in the official file, or in lmms-lab's table."""

    name = "mmbench_en"
    summary = "questions with choices in every order; the English development set of later"
    needs = (
        "mmbench/MMBench_DEV_EN.tsv; or en/dev-*.parquet of lmms-lab/MMBench, or data/dev-*.parquet"
        " of lmms-lab/MMBench_EN, in a folder of that name"
    )
    source = "arXiv 2307.06281; open-compass/MMBench, Apache-2.0"
    file = "MMBench_DEV_EN.tsv"

    def samples(self, data: Optional[Path]) -> Iterator[Sample]:
        """Row by row; all orders of a question are one request."""
        folder = folder_of(data, ("mmbench", "MMBench", "MMBench_EN"), self.name, self.needs)
        tables = folder_of(data, ("MMBench", "MMBench_EN"), self.name, self.needs)
        # Beside "en" there are other languages.
        files = parquet_files(tables / "en", "dev") or parquet_files(tables / "data", "dev")
        if not files or (folder / self.file).is_file():
            path = first_file(folder, (self.file,), self.name, self.needs)
            yield from self._from_tsv(path, data or folder)
            return
        columns = ("index", "question", "hint", *LETTERS, "answer", "category", "split")
        for _, row, picture in parquet_rows(files, data or folder, columns):
            cells = {name: "" if cell is None else str(cell) for name, cell in row.items()}
            yield row_sample(self.name, cells, (picture,) if picture else ())


class FirstLetter(Judge):
    """The first character of the answer is the letter of its choice, in capitals.

    An answer that begins with no letter of the question's choices is unparsed; the official numbers
    count it as wrong. Beside it stands the reading of MMBench's first evaluator, `can_infer`, as
    far as it needs no GPT. (The server then asks GPT, and draws a letter: not reproduced.)

    Args:
        name: of the task.
    """

    judges_empty = True

    def __init__(self, name: str = MMBench.name) -> None:
        self.name = name

    @property
    def metrics(self) -> Sequence[Metric]:
        """Circular accuracy is the published one."""
        return (
            Metric(
                "circular_accuracy",
                "correct",
                True,
                summary="questions that are right in every order of their choices",
                statistic=ALL_OF_REQUEST,
                official=True,
            ),
            Metric(
                "single_pass_accuracy",
                "first_correct",
                True,
                summary="questions that are right in the first order",
                official=True,
            ),
            Metric("row_accuracy", "correct", True, summary="rows that are right", official=True),
            Metric(
                "can_infer_circular_accuracy",
                "inferred_correct",
                True,
                summary="circular accuracy where letters and texts are read as the first evaluator"
                " reads them before it asks GPT; what it would ask for is wrong",
                statistic=ALL_OF_REQUEST,
                official=True,
            ),
            Metric(
                "can_infer_rate",
                "inferred",
                None,
                summary="rows that the first evaluator reads without GPT",
                official=True,
            ),
            PARSED_ACCURACY,
        )

    def describe(self) -> Mapping[str, Json]:
        """The rule's name."""
        return {"rule": "first letter; can_infer of OpenCompass tools/eval_mmbench.py"}

    def judge(self, responses: Sequence[Response]) -> Sequence[Verdict]:
        """Each row by itself."""
        return [_verdict(response) for response in responses]


def row_sample(task: str, row: Mapping[str, str], pictures: Tuple[Picture, ...]) -> Sample:
    """A row as LLaVA asks it."""
    options = options_of(row)
    hint = row.get("hint", "")
    lines = [] if is_missing(hint) else [hint]
    lines.append(row["question"])
    lines += [f"{letter}. {option}" for letter, option in zip(LETTERS, options)]
    base, turn = int(row["index"]) % ROTATION, int(row["index"]) // ROTATION
    answer = row.get("answer", "")
    columns: Dict[str, Any] = {
        name: None if is_missing(cell) else cell
        for name, cell in row.items()
        if name not in (*_NOT_SUBMITTED, "prediction")
    }
    return Sample(
        task=task,
        id=row["index"],
        request=str(base),
        prompt="\n".join(lines) + SUFFIX,
        pictures=pictures,
        category=row.get("category", ""),
        references=() if is_missing(answer) else (answer,),
        metadata={
            "turn": turn,
            "letters": LETTERS[: len(options)],
            "columns": {**columns, "index": int(row["index"])},
        },
    )


def options_of(row: Mapping[str, str]) -> List[str]:
    """The options up to the first that is missing."""
    options: List[str] = []
    for letter in LETTERS:
        if is_missing(row.get(letter, "")):
            break
        options.append(row[letter])
    return options


def is_missing(cell: str) -> bool:
    """Whether LLaVA's script, which reads the file by pandas, takes the cell for missing."""
    return cell in _MISSING or cell.lower() in ("nan", "none")


def _with_rounds(
    samples: Tuple[Sample, ...], answers: Tuple[StoredAnswer, ...], path: Path
) -> StoredAnswers:
    """Answers of `--all-rounds` beside those to the rows, and an empty one for each other row."""
    by_id = {sample.id: sample for sample in samples}
    asked, found = list(samples), []
    seen = set(by_id)
    for answer in answers:
        number = answer.metadata.get("round_id")
        if isinstance(number, int) and number > 0 and answer.id in by_id:
            sample = by_id[answer.id]
            name = f"{answer.id}, round {number}"
            if name not in seen:
                seen.add(name)
                turned = {**sample.metadata, "turn": f"round {number}"}
                asked.append(
                    Sample(
                        sample.task,
                        name,
                        sample.request,
                        sample.prompt,
                        sample.condition,
                        sample.pictures,
                        sample.category,
                        references=sample.references,
                        metadata=turned,
                    )
                )
            answer = StoredAnswer(name, answer.text, answer.where, answer.prompt, answer.metadata)
        found.append(answer)
    answered = {answer.id for answer in found}
    empty = [sample.id for sample in asked if sample.id not in answered]
    found += [StoredAnswer(name, "", str(path)) for name in empty]
    notes = (
        (
            f"{len(empty)} rows have no answer, such as {empty[0]}: their prediction is empty, as"
            " in upstream's workbook.",
        )
        if empty
        else ()
    )
    return StoredAnswers(tuple(asked), tuple(found), notes)


def _verdict(response: Response) -> Verdict:
    metadata = response.sample.metadata
    if not response.sample.references:
        return Verdict(status=UNPARSED, explanation="the file holds no answers: a server scores it")
    letters = str(metadata["letters"])
    found = response.text.strip()[:1]
    letter = found if found and found in letters else None
    if letter is not None:
        letter = _letter_in_file(letter, response)
    correct = float(letter in response.sample.references)
    inferred = _inferred(response)
    values = {
        "correct": correct,
        "inferred_correct": float(inferred in response.sample.references),
        "inferred": float(inferred is not None),
    }
    if metadata["turn"] == 0:
        values["first_correct"] = correct
    if letter is not None:
        values["parsed_correct"] = correct
        return Verdict(values, SCORED, f"reads {letter}")
    status = UNPARSED if response.text.strip() else EMPTY
    return Verdict(values, status, f"begins with none of {letters}")


def _letter_in_file(letter: str, response: Response) -> str:
    """After a rotation, the option that is shown as A may be the file's B."""
    letters, shown = str(response.sample.metadata["letters"]), response.sample.metadata
    turned = shown.get("option_char")
    if isinstance(turned, list) and len(turned) == len(letters) and letter in letters:
        return str(turned[letters.index(letter)])
    return letter


def _inferred(response: Response) -> Optional[str]:
    columns = response.sample.metadata["columns"]
    if not isinstance(columns, dict):
        raise TypeError(f"columns {columns!r}")
    options = {
        letter: str(columns[letter]) for letter in LETTERS if columns.get(letter) is not None
    }
    # The evaluator reads a workbook by pandas, and what is missing there is "nan" as a text.
    said = "nan" if response.text in _MISSING else response.text
    letter = infer_letter(said)
    return _letter_in_file(letter, response) if letter else infer_text(said, options)
