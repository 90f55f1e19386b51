"""A number at one weight against weight 0, paired by seed, with its interval over the seeds.

Each seed is a world, a language model, pictures and a training of its own, so the seeds are what is
independent; the interval is Student's t over their differences. scipy is imported where it is used.
"""

import math
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

from regap_benchmarks.miniature.measuring import Checkpoint
from regap_benchmarks.statistics.intervals import t_quantile

FELL, ROSE, UNDECIDED, SAME, ONE_SEED = "fell", "rose", "undecided", "same", "one seed"


@dataclass(frozen=True)
class Spread:
    """Values of one number over seeds.

    Attributes:
        values: by seed.
    """

    values: Tuple[float, ...]

    @property
    def mean(self) -> float:
        """Over the seeds; NaN of none."""
        return mean(self.values) if self.values else math.nan

    @property
    def deviation(self) -> Optional[float]:
        """Standard deviation over the seeds; None of one."""
        return stdev(self.values) if len(self.values) > 1 else None


@dataclass(frozen=True)
class Contrast:
    """A number at a weight, less the same at weight 0.

    Attributes:
        name: of the number.
        loss, weight: of the regularised runs.
        before, after: at weight 0 and at the weight, of the same seeds.
        value: mean difference.
        lower, upper: of its interval; None of one seed.
        level: of the interval.
    """

    name: str
    loss: str
    weight: float
    before: Spread
    after: Spread
    value: float
    lower: Optional[float]
    upper: Optional[float]
    level: float

    @property
    def verdict(self) -> str:
        """What the interval allows to say: "fell", "rose", "undecided", "same" or "one seed"."""
        if self.lower is None or self.upper is None:
            return ONE_SEED
        if self.lower == self.upper == 0:
            return SAME
        if self.upper < 0:
            return FELL
        if self.lower > 0:
            return ROSE
        return UNDECIDED


def contrast(
    name: str,
    before: Mapping[int, float],
    after: Mapping[int, float],
    *,
    loss: str,
    weight: float,
    level: float = 0.95,
) -> Optional[Contrast]:
    """The difference over the seeds that both have; None where there is none.

    Args:
        name: of the number.
        before: by seed, at weight 0.
        after: by seed, at the weight.
        loss: formula.
        weight: lambda.
        level: of the interval.
    """
    seeds = sorted(before.keys() & after.keys())
    if not seeds:
        return None
    differences = [after[seed] - before[seed] for seed in seeds]
    middle = mean(differences)
    lower = upper = None
    if len(seeds) > 1:
        error = stdev(differences) / math.sqrt(len(seeds))
        reach = t_quantile(level, len(seeds) - 1) * error
        lower, upper = middle - reach, middle + reach
    return Contrast(
        name,
        loss,
        weight,
        Spread(tuple(before[seed] for seed in seeds)),
        Spread(tuple(after[seed] for seed in seeds)),
        middle,
        lower,
        upper,
        level,
    )


def contrasts(
    checkpoints: Sequence[Checkpoint], names: Sequence[str], *, level: float = 0.95
) -> List[Contrast]:
    """Of every loss and weight and every name, at the last step of the trainings."""
    last = last_steps(checkpoints)
    plain = {each.seed: each for each in last if each.weight == 0 and not each.variant}
    groups: Dict[Tuple[str, float], Dict[int, Checkpoint]] = {}
    for each in last:
        if each.weight and not each.variant:
            groups.setdefault((each.loss, each.weight), {})[each.seed] = each
    found = []
    for (loss, weight), group in groups.items():
        for name in names:
            made = contrast(
                name,
                values_of(plain, name),
                values_of(group, name),
                loss=loss,
                weight=weight,
                level=level,
            )
            if made is not None:
                found.append(made)
    return found


def values_of(checkpoints: Mapping[int, Checkpoint], name: str) -> Dict[int, float]:
    """A number by seed, of those that have it."""
    found = {seed: each.get(name) for seed, each in checkpoints.items()}
    return {seed: value for seed, value in found.items() if value is not None}


def last_steps(checkpoints: Sequence[Checkpoint]) -> List[Checkpoint]:
    """Of each training the checkpoint of its last step, those of weight 0 first."""
    last: Dict[Tuple[int, str, Optional[float], str], Checkpoint] = {}
    for each in checkpoints:
        key = (each.seed, each.loss, each.weight, each.variant)
        if key not in last or each.step > last[key].step:
            last[key] = each
    return sorted(last.values(), key=lambda each: each.weight != 0)
