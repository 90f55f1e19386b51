"""A judge's published prompt: shipped where its licence lets us, or read from its authors' file.

A file is text, or a Python source in which a constant holds the text; the source is parsed and
never run. What was read is known by its hash, so that two texts under one name cannot be mixed up.
"""

import ast
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Mapping, Optional, Sequence

from regap_benchmarks.records import Json


@dataclass(frozen=True)
class PublishedPrompt:
    """A prompt with slots.

    Attributes:
        text: with slots such as `{behavior}`.
        variant: its name by the hash; "other" where the hash is not known.
    """

    text: str
    variant: str

    def fill(self, values: Mapping[str, str]) -> str:
        """Put texts into the slots; braces in them stay as they are."""
        return re.sub(
            r"\{(" + "|".join(map(re.escape, values)) + r")\}",
            lambda slot: values[slot.group(1)],
            self.text,
        )

    def describe(self) -> Mapping[str, Json]:
        """Variant and hash."""
        return {"variant": self.variant, "sha256": sha256(self.text)}


def read_prompt(
    path: Path,
    *,
    constant: str,
    key: Optional[str] = None,
    slots: Sequence[str],
    known: Mapping[str, str],
) -> PublishedPrompt:
    """Read a prompt.

    Args:
        path: text, or a `.py` file.
        constant: name in the `.py` file.
        key: where the constant is a dictionary.
        slots: that the text must have.
        known: variants by hash.

    Raises:
        ValueError: no such file, constant or slot.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"--judge-prompt {path}: expected a text that can be read, found: {error}."
        ) from error
    if path.suffix == ".py":
        text = _constant(path, text, constant, key)
    missing = [slot for slot in slots if f"{{{slot}}}" not in text]
    if missing:
        raise ValueError(
            f"--judge-prompt {path}: expected the slots {', '.join(f'{{{s}}}' for s in slots)},"
            f" found none for {', '.join(missing)}. Pass the judge's published prompt."
        )
    return PublishedPrompt(text, known.get(sha256(text), "other"))


def shipped_prompt(text: str, known: Mapping[str, str]) -> PublishedPrompt:
    """A prompt that comes with the project, with its variant by the hash."""
    return PublishedPrompt(text, known.get(sha256(text), "other"))


def sha256(text: str) -> str:
    """Of the text in UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()


def _constant(path: Path, source: str, name: str, key: Optional[str]) -> str:
    found: object = None
    try:
        for node in ast.parse(source).body:
            if isinstance(node, ast.Assign) and any(
                isinstance(target, ast.Name) and target.id == name for target in node.targets
            ):
                found = ast.literal_eval(node.value)
    except (SyntaxError, ValueError) as error:
        raise ValueError(
            f"--judge-prompt {path}: expected a Python source with the text {name}, found: {error}."
        ) from error
    if isinstance(found, dict) and key is not None:
        found = found.get(key)
    if not isinstance(found, str):
        where = name if key is None else f"{name} or {name}[{key!r}]"
        raise ValueError(
            f"--judge-prompt {path}: expected a text named {where}, found none. Pass the source"
            " file that publishes it, or the text alone in a .txt file."
        )
    return found
