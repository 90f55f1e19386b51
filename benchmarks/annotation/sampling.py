"""Which answers are labelled: drawn by strata, with the sizes kept that weight them back.

Strata are runs, sets and what the judges say together. The number of each is in proportion to the
square root of its size (power allocation: Bankier, The American Statistician 42, 1988, p. 174):
rare strata, such as answers that judges differ on, are drawn more often than at random, and still
large ones get more labels than small ones.
"""

import random
from dataclasses import dataclass
from typing import Dict, List, Mapping, Sequence, Tuple

from regap_benchmarks.annotation.candidates import Candidate, Stratum

# One label of a stratum shows nothing of its spread.
_LEAST = 2


@dataclass(frozen=True)
class Sampled:
    """What was drawn.

    Attributes:
        answers: in an order that tells nothing.
        populations: by stratum, how many answers it has.
    """

    answers: Tuple[Candidate, ...]
    populations: Mapping[Stratum, int]


def draw(found: Sequence[Candidate], number: int, *, seed: int) -> Sampled:
    """Draw answers, each stratum's at random without replacement.

    Args:
        found: all that can be drawn.
        number: of answers to draw; all where there are fewer.
        seed: of the draw.

    Raises:
        ValueError: fewer than two for each stratum: one without labels could not be weighted back.
    """
    strata: Dict[Stratum, List[Candidate]] = {}
    for candidate in found:
        strata.setdefault(candidate.stratum, []).append(candidate)
    populations = {stratum: len(members) for stratum, members in strata.items()}
    numbers = allocate(list(populations.values()), number)
    generator = random.Random(f"annotation sample {seed}")
    answers: List[Candidate] = []
    for members, share in zip(strata.values(), numbers):
        answers += generator.sample(members, share)
    generator.shuffle(answers)
    return Sampled(tuple(answers), populations)


def allocate(sizes: Sequence[int], number: int) -> List[int]:
    """How many to draw of each stratum: as the square roots of the sizes, from two to all.

    Raises:
        ValueError: see `draw`.
    """
    least = [min(size, _LEAST) for size in sizes]
    if number < sum(least):
        raise ValueError(
            f"--sample: expected {sum(least)} answers or more, two for each of {len(sizes)} strata"
            f" (run, set and what the judges say), found {number}. Draw more, or take fewer runs."
        )
    number = min(number, sum(sizes))
    given = list(least)
    while sum(given) < number:
        # One at a time to the stratum that is furthest behind its share (d'Hondt).
        open_strata = [index for index, size in enumerate(sizes) if given[index] < size]
        behind = max(open_strata, key=lambda index: sizes[index] ** 0.5 / (given[index] + 1))
        given[behind] += 1
    return given
