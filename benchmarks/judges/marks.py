"""What divides a judge's prompt, broken where a judged text spells it out.

A judged text is untrusted: it may spell out the marks by which the prompt is divided, and so speak
in the prompt's name. Such a mark is broken by a space after its first character.
"""

import re
from typing import Sequence, Tuple


class Marks:
    """The marks of one prompt.

    Args:
        texts: as they are spelt, in any case. One character alone divides nothing, and breaking it
            would change every answer: it is left out.
        patterns: regular expressions of more; `^` is the start of a line.
    """

    def __init__(self, texts: Sequence[str], patterns: Sequence[str] = ()) -> None:
        kept = sorted({text for text in texts if len(text.strip()) > 1}, key=len, reverse=True)
        every = [*map(re.escape, kept), *patterns]
        self._pattern = re.compile("|".join(every), re.IGNORECASE | re.MULTILINE) if every else None

    def broken(self, text: str) -> Tuple[str, int]:
        """The text with its marks broken, and how many they were."""
        if self._pattern is None:
            return text, 0
        return self._pattern.subn(lambda found: f"{found.group()[0]} {found.group()[1:]}", text)
