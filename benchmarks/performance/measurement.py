"""What both benchmarks share: where a measurement was made, paired estimates, the result file."""

import datetime
import json
import os
import platform
import random
import re
import statistics
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

CONFIDENCE = 0.95
RESAMPLES = 5000
FAILED, INTERRUPTED = 1, 130
_DISTRIBUTIONS = ("regap-plugin", "torch", "transformers", "llava-torch", "llava", "pluggy")
_NUMBERS = re.compile(r"\[\n([\s\d.,eE+-]+)\]")  # no string holds a bare newline

Pairs = Sequence[Tuple[float, float]]


class BenchmarkError(Exception):
    """A benchmark cannot run here; the message says why and what to do."""


@dataclass(frozen=True)
class Estimate:
    """A number from paired samples, with the bounds of its bootstrap interval."""

    value: float
    low: float
    high: float


def difference_of_medians(pairs: Pairs) -> float:
    """Median of the second members minus median of the first, in their unit."""
    return statistics.median(b for _, b in pairs) - statistics.median(a for a, _ in pairs)


def difference_of_minima(pairs: Pairs) -> float:
    """Smallest second member minus smallest first, in their unit."""
    return min(b for _, b in pairs) - min(a for a, _ in pairs)


def median_ratio(pairs: Pairs) -> float:
    """Median over the pairs of second / first: what drifts slowly cancels within a pair."""
    return statistics.median(b / a for a, b in pairs)


def estimate(pairs: Pairs, statistic: Callable[[Pairs], float], *, seed: int = 0) -> Estimate:
    """A statistic of paired samples with its percentile bootstrap interval.

    Pairs are drawn with replacement, `RESAMPLES` times; the interval holds the middle `CONFIDENCE`
    of the statistic's values. Of few pairs it is too narrow, and of one it is a point.

    Args:
        pairs: (first, second), measured close together.
        statistic: of such pairs.
        seed: of the draws, apart from the global random state.

    Raises:
        ValueError: no pair.
    """
    if not pairs:
        raise ValueError("Pairs: expected one or more, found none. Measure both conditions.")
    draw = random.Random(seed)
    values = sorted(statistic(draw.choices(pairs, k=len(pairs))) for _ in range(RESAMPLES))
    tail = round((1.0 - CONFIDENCE) / 2.0 * (RESAMPLES - 1))
    return Estimate(statistic(pairs), values[tail], values[RESAMPLES - 1 - tail])


def describe_environment(device: Optional[str] = None) -> Dict[str, Any]:
    """Date, device and versions: JSON values without host name or path.

    Args:
        device: name of the accelerator; that of the CPU if absent.
    """
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "device": device or _cpu_name(),
        "system": f"{platform.system()} {platform.machine()}",
        "logical_cpus": os.cpu_count(),
        "load_average_1_minute": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "versions": {name: _version(name) for name in _DISTRIBUTIONS},
    }


def check_output(path: Optional[Path]) -> None:
    """Refuse, before minutes are spent, a result file that could not be written.

    Raises:
        BenchmarkError: its folder is missing, or the path is a folder.
    """
    if path is None:
        return
    if path.is_dir() or not path.parent.is_dir():
        found = "a folder" if path.is_dir() else "none"
        raise BenchmarkError(
            f"--output {path}: expected a file in an existing folder, found {found}. Make "
            f"{path.parent} or choose another file."
        )


def write_result(path: Path, result: Mapping[str, Any]) -> None:
    """Write JSON, each list of numbers on a line of its own.

    Raises:
        BenchmarkError: the file cannot be written.
    """
    text = json.dumps(result, indent=1)
    text = _NUMBERS.sub(lambda match: f"[{' '.join(match.group(1).split())}]", text)
    try:
        path.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise BenchmarkError(
            f"--output {path}: expected a file that can be written, found {error}. Choose another."
        ) from error


def table(rows: Sequence[Sequence[str]]) -> str:
    """Lay rows out in columns, the first flush left and the others flush right."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows)]
    lines: List[str] = []
    for first, *others in rows:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:])]
        lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
    return "\n".join(lines)


def _version(distribution: str) -> Optional[str]:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _cpu_name() -> str:
    try:
        information = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        information = ""
    found = re.search(r"^model name\s*:\s*(.+)$", information, re.MULTILINE)
    return found.group(1).strip() if found else platform.processor() or platform.machine()
