"""VizWiz, TextVQA, VQAv2 and GQA as `lmms-lab` publishes them on Hugging Face.

Columns as the tasks of EvolvingLMMs-Lab/lmms-eval 0.7.2 read them; prompts are LLaVA-1.5's.
"""

from pathlib import Path
from typing import Any, Dict, Iterator, Mapping, Optional, Sequence, Tuple

from regap_benchmarks.official.files import relative
from regap_benchmarks.official.picture_tables import read_parquet
from regap_benchmarks.pictures import parquet_picture
from regap_benchmarks.records import Picture, Sample
from regap_benchmarks.utility.lmms_lab import parquet_files, parquet_rows
from regap_benchmarks.utility.vqa_scorer import SHORT_ANSWER, people


def vizwiz_val(task: str, files: Sequence[Path], data: Path, hint: str) -> Iterator[Sample]:
    """`lmms-lab/VizWiz-VQA`, split val; ids are image names, as in the official file."""
    columns = ("question_id", "question", "answers", "category")
    for where, row, picture in parquet_rows(files, data, columns):
        image = f"{str(row['question_id']).split('.')[0]}.jpg"
        yield _sample(
            task,
            (image, image),
            str(row["question"]).capitalize() + hint + SHORT_ANSWER,
            picture,
            people(row["answers"], where),
            category=str(row["category"]),
            metadata={"question_id": image, "image": image},
        )


def textvqa_val(
    task: str, files: Sequence[Path], data: Path, *, with_ocr: bool
) -> Iterator[Sample]:
    """`lmms-lab/textvqa`, split validation; ids as in `TextVqa.samples`."""
    columns = ("image_id", "question", "answers", "ocr_tokens")
    numbers: Dict[str, int] = {}
    for where, row, picture in parquet_rows(files, data, columns):
        image, prompt = str(row["image_id"]), str(row["question"]).capitalize()
        number = numbers[image] = numbers.get(image, -1) + 1
        if with_ocr:
            prompt += f"\nReference OCR token: {', '.join(row['ocr_tokens'])}"
        yield _sample(
            task,
            (f"{image}-{number}", f"{image}.jpg"),
            prompt + SHORT_ANSWER,
            picture,
            people(row["answers"], where),
            metadata={"question_id": image, "image": f"{image}.jpg"},
        )


def vqav2_val(task: str, files: Sequence[Path], data: Path) -> Iterator[Sample]:
    """`lmms-lab/VQAv2`, split validation."""
    columns = ("question_id", "image_id", "question", "answers", "answer_type")
    for where, row, picture in parquet_rows(files, data, columns):
        image = f"COCO_val2014_{int(row['image_id']):012d}.jpg"
        yield _sample(
            task,
            (str(row["question_id"]), image),
            str(row["question"]) + SHORT_ANSWER,
            picture,
            people(row["answers"], where),
            category=str(row["answer_type"]),
            metadata={"question_id": row["question_id"], "image": image},
        )


def gqa_rows(folder: Path, data: Path) -> Iterator[Tuple[str, str, Dict[str, Any], Picture]]:
    """`lmms-lab/GQA`: "FILE, row N", id, the row and its picture, which is in another table.

    Raises:
        ValueError: a question about a picture that is not there.
    """
    pictures = {}
    for path in parquet_files(folder / "testdev_balanced_images", "testdev"):
        name = relative(path, data)
        for number, row in read_parquet(path, ["id"]):
            pictures[row["id"]] = parquet_picture(name, row=number, column="image")
    columns = ["id", "imageId", "question", "answer", "types"]
    for path in parquet_files(folder / "testdev_balanced_instructions", "testdev"):
        for number, row in read_parquet(path, columns):
            where = f"{path}, row {number}"
            if row["imageId"] not in pictures:
                raise ValueError(
                    f"{where}: expected a picture of testdev_balanced_images, found"
                    f" {row['imageId']!r}. Fetch both configurations of lmms-lab/GQA."
                )
            yield where, str(row["id"]), row, pictures[row["imageId"]]


def _sample(
    task: str,
    names: Tuple[str, str],
    prompt: str,
    picture: Optional[Picture],
    references: Tuple[str, ...],
    *,
    metadata: Mapping[str, Any],
    category: str = "",
) -> Sample:
    return Sample(
        task=task,
        id=names[0],
        request=names[1],
        prompt=prompt,
        pictures=(picture,) if picture else (),
        category=category,
        references=references,
        metadata=metadata,
    )
