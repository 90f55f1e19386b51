"""Every registered set of utility in one folder, as LLaVA's evaluation guide lays it out."""

import shutil
from pathlib import Path

from stand_ins import choice_files, graded_files, vqa_files

# Those that a model grades, and those that no server or model is needed for.
GRADED = ("llava_bench", "mm_vet", "mm_vet_bard")
CHOSEN = ("mmbench", "mmbench_en", "mme", "pope", "pope_head", "scienceqa")
DRAWN = ("captions", "drawn_questions")
TASKS = (*DRAWN, *CHOSEN, *GRADED, "vqav2", *vqa_files.ALL)


def write_all(data: Path, count: int = 6) -> None:
    """All sets below `data`, with about `count` questions each."""
    vqa_files.write_all(data, count)
    choice_files.write_scienceqa(data, count)
    choice_files.write_mmbench(data, count)
    choice_files.write_mmbench(data, count, name="MMBench_DEV_EN.tsv")
    choice_files.write_mme(data, pictures=count // 2)
    labels = ("yes", "no", "no", "yes")[: count // 2] * (count // 4 or 1)
    # Both commits of POPE, each in a folder of its own.
    for folder, typo in (("coco_head", False), ("coco_e3e3926", True)):
        choice_files.write_pope(data, typo=typo, labels=labels)
        shutil.move(data / "pope" / "coco", data / "pope" / folder)
    graded_files.write_mm_vet(data, count, bard=range(count // 2))
    graded_files.write_llava_bench(data, count)
