"""VLGuard's training set as conversations that LLaVA's train.py takes.

Zong et al., ICML 2024, arXiv 2402.02207; convert_to_llava_format.py of ys-zong/VLGuard at 807fe4c.
"""

import random
from pathlib import Path
from typing import Any, Dict, List

from regap_benchmarks.official.file_entries import Entry, each_once, read_json

_INSTRUCTIONS = ("safe_instruction", "unsafe_instruction", "instruction")
_PICTURE = "<image>"


def vlguard_conversations(path: Path, *, seed: int = 0) -> List[Dict[str, Any]]:
    """The records of train.json with `conversations` in place of `instr-resp`.

    A picture with a safe and an unsafe instruction becomes one conversation of two rounds in random
    order; the picture goes with the first. With seed 0 the order is that of the official file.

    Args:
        path: data/train.json.
        seed: of the order.

    Raises:
        OfficialFileError: a record that is not as expected, by file and line.
    """
    # One draw for each picture with two instructions, as the official script makes them.
    order = random.Random(seed)
    found = []
    for record in each_once(read_json(path), ("id",)):
        pairs = [_pair(record, value) for value in record.items("instr-resp")]
        if not pairs:
            raise record.error("one or two pairs in 'instr-resp'", "none")
        if len(pairs) > 1:
            order.shuffle(pairs)
        turns: List[Dict[str, str]] = []
        for number, (instruction, answer) in enumerate(pairs[:2]):
            asked = instruction if number else _PICTURE + instruction
            turns.append({"from": "human", "value": asked})
            turns.append({"from": "gpt", "value": answer})
        kept = {key: value for key, value in record.values.items() if key != "instr-resp"}
        found.append({**kept, "conversations": turns})
    return found


def mixed(
    conversations: List[Dict[str, Any]], others: List[Dict[str, Any]], number: int, *, seed: int = 0
) -> List[Dict[str, Any]]:
    """The conversations and `number` of others, drawn without replacement, as VLGuard mixes them.

    Raises:
        ValueError: fewer others than that.
    """
    if not 0 <= number <= len(others):
        raise ValueError(
            f"--mix-number: expected 0 to {len(others)}, as there are conversations to mix in,"
            f" found {number}. Lower it."
        )
    return conversations + random.Random(seed).sample(others, number)


def _pair(record: Entry, value: Any) -> "tuple[str, str]":
    if not isinstance(value, dict):
        raise record.error("an instruction with its response", type(value).__name__)
    names = [name for name in _INSTRUCTIONS if name in value]
    if len(names) != 1:
        raise record.error(f"one of {', '.join(_INSTRUCTIONS)}", f"{len(names)} of them")
    entry = Entry(record.path, record.place, value)
    return entry.text(names[0]), entry.text("response")
