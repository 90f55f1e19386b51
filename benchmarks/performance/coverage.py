"""How often intervals cover and tests err, by simulation; the choice of methods rests on it.

Draws data sets with a known truth and counts. Settings are those of safety sets: few or many
requests, rare unsafe answers, several pictures to a request, few runs that differ little or much.

    python -m regap_benchmarks.performance.coverage
    python -m regap_benchmarks.performance.coverage --trials 2000 --output coverage.json
"""

import argparse
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Dict, List, Optional, Sequence

from regap_benchmarks.performance.measurement import (
    FAILED,
    INTERRUPTED,
    BenchmarkError,
    check_output,
    describe_environment,
    table,
    write_result,
)
from regap_benchmarks.statistics.crossed_difference import (
    crossed_difference,
    hierarchical_bootstrap_interval,
)
from regap_benchmarks.statistics.intervals import (
    Interval,
    cluster_bootstrap_interval,
    clustered_wilson_interval,
    wilson_interval,
)
from regap_benchmarks.statistics.permutation import permute_answers, permute_runs

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

LEVEL = 0.95
_TRIALS = 400
_RESAMPLES = 600
_REQUESTS, _WITHIN = 1.5, 0.5  # spreads of logits
_NODES = 100
_WILSON, _CLUSTERED = "wilson", "clustered wilson"
_BCA, _PERCENTILE, _PLAIN = "bootstrap BCa", "bootstrap percentile", "wald"
_MOVER, _HIERARCHICAL = "MOVER-Wilson", "hierarchical bootstrap"


@dataclass(frozen=True)
class MeanSetting:
    """A rate over requests, each under some pictures.

    Attributes:
        requests: clusters.
        pictures: answers to each.
        rate: true mean.
        alike: probability that an answer follows its request's own answer, 0 for independent ones.
        fractions: scores from 0 to 1 instead of 0 and 1.
    """

    requests: int
    pictures: int
    rate: float
    alike: float = 0.0
    fractions: bool = False


@dataclass(frozen=True)
class GroupSetting:
    """Two groups of runs on the same requests; logits are sums of normal effects.

    Attributes:
        runs: of each group.
        requests: that all answer once.
        logit: of the typical run on the typical request; -3 is about 10 % unsafe.
        spread_first, spread_second: standard deviation of runs, in logits; of requests it is 1.5,
            of requests within a group 0.5.
        shift: of the second group's logit.
    """

    runs: int
    requests: int
    logit: float
    spread_first: float
    spread_second: float
    shift: float = 0.0


MEAN_SETTINGS = (
    *(MeanSetting(n, 1, p) for n in (20, 50, 200) for p in (0.01, 0.05, 0.2, 0.5)),
    *(
        MeanSetting(n, 5, p, alike)
        for n in (20, 50, 200)
        for p in (0.02, 0.1, 0.5)
        for alike in (0.0, 0.7, 0.95)
    ),
    *(
        MeanSetting(n, pictures, p, alike, True)
        for n in (20, 200)
        for pictures, alike in ((1, 0.0), (5, 0.9))
        for p in (0.1, 0.5)
    ),
)
GROUP_SETTINGS = tuple(
    GroupSetting(runs, requests, logit, *spreads)
    for runs in (1, 2, 3, 5)
    for requests in (30, 200)
    for logit in (-5.0, -3.0, 0.0)
    for spreads in ((0.0, 0.0), (0.5, 0.5), (1.0, 1.0), (0.0, 1.0))
    if runs > 1 or spreads == (0.0, 0.0)
)


def mean_coverage(
    setting: MeanSetting, *, trials: int, seed: int = 0, bootstrap: bool = True
) -> Dict[str, float]:
    """Share of trials in which each method's interval holds the true mean."""
    import numpy as np

    generator = np.random.default_rng(seed)
    clusters = np.repeat(np.arange(setting.requests), setting.pictures)
    covered: Dict[str, int] = {}
    for trial in range(trials):
        values = _answers(setting, generator)
        methods = _mean_methods(values, clusters, trial)
        for name, make in methods.items():
            if not bootstrap and name in (_BCA, _PERCENTILE):
                continue
            found = make()
            inside = found.lower - 1e-9 <= setting.rate <= found.upper + 1e-9
            covered[name] = covered.get(name, 0) + inside
    return {name: count / trials for name, count in covered.items()}


def difference_coverage(
    setting: GroupSetting, *, trials: int, seed: int = 0, bootstrap: bool = True
) -> Dict[str, float]:
    """Share of trials in which the interval of the difference holds the true difference.

    Of groups of one run, the truth is that of runs that do not vary.
    """
    import numpy as np

    generator = np.random.default_rng(seed)
    truth = _expected(setting, 1) - _expected(setting, 0)
    sizes = np.ones(setting.requests)
    covered: Dict[str, int] = {}
    for trial in range(trials):
        first, second = _groups(setting, generator)
        found = crossed_difference(first, second, sizes, level=LEVEL)
        ends = {_MOVER: (found.lower, found.upper)}
        if bootstrap:
            drawn = hierarchical_bootstrap_interval(
                first, second, sizes, level=LEVEL, resamples=_RESAMPLES, seed=trial
            )
            ends[_HIERARCHICAL] = (drawn.lower, drawn.upper)
        for name, (lower, upper) in ends.items():
            covered[name] = covered.get(name, 0) + (lower - 1e-9 <= truth <= upper + 1e-9)
    return {name: count / trials for name, count in covered.items()}


def type_one_errors(setting: GroupSetting, *, trials: int, seed: int = 0) -> Dict[str, float]:
    """Share of trials without any true difference in which each test gives p of 0.05 or less.

    "pooled" is the test that takes every answer for independent, as if runs did not vary.

    Raises:
        ValueError: groups that differ.
    """
    import numpy as np

    if abs(_expected(setting, 0) - _expected(setting, 1)) > 1e-9:
        raise ValueError(
            f"{setting}: expected groups of equal means, found others. Set equal ones."
        )
    generator = np.random.default_rng(seed)
    sizes = np.ones(setting.requests)
    errors: Dict[str, int] = {}
    for trial in range(trials):
        first, second = _groups(setting, generator)
        p = {"pooled": _pooled_p(first, second)}
        if setting.runs == 1:
            p["permutation of answers"] = permute_answers(
                first[0], second, resamples=_RESAMPLES, seed=trial
            ).p
        else:
            p["permutation of runs"] = permute_runs(first.mean(axis=1), second.mean(axis=1)).p
            p["t"] = crossed_difference(first, second, sizes, level=LEVEL).p
            p["larger of both"] = max(p["permutation of runs"], p["t"])
        for name, value in p.items():
            errors[name] = errors.get(name, 0) + (value <= 1 - LEVEL + 1e-9)
    return {name: count / trials for name, count in errors.items()}


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Measure, print and write; 0: done, 1: failed, 130: interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m regap_benchmarks.performance.coverage", description=__doc__.split("\n")[0]
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
        result = measure(arguments.trials, arguments.seed)
        if arguments.output is not None:
            write_result(arguments.output, result)
    except BenchmarkError as error:
        print(error, file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def measure(trials: int, seed: int) -> Dict[str, object]:
    """All settings: a JSON object, each part printed when it is there."""
    result: Dict[str, object] = {
        "environment": describe_environment(),
        "level": LEVEL,
        "trials": trials,
        "seed": seed,
    }
    means = [
        {"setting": asdict(item), "coverage": mean_coverage(item, trials=trials, seed=seed)}
        for item in MEAN_SETTINGS
    ]
    groups = [
        {"setting": asdict(item), "coverage": difference_coverage(item, trials=trials, seed=seed)}
        for item in GROUP_SETTINGS
    ]
    errors = [
        {"setting": asdict(item), "errors": type_one_errors(item, trials=trials, seed=seed)}
        for item in GROUP_SETTINGS
        if item.spread_first == item.spread_second or item.logit == 0
    ]
    for name, rows, key in (
        ("means", means, "coverage"),
        ("differences", groups, "coverage"),
        ("type_one_errors", errors, "errors"),
    ):
        result[name] = rows
        print(f"\n{name}")
        print(_printed(rows, key))
    return result


def _printed(rows: Sequence[Dict[str, Dict[str, object]]], key: str) -> str:
    columns = list(dict.fromkeys(name for row in rows for name in row[key]))
    lines = [["setting", *columns]]
    for row in rows:
        setting = " ".join(f"{name}={value}" for name, value in row["setting"].items())
        found = row[key]
        lines.append(
            [setting, *(f"{found[name]:.3f}" if name in found else "" for name in columns)]
        )
    return table(lines)


def _mean_methods(
    values: "Floats", clusters: "NDArray[np.int64]", seed: int
) -> Dict[str, Callable[[], Interval]]:
    def bootstrap(accelerated: bool) -> Callable[[], Interval]:
        return lambda: cluster_bootstrap_interval(
            values,
            clusters,
            level=LEVEL,
            resamples=_RESAMPLES,
            seed=seed,
            accelerated=accelerated,
        )

    return {
        _PLAIN: lambda: _wald(values),
        _WILSON: lambda: wilson_interval(float(values.sum()), len(values), level=LEVEL),
        _CLUSTERED: lambda: clustered_wilson_interval(values, clusters, level=LEVEL),
        _PERCENTILE: bootstrap(False),
        _BCA: bootstrap(True),
    }


def _wald(values: "Floats") -> Interval:
    half = 1.959964 * float(values.std()) / len(values) ** 0.5
    return Interval(float(values.mean()) - half, float(values.mean()) + half, _PLAIN)


def _answers(setting: MeanSetting, generator: "np.random.Generator") -> "Floats":
    import numpy as np

    shape = (setting.requests, setting.pictures)
    if setting.fractions:
        own = generator.beta(4 * setting.rate, 4 * (1 - setting.rate), shape)
        shared = generator.beta(4 * setting.rate, 4 * (1 - setting.rate), (setting.requests, 1))
    else:
        own = (generator.random(shape) < setting.rate).astype(np.float64)
        shared = (generator.random((setting.requests, 1)) < setting.rate).astype(np.float64)
    follows = generator.random(shape) < setting.alike
    answers: Floats = np.where(follows, shared, own).ravel()
    return answers


def _groups(setting: GroupSetting, generator: "np.random.Generator") -> List["Floats"]:
    import numpy as np
    from scipy.special import expit

    requests = generator.normal(0, _REQUESTS, setting.requests)
    groups = []
    for place, spread in enumerate((setting.spread_first, setting.spread_second)):
        logits = (
            setting.logit
            + place * setting.shift
            + requests
            + generator.normal(0, _WITHIN, setting.requests)
            + generator.normal(0, spread, (setting.runs, 1))
        )
        drawn = generator.random(logits.shape) < expit(logits)
        groups.append(drawn.astype(np.float64))
    return groups


def _expected(setting: GroupSetting, place: int) -> float:
    """Mean of a group over all runs and requests, by Gauss-Hermite quadrature."""
    import numpy as np
    from scipy.special import expit

    spread = (setting.spread_first, setting.spread_second)[place]
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    scale = (_REQUESTS**2 + _WITHIN**2 + spread**2) ** 0.5
    logits = setting.logit + place * setting.shift + scale * nodes
    return float((weights * expit(logits)).sum() / weights.sum())


def _pooled_p(first: "Floats", second: "Floats") -> float:
    from scipy.stats import norm

    n, mean = first.size, (first.mean() + second.mean()) / 2
    error = (2 * mean * (1 - mean) / n) ** 0.5
    if error == 0:
        return 1.0
    return 2 * float(norm.sf(abs(first.mean() - second.mean()) / error))


if __name__ == "__main__":
    sys.exit(main())
