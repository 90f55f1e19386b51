"""Reading a choice as MMBench's first evaluator does before it asks GPT: a letter, else a text.

`can_infer` of open-compass/opencompass, tools/eval_mmbench.py at 6ca2be6, for the set of July 2023;
lmms-eval has the same. Its faults are kept: letters up to E count whatever the question offers; an
empty prediction comes out of the workbook as "nan", in which an option's text may be found.
"""

import string
from typing import Mapping, Optional

_LETTERS = string.ascii_uppercase[:5]
# What stands before and after the letter in a word, in the order in which it is looked for.
_MARKS = (
    *(("", "."), ("", ","), ("", ":"), ("", ")"), ("", ")."), ("(", ")")),
    *(("(", ")."), (":", ""), (":", ","), (":", "."), (":", ")"), (":", ").")),
)
_NO_ANSWER = "Failed to obtain answer via API"
# An answer of more words that has an "A" may mean the article.
_SHORT = 3


def infer_letter(answer: str) -> Optional[str]:
    """The only letter that is a word by itself; else the only one with a mark, mark by mark.

    Where "A" is that word and there are more than three words, only marks are looked for. None
    where the evaluator looks for a text.
    """
    if _NO_ANSWER in answer:
        return None
    words = set(answer.split())
    alone = [letter for letter in _LETTERS if letter in words]
    article = "A" in words and len(answer.split()) > _SHORT
    if len(alone) == 1 and not article:
        return alone[0]
    for before, after in _MARKS:
        marked = [letter for letter in _LETTERS if before + letter + after in words]
        if len(marked) == 1:
            return marked[0]
    return None


def infer_text(answer: str, options: Mapping[str, str]) -> Optional[str]:
    """The letter of the only option whose text is somewhere in the answer, in any case.

    None where the evaluator asks GPT.

    Args:
        answer: the prediction; "nan" for an empty one.
        options: texts by letter.
    """
    said = answer.lower()
    found = [letter for letter, text in options.items() if text.lower() in said]
    return found[0] if len(found) == 1 else None
