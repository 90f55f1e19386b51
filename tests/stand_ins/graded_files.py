"""Tiny files of the sets that a model grades: MM-Vet and LLaVA-Bench (in the wild).

The questions are made up here. Pictures are plain.
"""

import itertools

from stand_ins.answer_files import write_json, write_lines, write_picture

EVALUATOR = '''
prompt = """Grade it.

Question | Ground truth | Prediction | Correctness
"""

def run(line):
    return prompt + "\\nGive a number (digit): "
'''


def write_mm_vet(folder, count=3, *, evaluator=True, bard=()):
    """Questions of four combinations of capabilities by turns; those of `bard` are Bard's."""
    base = folder / "mm-vet"
    questions = {}
    combinations = itertools.cycle(
        (["ocr", "math"], ["rec"], ["rec", "know", "gen"], ["ocr", "spat"])
    )
    for number, capability in zip(range(count), combinations):
        write_picture(base / "images" / f"v1_{number}.png")
        questions[f"v1_{number}"] = {
            "imagename": f"v1_{number}.png",
            "question": f"Q{number}?",
            "answer": f"a{number}<AND>b<OR>c",
            "capability": capability,
            "imagesource": "web",
        }
    write_json(base / "mm-vet.json", questions)
    if bard:
        write_json(base / "bard_set.json", [f"v1_{number}" for number in bard])
    if evaluator:
        (base / "mm-vet_evaluator.py").write_text(EVALUATOR, encoding="utf-8")
    return folder


def write_llava_bench(folder, count=3, *, rule=True):
    """Questions of the three categories by turns, each about a picture of its own."""
    base = folder / "llava-bench-in-the-wild"
    questions, contexts, answers = [], [], []
    categories = itertools.cycle(("conv", "detail", "complex"))
    for number, category in zip(range(count), categories):
        write_picture(base / "images" / f"{number:03d}.jpg")
        image = f"{number:03d}.jpg"
        questions.append(
            {"question_id": number, "image": image, "category": category, "text": f"Q{number}?"}
        )
        contexts.append({"image": image, "caption": ["one", "two"] if number else "whole"})
        answers.append({"question_id": number, "text": f"G{number}", "answer_id": "x"})
    write_lines(base / "questions.jsonl", questions)
    write_lines(base / "context.jsonl", contexts)
    write_lines(base / "answers_gpt4.jsonl", answers)
    if rule:
        rules = {f"llava_bench_{q['category']}": {"role": "R", "prompt": "P"} for q in questions}
        write_json(base / "rule.json", rules)
    return folder
