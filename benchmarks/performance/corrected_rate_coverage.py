"""How often the interval of a corrected rate covers the truth, by simulation.

Draws runs with a known rate and a judge with known errors, and labels that are drawn by what two
judges say, as `regap-bench annotate` does. The choice of method rests on it: docs/annotation.md.

    python -m regap_benchmarks.performance.corrected_rate_coverage --output coverage.json
"""

import argparse
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence, Tuple

from regap_benchmarks.annotation.sampling import allocate
from regap_benchmarks.performance.measurement import (
    FAILED,
    INTERRUPTED,
    BenchmarkError,
    check_output,
    describe_environment,
    table,
    write_result,
)
from regap_benchmarks.statistics.rogan_gladen import (
    LabelledVerdicts,
    corrected_rate,
    lang_reiczigel_interval,
    sensitivity_and_specificity,
)
from regap_benchmarks.statistics.weighted_proportion import (
    proportion_interval,
    weighted_proportion,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[Any]

_TRIALS, _RESAMPLES = 400, 400
_SPREAD = 1.5  # of the logits of requests that are asked under several pictures
_OTHER_JUDGE = 0.8  # sensitivity and specificity of the second judge
USED, LANG_REICZIGEL, ALONE, APPARENT = "used", "Lang-Reiczigel", "people alone", "judge's own rate"


@dataclass(frozen=True)
class Setting:
    """A run and its labels.

    Attributes:
        requests: of the run.
        pictures: answers to each.
        logit: of the true rate of a request in the middle.
        sensitivity, specificity: of the judge.
        labels: that are drawn.
    """

    requests: int
    pictures: int
    logit: float
    sensitivity: float
    specificity: float
    labels: int


SETTINGS = (
    Setting(500, 1, -0.85, 0.9, 0.9, 100),
    Setting(500, 1, -2.2, 0.8, 0.95, 100),
    Setting(500, 1, -2.94, 0.9, 0.95, 100),
    Setting(500, 1, 0.0, 0.95, 0.7, 60),
    Setting(500, 1, -0.85, 0.98, 0.98, 60),
    Setting(500, 1, -0.85, 0.6, 0.6, 100),
    Setting(200, 1, -0.85, 0.85, 0.9, 40),
    Setting(150, 4, -0.85, 0.85, 0.9, 120),
    Setting(500, 3, -0.85, 0.85, 0.9, 200),
)


def coverage(setting: Setting, *, trials: int, seed: int = 0) -> Dict[str, float]:
    """Share of data sets whose interval of 95 % holds the true rate, by method.

    Also "width" of the one that is used, "bootstrap", how often that was one, "undefined", and
    "bias", the mean of the estimate less the truth.
    """
    import numpy as np

    generator = np.random.default_rng(seed)
    truth = _truth(setting)
    covered: Dict[str, List[bool]] = {name: [] for name in (USED, LANG_REICZIGEL, ALONE, APPARENT)}
    widths, bootstraps, errors = [], [], []
    for _ in range(trials):
        people, judge, requests, weights = _run(setting, generator)
        drawn = weights > 0
        labels = LabelledVerdicts(judge[drawn], people[drawn], requests[drawn], weights[drawn])
        found = corrected_rate(judge, requests, labels, resamples=_RESAMPLES)
        apparent = weighted_proportion(judge, requests)
        alone = weighted_proportion(labels.people, labels.requests, labels.weights)
        for name, item in ((ALONE, alone), (APPARENT, apparent)):
            limits = proportion_interval(item)
            covered[name].append(limits.lower <= truth <= limits.upper)
        if found.value is None or found.lower is None or found.upper is None:
            continue
        covered[USED].append(found.lower <= truth <= found.upper)
        widths.append(found.upper - found.lower)
        bootstraps.append("bootstrap" in found.method)
        errors.append(found.value - truth)
        sensitivity, specificity = sensitivity_and_specificity(labels)
        if sensitivity is not None and specificity is not None:
            wide = lang_reiczigel_interval(apparent, sensitivity, specificity)
            covered[LANG_REICZIGEL].append(wide is not None and wide.lower <= truth <= wide.upper)
    return {
        "truth": truth,
        **{name: float(np.mean(shares)) for name, shares in covered.items()},
        "width": float(np.mean(widths)),
        "bias": float(np.mean(errors)),
        "bootstrap": float(np.mean(bootstraps)),
        "undefined": 1 - len(widths) / trials,
    }


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Measure, print and write; 0: done, 1: failed, 130: interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m regap_benchmarks.performance.corrected_rate_coverage",
        description=__doc__.split("\n")[0],
    )
    parser.add_argument(
        "--trials",
        type=int,
        default=_TRIALS,
        metavar="N",
        help="data sets for each setting (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="JSON file to write")
    arguments = parser.parse_args(argv)
    if arguments.trials < 1:
        parser.error(f"--trials: expected 1 or more, found {arguments.trials}.")
    try:
        check_output(arguments.output)
        rows = []
        for item in SETTINGS:
            found = coverage(item, trials=arguments.trials, seed=arguments.seed)
            rows.append({"setting": asdict(item), "found": found})
            print(" ".join(f"{name}={value}" for name, value in asdict(item).items()))
            print(table([list(found), [f"{value:.3f}" for value in found.values()]]))
        if arguments.output is not None:
            document = {
                "environment": describe_environment(),
                "trials": arguments.trials,
                "seed": arguments.seed,
                "settings": rows,
            }
            write_result(arguments.output, document)
    except BenchmarkError as error:
        print(error, file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def _run(setting: Setting, generator: "np.random.Generator") -> "Tuple[Array, ...]":
    """People's truth, the judge's verdicts, requests, and weights, 0 where nothing was drawn."""
    import numpy as np
    from scipy.special import expit

    requests = np.repeat(np.arange(setting.requests), setting.pictures)
    own = _SPREAD * generator.normal(size=setting.requests) * (setting.pictures > 1)
    people = generator.random(len(requests)) < expit(setting.logit + own)[requests]
    judge = _verdicts(people, setting.sensitivity, setting.specificity, generator)
    other = _verdicts(people, _OTHER_JUDGE, _OTHER_JUDGE, generator)
    strata = np.where(judge != other, 2, judge)
    weights = np.zeros(len(requests))
    names, sizes = np.unique(strata, return_counts=True)
    for name, size, number in zip(names, sizes, allocate(sizes.tolist(), setting.labels)):
        drawn = generator.choice(np.flatnonzero(strata == name), number, replace=False)
        weights[drawn] = size / number
    return people.astype(np.float64), judge.astype(np.float64), requests, weights


def _verdicts(
    truth: "Array", sensitivity: float, specificity: float, generator: "np.random.Generator"
) -> "Array":
    import numpy as np

    chance = generator.random(len(truth))
    return np.where(truth, chance < sensitivity, chance >= specificity)


def _truth(setting: Setting) -> float:
    import numpy as np
    from scipy.special import expit

    if setting.pictures == 1:
        return float(expit(setting.logit))
    nodes, heavy = np.polynomial.hermite_e.hermegauss(100)
    return float((heavy * expit(setting.logit + _SPREAD * nodes)).sum() / heavy.sum())


if __name__ == "__main__":
    sys.exit(main())
