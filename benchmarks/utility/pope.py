"""POPE: is an object in the picture, yes or no (Li et al., EMNLP 2023, arXiv 2305.10355).

Three splits over the same 500 pictures of COCO val2014, which differ in what absent objects are
asked for: random ones, frequent ones, and those that often come with what is there. Data and
`evaluate.py`: AoiDragon/POPE (MIT). LLaVA publishes the mean of the three F1.
"""

import re
from pathlib import Path
from typing import Dict, Iterator, List, Mapping, Optional, Sequence

from regap_benchmarks.benchmark import Benchmark
from regap_benchmarks.judges.judge import Judge, Verdict
from regap_benchmarks.metrics import PARSED_ACCURACY, Metric
from regap_benchmarks.official.files import (
    first_file,
    folder_of,
    read_json_lines,
    relative,
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
from regap_benchmarks.utility.lmms_lab import parquet_files, parquet_rows

SUFFIX = "\nAnswer the question using a single word or phrase."
SPLITS = ("adversarial", "popular", "random")
_QUESTIONS = "llava_pope_test.jsonl"
_LABELS = "coco_pope_{}.json"
_KEYS = ("question_id", "image", "text", "label")
# Present in 246 of the 8910 questions of the commit that LLaVA pins, and mended later.
_TYPO, _MENDED = "imange", "image"


class Pope(Benchmark):
    """As LLaVA-1.5 asks it: 8910 questions, 2910 of them random, of POPE's commit e3e3926.

    LLaVA's question file holds no labels. Upstream pairs them with the label files row by row;
    here each row's question and picture must be the label's too.
    """

    name = "pope"
    version = 1
    summary = "is an object in the picture; LLaVA's 8910 questions, 2910 random ones"
    kind = "utility"
    needs = (
        "pope/llava_pope_test.jsonl of LLaVA's eval.zip; pope/coco/coco_pope_{adversarial,popular,"
        "random}.json of AoiDragon/POPE at e3e3926; pope/val2014/*.jpg of COCO"
    )
    source = "arXiv 2305.10355; AoiDragon/POPE and LLaVA's eval_pope.py; MIT"

    def samples(self, data: Optional[Path]) -> Iterator[Sample]:
        """LLaVA's questions, in their order."""
        folder = folder_of(data, ("pope",), self.name, self.needs)
        labels = first_file(folder, ("coco_e3e3926", "coco"), self.name, self.needs)
        rows = {split: list(_labels(labels, split)) for split in SPLITS}
        asked = dict.fromkeys(SPLITS, 0)
        path = first_file(folder, (_QUESTIONS,), self.name, self.needs)
        for where, line in read_json_lines(path, ("question_id", "image", "text", "category")):
            split = string(line, "category", where)
            if split not in rows:
                raise ValueError(
                    f"{where}: expected a category of {', '.join(SPLITS)}, found {split!r}. Pass"
                    " LLaVA's question file."
                )
            label = rows[split][asked[split]] if asked[split] < len(rows[split]) else {}
            asked[split] += 1
            _check_row(where, line, label, labels / _LABELS.format(split))
            yield _sample(self.name, str(line["question_id"]), line, split, label, folder, data)
        for split, count in asked.items():
            if count != len(rows[split]):
                raise ValueError(
                    f"{labels / _LABELS.format(split)}: expected a label for each of the {count}"
                    f" questions, found {len(rows[split])}. Fetch the label files of AoiDragon/POPE"
                    " at e3e3926, or use the task pope_head."
                )

    def scorer(self) -> Judge:
        """POPE's rule."""
        return PopeRule(self.name)

    def stored_answers(self, path: Path, data: Optional[Path]) -> StoredAnswers:
        """LLaVA's answers, each with the label that upstream's pairing by row gives it."""
        samples = as_official(tuple(self.samples(data)))
        splits = {sample.id: sample.category for sample in samples}
        labels: Dict[str, List[Sample]] = {split: [] for split in SPLITS}
        for sample in samples:
            labels[sample.category].append(sample)
        row = dict.fromkeys(SPLITS, 0)
        answers, moved = [], 0
        for answer in read_llava_answers(path):
            split = splits.get(answer.id)
            metadata: Dict[str, Json] = {}
            if split is not None:
                if row[split] < len(labels[split]):
                    paired = labels[split][row[split]]
                    metadata["row_label"] = paired.references[0]
                    moved += paired.id != answer.id
                row[split] += 1
            answers.append(
                StoredAnswer(answer.id, answer.text, answer.where, answer.prompt, metadata)
            )
        notes = (
            (
                f"{moved} answers stand in another row than their label: upstream's script pairs by"
                " row, so its numbers, shown as official, are not those of the answers. The"
                " estimates pair by question_id.",
            )
            if moved
            else ()
        )
        return StoredAnswers(samples, tuple(answers), notes)

    def official(self, header: RunHeader, judgements: Sequence[Judgement]) -> Mapping[str, Json]:
        """What LLaVA's eval_pope.py prints for each split, as fractions, and the mean F1."""
        numbers: Dict[str, Json] = {}
        f1s = []
        for split in dict.fromkeys(cell.category for cell in header.cells):
            found = _confusion([item for item in judgements if item.category == split])
            numbers[split] = dict(found)
            f1s.append(found["f1"])
        known = [value for value in f1s if value is not None]
        numbers["mean_f1"] = sum(known) / len(known) if len(known) == len(f1s) > 0 else None
        return numbers


class PopeHead(Pope):
    """All three splits as POPE's repository has them today: 9000 questions."""

    name = "pope_head"
    summary = "is an object in the picture; POPE's repository of today, 3000 random questions"
    needs = (
        "pope/coco/coco_pope_{adversarial,popular,random}.json of AoiDragon/POPE at HEAD;"
        " pope/val2014/*.jpg of COCO; or POPE/data/test-*.parquet of lmms-lab/POPE"
    )

    def samples(self, data: Optional[Path]) -> Iterator[Sample]:
        """The questions of the label files, with LLaVA's suffix; ids are SPLIT-NUMBER."""
        folder = folder_of(data, ("pope", "POPE"), self.name, self.needs)
        files = parquet_files(folder)
        if files and not (folder / "coco").is_dir():
            yield from self._from_parquet(files, data or folder)
            return
        labels = first_file(folder, ("coco_head", "coco"), self.name, self.needs)
        for split in SPLITS:
            for line in _labels(labels, split):
                if _TYPO in str(line["text"]):
                    raise ValueError(
                        f"{labels / _LABELS.format(split)}: expected the questions of"
                        f" AoiDragon/POPE at HEAD, found one with {_TYPO!r}, which an early commit"
                        " has. Fetch the files of HEAD, or use the task pope."
                    )
                asked = {**line, "text": f"{line['text']}{SUFFIX}"}
                number = f"{split}-{line['question_id']}"
                yield _sample(self.name, number, asked, split, line, folder, data)

    def _from_parquet(self, files: Sequence[Path], data: Path) -> Iterator[Sample]:
        columns = ("question_id", "question", "answer", "image_source", "category")
        for where, row, picture in parquet_rows(files, data, columns):
            if row["answer"] not in ("yes", "no") or row["category"] not in SPLITS:
                raise ValueError(
                    f"{where}: expected the answer yes or no and one of the splits"
                    f" {', '.join(SPLITS)}, found {row['answer']!r} and {row['category']!r}. Pass"
                    " the files of lmms-lab/POPE."
                )
            yield Sample(
                task=self.name,
                id=f"{row['category']}-{row['question_id']}",
                request=str(row["image_source"]),
                prompt=str(row["question"]).strip() + SUFFIX,
                pictures=(picture,) if picture else (),
                category=row["category"],
                references=(row["answer"],),
            )


class PopeRule(Judge):
    """The official rule, and beside it a reading that tells what says neither or both.

    Official: of the text before the first "." and without commas, split at single spaces, a part
    that equals "No", "not" or "no" makes it a no; all else is a yes, so an empty answer and "NO"
    are too. The reading: of the same text's words in any case, "yes" against "no" and "not"; an
    answer with neither or both is unparsed.

    Args:
        name: of the task.
    """

    judges_empty = True
    more_values = ("is_yes", "row_is_yes")

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def metrics(self) -> Sequence[Metric]:
        """The published ones count what could not be read, as a yes."""
        return (
            Metric(
                "mean_f1",
                "said_yes",
                True,
                summary="mean of the splits' F1",
                statistic="mean_f1_of_categories",
                official=True,
            ),
            Metric("accuracy", "correct", True, summary="answers that are right", official=True),
            Metric("f1", "said_yes", True, statistic="f1", official=True),
            Metric("precision", "said_yes", True, statistic="precision", official=True),
            Metric("recall", "said_yes", True, statistic="recall", official=True),
            Metric("yes_ratio", "said_yes", None, official=True),
            PARSED_ACCURACY,
        )

    def describe(self) -> Mapping[str, Json]:
        """The rule's name."""
        return {"rule": "LLaVA eval_pope.py"}

    def judge(self, responses: Sequence[Response]) -> Sequence[Verdict]:
        """Each answer by itself."""
        return [_verdict(response) for response in responses]


def says_no(text: str) -> bool:
    """The official rule: whether an answer is a no; all others are a yes."""
    parts = text.split(".")[0].replace(",", "").split(" ")
    return any(part in ("No", "not", "no") for part in parts)


def _verdict(response: Response) -> Verdict:
    is_yes = response.sample.references[0] != "no"
    said_yes = not says_no(response.text)
    values = {
        "said_yes": float(said_yes),
        "is_yes": float(is_yes),
        "correct": float(said_yes == is_yes),
    }
    row = response.sample.metadata.get("row_label")
    if row is not None:
        values["row_is_yes"] = float(row != "no")
    words = set(re.findall(r"\w+", response.text.split(".")[0].lower()))
    yes, no = "yes" in words, bool(words & {"no", "not"})
    folded = f"the official rule takes it for a {'yes' if said_yes else 'no'}"
    if yes != no:
        values["parsed_correct"] = float(yes == is_yes)
        return Verdict(values, SCORED, f"says {'yes' if yes else 'no'}; {folded}")
    status = UNPARSED if response.text.strip() else EMPTY
    return Verdict(values, status, f"says {'both' if yes else 'neither'}; {folded}")


def _confusion(judgements: Sequence[Judgement]) -> Mapping[str, Optional[float]]:
    """Upstream's numbers, with None where it divides by zero."""
    pairs = [
        (bool(item.values["said_yes"]), bool(item.values.get("row_is_yes", item.values["is_yes"])))
        for item in judgements
        if "said_yes" in item.values
    ]
    tp, fp, fn, tn = (
        pairs.count(pair) for pair in ((True, True), (True, False), (False, True), (False, False))
    )
    precision, recall = _ratio(tp, tp + fp), _ratio(tp, tp + fn)
    f1 = None
    if precision is not None and recall is not None:
        f1 = _ratio(2 * precision * recall, precision + recall)
    return {
        "accuracy": _ratio(tp + tn, len(pairs)),
        "precision": precision,
        "recall": recall,
        "f1": f1,
        "yes_ratio": _ratio(tp + fp, len(pairs)),
        "tp": tp,
        "fp": fp,
        "tn": tn,
        "fn": fn,
    }


def _ratio(numerator: float, denominator: float) -> Optional[float]:
    return numerator / denominator if denominator else None


def _labels(folder: Path, split: str) -> Iterator[Dict[str, Json]]:
    for where, line in read_json_lines(folder / _LABELS.format(split), _KEYS):
        if line["label"] not in ("yes", "no"):
            raise ValueError(
                f"{where}: expected the label 'yes' or 'no', found {line['label']!r}. Pass POPE's"
                " label file."
            )
        yield line


def _check_row(
    where: str, question: Mapping[str, Json], label: Mapping[str, Json], path: Path
) -> None:
    asked = str(question["text"]).split("\n")[0].replace(_TYPO, _MENDED)
    known = str(label.get("text")).replace(_TYPO, _MENDED)
    if (asked, question["image"]) != (known, label.get("image")):
        raise ValueError(
            f"{where}: expected the question of the same row of {path.name}, found {asked!r} of"
            f" {question['image']} where that has {known!r} of {label.get('image')}. Fetch the"
            " label files of AoiDragon/POPE at e3e3926, or use the task pope_head."
        )


def _sample(
    task: str,
    number: str,
    question: Mapping[str, Json],
    split: str,
    label: Mapping[str, Json],
    folder: Path,
    data: Optional[Path],
) -> Sample:
    picture = folder / "val2014" / str(question["image"])
    return Sample(
        task=task,
        id=number,
        # The 18 questions about one picture are no independent ones.
        request=str(question["image"]),
        prompt=str(question["text"]),
        pictures=(file_picture(relative(picture, data or folder)),),
        category=split,
        references=(str(label["label"]),),
    )
