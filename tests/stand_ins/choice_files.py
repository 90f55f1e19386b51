"""Tiny files in the layouts of LLaVA's evaluation guide: POPE, ScienceQA, MMBench, MME.

The questions are made up here. Pictures are plain.
"""

import base64
import csv
import io
import itertools

import pytest
from stand_ins.answer_files import write_json, write_lines, write_picture

from regap_benchmarks.utility.pope import SPLITS, SUFFIX


def write_pope(folder, *, typo=True, labels=("yes", "no", "no", "yes"), pictures=True):
    """Three splits, two questions about each picture, as LLaVA and POPE lay them out."""
    questions, offset = [], 0
    for split in SPLITS:
        rows = []
        for number, label in enumerate(labels, start=1):
            word = "imange" if typo and number == 2 else "image"
            text = f"Is there a {split} thing {number} in the {word}?"
            image = f"COCO_{(number - 1) // 2}.jpg"
            rows.append({"question_id": number, "image": image, "text": text, "label": label})
            question = {"question_id": offset + number, "image": image, "text": text + SUFFIX}
            questions.append({**question, "category": split})
        write_lines(folder / "pope" / "coco" / f"coco_pope_{split}.json", rows)
        offset += 10_000_000
    write_lines(folder / "pope" / "llava_pope_test.jsonl", questions)
    if pictures:
        for number in range((len(labels) + 1) // 2):
            write_picture(folder / "pope" / "val2014" / f"COCO_{number}.jpg")
    return questions


def write_scienceqa(folder, count=4):
    """Of each four questions two have a picture; the answers are A, B, C, B."""
    questions, problems = [], {}
    kinds = itertools.cycle([(0, 2, True), (1, 3, True), (2, 4, False), (1, 2, False)])
    for number, (answer, choices, pictured) in zip(range(1, count + 1), kinds):
        text = f"Question {number}?\n" + "\n".join(f"{'ABCD'[i]}. c{i}" for i in range(choices))
        item = {"id": str(number), "conversations": [{"from": "human", "value": text}, {}]}
        if pictured:
            item["image"] = f"{number}/image.png"
            item["conversations"][0]["value"] = "<image>\n" + text
            write_picture(folder / "scienceqa" / "images" / "test" / str(number) / "image.png")
        questions.append(item)
        problems[str(number)] = {"answer": answer, "choices": [f"c{i}" for i in range(choices)]}
    write_json(folder / "scienceqa" / "llava_test_CQM-A.json", questions)
    write_json(folder / "scienceqa" / "problems.json", problems)
    return folder


def write_mme(folder, *, beside=False, pictures=2):
    """Some pictures of two subtasks, and a question that has no answer."""
    lines = []
    for subtask, ending in (("existence", "jpg"), ("code_reasoning", "png")):
        for number in range(pictures):
            name = f"{subtask}/{number}.{ending}"
            base = folder / "MME" / "MME_Benchmark_release_version" / subtask
            write_picture(base / f"{number}.{ending}")
            texts = base if beside else base / "questions_answers_YN"
            texts.mkdir(parents=True, exist_ok=True)
            rows = []
            for answer in ("Yes", "No"):
                question = f"Is {answer} right of {number}?"
                rows.append(f"{question} Please answer yes or no.\t{answer}")
                line = {"question_id": name, "image": name, "text": question + SUFFIX}
                lines.append({**line, "category": subtask})
            (texts / f"{number}.txt").write_text("\n".join(rows) + "\n", encoding="utf-8")
    extra = {"question_id": "existence/9.jpg", "text": "Unknown?" + SUFFIX}
    write_lines(folder / "MME" / "llava_mme.jsonl", [*lines, {**extra, "category": "existence"}])
    return lines


HEADER = [
    *("index", "question", "hint", "A", "B", "C", "D", "answer", "category", "image"),
    *("source", "l2-category", "comment", "split"),
]


def picture_text(colour):
    image = pytest.importorskip("PIL.Image")
    file = io.BytesIO()
    image.new("RGB", (40, 40), colour).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def write_tsv(folder, rows, name="mmbench_dev_20230712.tsv"):
    path = folder / "mmbench" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, HEADER, delimiter="\t", restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_mmbench(folder, count=2, name="mmbench_dev_20230712.tsv"):
    """By turns two choices in two orders, and three in three, whose hint has line ends and quotes.

    The first two have the indices 7 and 8.
    """
    rows = []
    for number in range(7, 7 + count):
        kind = (number - 7) % 2
        options, last = (["x", "y"], "x") if kind == 0 else (["p", "q", "\u00e9"], "\u00e9")
        picture = picture_text((0, 0, 255) if kind else (255, 0, 0))
        for turn in range(len(options)):
            turned = options[turn:] + options[:turn]
            row = {"index": number + turn * 1_000_000, "question": "Which?", "category": "colour"}
            if kind:
                more = {"question": 'The "last"?', "hint": "one\n\ntwo\t3", "category": "place"}
                row.update(more)
            row.update(zip("ABC", turned), answer="ABC"[turned.index(last)], split="dev")
            # Later orders name the row that has the picture.
            rows.append({**row, "image": str(number) if kind and turn else picture})
    write_tsv(folder, rows, name)
    return rows
