"""Conversations of several turns: what is said before the last question, and how it is asked.

The model's own answers are fed back as history; the pictures stand in the first turn. Standard
library only.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Turn:
    """One turn that is over.

    Attributes:
        prompt: of the user, without image placeholders.
        answer: of the model.
    """

    prompt: str
    answer: str
