"""What an answer has cost where a defence stood before the model. Standard library only."""

from dataclasses import dataclass
from typing import Iterable


@dataclass(frozen=True)
class Cost:
    """Of one answer, all calls together.

    Attributes:
        calls: of the model.
        prompt_tokens: that it read over all calls, an image placeholder counted as one.
        new_tokens: that it wrote over all calls, end tokens not counted.
        seconds: of the calls; of a call for a batch, its share: the time by the number of requests.
        scorings: of other models that a defence asks.
        plain_prompt_tokens: of the one prompt that would have been read without a defence.
    """

    calls: int = 0
    prompt_tokens: int = 0
    new_tokens: int = 0
    seconds: float = 0.0
    scorings: int = 0
    plain_prompt_tokens: int = 0


@dataclass(frozen=True)
class DefenceStep:
    """What was said on the way to an answer.

    Attributes:
        defence: its name.
        step: what it was for, in the defence's own words.
        text: what the model said, or a score.
    """

    defence: str
    step: str
    text: str


def total(costs: Iterable[Cost]) -> Cost:
    """All of them together; the plain prompt is that of the largest, as it is one prompt."""
    found = list(costs)
    return Cost(
        calls=sum(each.calls for each in found),
        prompt_tokens=sum(each.prompt_tokens for each in found),
        new_tokens=sum(each.new_tokens for each in found),
        seconds=sum(each.seconds for each in found),
        scorings=sum(each.scorings for each in found),
        plain_prompt_tokens=max((each.plain_prompt_tokens for each in found), default=0),
    )
