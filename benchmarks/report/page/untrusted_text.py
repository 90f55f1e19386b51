"""Text of models, sets and folders on a page: nothing in it runs, hides or turns the line around.

Jinja escapes what HTML reads as markup. Here is what it leaves: characters that change how the text
around them is shown, and text within a script element.
"""

import json
import re

from regap_benchmarks.records import Json

# Controls but tab and ends of lines; directional marks, embeddings, overrides and isolates (UAX 9);
# line and paragraph separators; what is invisible, but for the joiners, which scripts need; tags;
# lone surrogates.
HIDDEN = (
    "\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e"
    "\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f"
)
_HIDDEN = re.compile(f"[{HIDDEN}]")
# What ends a script element or opens a comment in it; and what hides, for readers of the source.
_IN_SCRIPT = re.compile(f"[<>&{HIDDEN}]")


def visible(text: str) -> str:
    """The text with each hidden character as its code point, such as [U+202E]."""
    return _HIDDEN.sub(lambda found: f"[U+{ord(found.group()):04X}]", text)


def cut(text: str, length: int) -> str:
    """`visible` text on one line, of at most so many characters; the cut is marked."""
    line = " ".join(visible(text).split())
    return line if len(line) <= length else line[: length - 1].rstrip() + "\u2026"


def script_json(value: Json) -> str:
    """JSON for an element `<script type="application/json">`: no character in it is markup.

    Raises:
        ValueError: a number that JSON does not have.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return _IN_SCRIPT.sub(_escaped, text)


def _escaped(found: "re.Match[str]") -> str:
    # In units of UTF-16, as JSON has them; a lone surrogate is one, and cannot be written as UTF-8.
    units = found.group().encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4))
