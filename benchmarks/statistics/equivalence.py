"""Is a difference small enough not to matter? Two one-sided tests within a margin (TOST).

"Not significantly different" may be two runs of ten questions. Equivalence is claimed only where
data exclude a difference as large as the margin, which has to be said before they are seen
(Schuirmann, J. Pharmacokinet. Biopharm. 15, 1987, p. 657).
"""

import dataclasses
from dataclasses import dataclass
from typing import Callable, Dict, List, Optional, Sequence, Tuple

from regap_benchmarks.statistics.intervals import holm

# Ends of the interval of a difference at a level.
IntervalAt = Callable[[float], Tuple[float, float]]
_STEPS = 32
_LEAST_P = 1e-9


@dataclass(frozen=True)
class Equivalence:
    """Whether two groups are equivalent within a margin, on one row of a comparison.

    Attributes:
        margin: half the width of what counts as equal, in the unit of the difference.
        lower, upper: ends of the interval of the difference at `level`.
        level: 1 - 2 alpha: 0.9 where alpha is 0.05.
        p: the least alpha at which the interval lies within the margin: the larger p of the two
            one-sided tests.
        adjusted_p: by Holm over all rows of a comparison.
        equivalent: whether `adjusted_p` is at most alpha; False is "not shown", not "different".
    """

    margin: float
    lower: float
    upper: float
    level: float
    p: float
    adjusted_p: Optional[float] = None
    equivalent: Optional[bool] = None


@dataclass(frozen=True)
class Margins:
    """What was stated beforehand, in points: of percent, or of the metric's own where it has some.

    Attributes:
        default: for all rows; None where only some have one.
        by_name: for a task, or TASK.METRIC.
    """

    default: Optional[float]
    by_name: Dict[str, float]

    def of(self, task: str, metric: str, factor: Optional[float]) -> Optional[float]:
        """The margin of a row as a fraction; None where none was stated.

        Args:
            task: its task.
            metric: its metric.
            factor: `Metric.factor`.
        """
        points = self.by_name.get(f"{task}.{metric}", self.by_name.get(task, self.default))
        return None if points is None else points / (factor or 100)


def margins(text: str) -> Margins:
    """Read `--margin`: "1", or "1,mme=20,mme.cognition=10": of all, of a task, of one metric.

    Raises:
        ValueError: another form, or a margin that is not above 0.
    """
    default, by_name = None, {}
    for part in text.split(","):
        name, equals, number = part.rpartition("=")
        try:
            points = float(number)
        except ValueError:
            points = -1.0
        if not 0 < points < float("inf") or bool(equals) != bool(name.strip()):
            raise ValueError(
                f"--margin: expected points above 0, as in 1 or 1,mme=20, found {part!r}."
            )
        if name:
            by_name[name.strip()] = points
        else:
            default = points
    return Margins(default, by_name)


def equivalence(interval_at: IntervalAt, margin: float, *, level: float = 0.95) -> Equivalence:
    """Test whether a difference lies within the margin.

    The interval is turned into the test, so that both always agree: its p is found by halving.

    Args:
        interval_at: ends of the difference's interval, wider at higher levels.
        margin: above 0.
        level: 1 - alpha, such as 0.95; the interval that is shown has 1 - 2 alpha.

    Raises:
        ValueError: a margin that is not above 0, a level not between 0.5 and 1.
    """
    if not (margin > 0 and 0.5 < level < 1):
        raise ValueError(
            f"Equivalence: expected a margin above 0 and a level between 0.5 and 1, found {margin}"
            f" and {level}. State the margin before the data are seen."
        )
    shown = 2 * level - 1
    lower, upper = interval_at(shown)
    return Equivalence(margin, lower, upper, shown, _p(interval_at, margin))


def _p(interval_at: IntervalAt, margin: float) -> float:
    def within(alpha: float) -> bool:
        lower, upper = interval_at(1 - 2 * alpha)
        return -margin < lower and upper < margin

    outside, inside = _LEAST_P, 0.5 - 1e-6
    if not within(inside):
        return 1.0  # the difference itself is as large as the margin
    if within(outside):
        return _LEAST_P
    for _ in range(_STEPS):
        middle = (outside + inside) / 2
        if within(middle):
            inside = middle
        else:
            outside = middle
    return inside


def adjust(found: Sequence[Equivalence]) -> List[Equivalence]:
    """Holm over all of them, and the verdict of each."""
    alphas = [(1 - item.level) / 2 for item in found]
    return [
        dataclasses.replace(item, adjusted_p=p, equivalent=p <= alpha + 1e-12)
        for item, p, alpha in zip(found, holm([item.p for item in found]), alphas)
    ]
