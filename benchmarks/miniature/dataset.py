"""Data sets in the format of LLaVA's trainer: stage 1 captions, stage 2 conversations.

Each is a JSON list beside a folder of pictures, made without a download.
"""

import json
import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List

from regap_benchmarks.miniature.pictures import DrawnPicture, draw_pictures, photographs

CAPTION_PROMPT = "<image>\nProvide a one-sentence caption for the provided image."
TEXT_ONLY_EVERY = 3
_NUMBER_WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


@dataclass(frozen=True)
class DatasetFiles:
    """Where a data set lies and how many samples it holds: `--data_path` and `--image_folder`."""

    data_path: Path
    image_folder: Path
    samples: int


def write_captions(
    folder: Path, *, count: int, seed: int, with_photographs: bool = False
) -> DatasetFiles:
    """Write a stage 1 data set (`--version plain`): one picture and one caption per sample.

    Args:
        folder: made if it is missing; files of the same names are replaced.
        count: drawn pictures.
        seed: decides all of them.
        with_photographs: append those that scikit-image carries, in their own modes.

    Returns:
        `folder/captions.json` and `folder/images`.

    Raises:
        ValueError: `count` is less than 1.
        FileNotFoundError: photographs are asked for and scikit-image is missing.
    """
    _check_count(count)
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    samples: List[Dict[str, Any]] = []
    for index, picture in enumerate(draw_pictures(count=count, seed=seed)):
        name = _save(picture, images, index)
        turns = _turns(CAPTION_PROMPT, picture.caption)
        samples.append({"id": f"drawn-{index:05d}", "image": name, "conversations": turns})
    for photograph in photographs() if with_photographs else []:
        name = photograph.path.name
        shutil.copyfile(photograph.path, images / name)
        turns = _turns(CAPTION_PROMPT, photograph.caption)
        samples.append({"id": f"photograph-{name}", "image": name, "conversations": turns})
    return _write(folder / "captions.json", images, samples)


def write_conversations(folder: Path, *, count: int, seed: int) -> DatasetFiles:
    """Write a stage 2 data set (`--version v1`): conversations with a picture, and without one.

    Every third sample is text only and has no `image` key; the others ask one or two questions
    about a drawn picture, with answers that hold for it.

    Args:
        folder: made if it is missing; files of the same names are replaced.
        count: samples of both kinds together.
        seed: decides all of them.

    Returns:
        `folder/conversations.json` and `folder/images`.

    Raises:
        ValueError: `count` is less than 1.
    """
    _check_count(count)
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    samples: List[Dict[str, Any]] = []
    for index, picture in enumerate(draw_pictures(count=count, seed=seed)):
        rng = random.Random(f"conversation {seed} {index}")
        if (index + 1) % TEXT_ONLY_EVERY == 0:
            samples.append({"id": f"text-{index:05d}", "conversations": _sum_conversation(rng)})
            continue
        samples.append(
            {
                "id": f"drawn-{index:05d}",
                "image": _save(picture, images, index),
                "conversations": _picture_conversation(picture, rng),
            }
        )
    return _write(folder / "conversations.json", images, samples)


def write_instructions(folder: Path, *, count: int, seed: int) -> DatasetFiles:
    """Write a stage 2 data set in the template "plain": a question about a picture, or its caption.

    That template drops what the user says, so question and answer are one turn, in the lines in
    which a model of the miniature is asked: a line break behind the picture, the question, the
    answer. All samples have a picture, as the template demands.

    Args:
        folder: made if it is missing; files of the same names are replaced.
        count: samples.
        seed: decides all of them.

    Returns:
        `folder/captions.json` and `folder/images`.

    Raises:
        ValueError: `count` is less than 1.
    """
    # The world's sentences need this module.
    from regap_benchmarks.miniature.world import caption_exchange, question_exchanges

    _check_count(count)
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    samples: List[Dict[str, Any]] = []
    for index, picture in enumerate(draw_pictures(count=count, seed=seed)):
        rng = random.Random(f"instruction {seed} {index}")
        asked = [caption_exchange(seed=seed, index=index)]
        if index % 2:
            asked = question_exchanges(seed=seed, index=index)
        _, question, answer = rng.choice(asked)
        samples.append(
            {
                "id": f"drawn-{index:05d}",
                "image": _save(picture, images, index),
                "conversations": _turns("<image>", f"\n{question}\n{answer}"),
            }
        )
    return _write(folder / "captions.json", images, samples)


def dataset_texts(files: DatasetFiles) -> List[str]:
    """List the texts of a data set, questions and answers, each once, without `<image>` markers."""
    samples = json.loads(files.data_path.read_text(encoding="utf-8"))
    texts = (
        turn["value"].replace("<image>", "").strip()
        for sample in samples
        for turn in sample["conversations"]
    )
    return list(dict.fromkeys(texts))


def _check_count(count: int) -> None:
    if count < 1:
        raise ValueError(f"count: expected 1 or more, found {count}. Ask for some samples.")


def _turns(question: str, answer: str) -> List[Dict[str, str]]:
    return [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]


def _picture_conversation(picture: DrawnPicture, rng: random.Random) -> List[Dict[str, str]]:
    first = picture.shapes[0]
    rounds = [
        ("Describe the image.", f"The image shows {picture.caption}."),
        ("What colour is the background?", f"The background is {picture.background}."),
        (f"What colour is the first {first.kind}?", f"It is {first.colour}."),
    ]
    turns: List[Dict[str, str]] = []
    for question, answer in rng.sample(rounds, rng.randint(1, 2)):
        turns += _turns(question, answer)
    turns[0]["value"] = "<image>\n" + turns[0]["value"]
    return turns


def _sum_conversation(rng: random.Random) -> List[Dict[str, str]]:
    left, right = rng.randint(1, 5), rng.randint(1, 5)
    words = _NUMBER_WORDS[left - 1], _NUMBER_WORDS[right - 1], _NUMBER_WORDS[left + right - 1]
    return _turns(f"What is {words[0]} plus {words[1]}?", f"The sum is {words[2]}.")


def _save(picture: DrawnPicture, images: Path, index: int) -> str:
    name = f"drawn-{index:05d}.png"
    picture.image.save(images / name)
    return name


def _write(data_path: Path, images: Path, samples: List[Dict[str, Any]]) -> DatasetFiles:
    text = json.dumps(samples, indent=1) + "\n"
    data_path.write_text(text, encoding="utf-8")
    return DatasetFiles(data_path=data_path, image_folder=images, samples=len(samples))
