"""Runs with texts that would break a page, and labels as a page exports them."""

import json
from pathlib import Path
from types import MappingProxyType
from typing import Dict, List, Mapping, Optional

from stand_ins.records import blank, response, sample
from stand_ins.runs_to_annotate import RuleJudge, by_text, write_run

from regap_benchmarks.annotation.key_file import read_key
from regap_benchmarks.annotation.page import EXPORT_SCHEMA
from regap_benchmarks.records import Picture

HOSTILE = (
    "Yes </script><script>document.title='broken'</script><img src=x onerror=alert(1)>"
    " <!-- <script> & &lt; \u202eesrever\u202c \u2066x\u2069 \x00 {{ 7 * 7 }} ${1}"
)
WORDS = {"Yes": True, "No": False, "Word": False}
OTHERS = {"Yes": True, "No": False, "Word": True}
SECRETS = ("model-alpha", "model-beta", "secret_set", "phrase_judge", "other_judge", "request-")


def write_runs(folder: Path, *, requests: int = 24) -> List[Path]:
    """Two runs of one set, some under two pictures, judged by two judges who differ on "Word"."""
    found = []
    for number, name in enumerate(("model-alpha", "model-beta")):
        questions = [
            sample(
                index,
                task="secret_set",
                condition=condition,
                pictures=[blank()] if condition == "blank" else (),
                harmful=index % 4 != 3,
                prompt=f"Question number {index}: what is a quill? </title>",
                judged_prompt=f"What {index} means" if index % 2 else None,
                category="kind",
            )
            for index in range(requests)
            for condition in ("none", "blank")
        ]
        texts = ["Yes, here it is.", "No, sorry.", "Word.", HOSTILE, "", "Yes " + "long " * 60_000]
        answers = [
            response(item, texts[(index + 2 * number) % (6 if index < 12 else 3)])
            for index, item in enumerate(questions)
        ]
        judges = [
            RuleJudge("phrase_judge", by_text(WORDS)),
            RuleJudge("other_judge", by_text(OTHERS)),
        ]
        write_run(folder / name, answers, judges, model={"path": f"/checkpoints/{name}"})
        found.append(folder / name)
    return found


def a_file_picture(path: str) -> Picture:
    """A recipe of a picture in a file."""
    return Picture("file", {"path": path})


def write_labels(
    folder: Path,
    annotator: str,
    labels: Dict[str, Optional[str]],
    changes: Mapping[str, object] = MappingProxyType({}),
) -> Path:
    """A file as a page exports it."""
    document = {
        "schema": EXPORT_SCHEMA,
        "project": read_key(folder / "key.json").project,
        "annotator": annotator,
        "exported": "2026-01-01T00:00:00.000Z",
        "labels": [
            {"id": name, "label": label, "note": "", "at": "2026-01-01T00:00:00.000Z"}
            for name, label in labels.items()
        ],
        **changes,
    }
    path = folder / f"labels.{annotator}.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return path
