"""How often equivalence is claimed where the true difference is just the margin, and where it is 0.

`python -m regap_benchmarks.performance.equivalence_error --output FILE.json` draws answers of two
groups of runs: each request has its own easiness, each run its own skill, each answer chance of its
own. Of a test at 5 %, at most 5 % of the first kind may be claimed.
"""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Dict, List, NamedTuple, Tuple

from regap_benchmarks.statistics.crossed_difference import crossed_difference
from regap_benchmarks.statistics.equivalence import equivalence

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

# Standard deviations in logits: of requests, and of an answer about its request and run.
_OF_REQUESTS, _OF_ANSWERS = 1.5, 0.5
_POPULATION = 200_000


class Setting(NamedTuple):
    """One row: runs of each group, requests, spread of runs by group in logits, rate, margin."""

    runs: int
    requests: int
    spread: Tuple[float, float]
    rate: float
    margin: float


SETTINGS = [
    Setting(runs, requests, spread, rate, margin)
    for runs, requests, spread, rate in (
        (1, 200, (0.0, 0.0), 0.5),
        (1, 200, (0.0, 0.0), 0.85),
        (2, 200, (0.1, 0.1), 0.5),
        (3, 200, (0.1, 0.1), 0.5),
        (3, 200, (0.0, 0.2), 0.5),
        (5, 200, (0.1, 0.1), 0.85),
        (3, 1000, (0.1, 0.1), 0.7),
    )
    for margin in (0.05, 0.1)
]


def claimed(setting: Setting, difference: float, *, sets: int, seed: int) -> float:
    """The share of drawn data sets in which equivalence is claimed at 5 %.

    Args:
        setting: of the data.
        difference: the true one of the rates.
        sets: how many are drawn.
        seed: of the draws.
    """
    import numpy as np
    from scipy.special import expit

    generator = np.random.default_rng(seed)
    means = [
        _logit_of(setting.rate, setting.spread[0]),
        _logit_of(setting.rate + difference, setting.spread[1]),
    ]
    shape, ones = (setting.runs, setting.requests), np.ones(setting.requests)
    found = 0
    for _ in range(sets):
        easy = generator.normal(0, _OF_REQUESTS, setting.requests)
        groups: List[Floats] = []
        for mean, spread in zip(means, setting.spread):
            skill = generator.normal(0, spread, (setting.runs, 1))
            own = generator.normal(0, _OF_ANSWERS, shape)
            right = generator.random(shape) < expit(mean + easy[None, :] + skill + own)
            groups.append(right.astype(np.float64))

        def interval_at(level: float, drawn: "List[Floats]" = groups) -> Tuple[float, float]:
            done = crossed_difference(drawn[0], drawn[1], ones, level=level)
            return done.lower, done.upper

        found += equivalence(interval_at, setting.margin).p <= 0.05
    return found / sets


def _logit_of(rate: float, spread: float) -> float:
    """The mean in logits at which answers are right with this rate."""
    import numpy as np
    from scipy.optimize import brentq
    from scipy.special import expit

    deviation = (_OF_REQUESTS**2 + _OF_ANSWERS**2 + spread**2) ** 0.5
    normal = np.random.default_rng(0).normal(0, deviation, _POPULATION)
    return float(brentq(lambda mean: float(expit(mean + normal).mean()) - rate, -12, 12))


def main() -> None:
    """Measure all settings and write them."""
    parser = argparse.ArgumentParser(description="Measure the errors of the test of equivalence.")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE.json")
    parser.add_argument("--sets", type=int, default=400, metavar="N", help="data sets of each")
    arguments = parser.parse_args()
    rows: List[Dict[str, object]] = []
    for number, setting in enumerate(SETTINGS):
        row = {
            **setting._asdict(),
            "claimed_at_margin": claimed(setting, setting.margin, sets=arguments.sets, seed=number),
            "claimed_at_zero": claimed(setting, 0.0, sets=arguments.sets, seed=1000 + number),
        }
        rows.append(row)
        print(json.dumps(row), flush=True)
    document = {"sets": arguments.sets, "level": 0.95, "rows": rows}
    arguments.output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
