"""What requests to a paid server would cost, before the first is sent.

Nobody but the server knows its tokenizer: a token is taken for four bytes of UTF-8, which is near
for English and code, and of the right order for other scripts. The answer is counted at its limit.
"""

from dataclasses import dataclass
from typing import Optional, Sequence

_BYTES_OF_A_TOKEN = 4
_TOKENS_AROUND_A_MESSAGE = 4


@dataclass(frozen=True)
class RequestCost:
    """An estimate.

    Attributes:
        requests: how many.
        prompt_tokens: about so many, of all.
        most_completion_tokens: at most so many, of all.
        price: of these, in the currency of the prices; None where no price was given.
    """

    requests: int
    prompt_tokens: int
    most_completion_tokens: int
    price: Optional[float] = None

    def __str__(self) -> str:
        said = (
            f"{self.requests} requests, about {self.prompt_tokens} tokens of prompts (4 bytes each)"
            f" and at most {self.most_completion_tokens} of answers"
        )
        if self.price is None:
            return f"{said}; for a price pass --judge-price-in and --judge-price-out"
        return f"{said}; at most about {self.price:.4g} at the prices given"


def estimate_cost(
    prompts: Sequence[Sequence[str]],
    *,
    most_tokens: int,
    price_in: Optional[float],
    price_out: Optional[float],
) -> RequestCost:
    """Estimate.

    Args:
        prompts: of each request the texts of its messages.
        most_tokens: of an answer.
        price_in: of a million tokens of prompts; None where it is not known.
        price_out: of a million tokens of answers; None where it is not known.
    """
    tokens = sum(
        -(-len(text.encode("utf-8")) // _BYTES_OF_A_TOKEN) + _TOKENS_AROUND_A_MESSAGE
        for prompt in prompts
        for text in prompt
    )
    most = len(prompts) * most_tokens
    price = None
    if price_in is not None and price_out is not None:
        price = price_of(tokens, most, price_in, price_out)
    return RequestCost(len(prompts), tokens, most, price)


def price_of(tokens_in: int, tokens_out: int, price_in: float, price_out: float) -> float:
    """The price of tokens, in the currency of the prices, which are of a million tokens."""
    return (tokens_in * price_in + tokens_out * price_out) / 1e6
