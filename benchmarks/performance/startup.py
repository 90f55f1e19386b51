"""What the plugin adds to every start of Python, in milliseconds.

Times whole processes, `python -c pass`, in throwaway virtual environments that differ in one
thing: one holds nothing, the other a copy of the installed plugin with its activation `.pth`.
The conditions take turns within each run, in an order that rotates, after a start of each that
is not counted. Reported are all times, the difference of the medians with a bootstrap interval
over the paired runs, the difference of the minima, and the modules that are imported because of
the plugin. For information the same with a flag on the command line, which arms the plugin; there
the cost grows with the number of installed distributions, so it is also timed in the environment
that runs the benchmark, if the activation works in it.

    python -m regap_benchmarks.performance.startup
    python -m regap_benchmarks.performance.startup --runs 500 --output startup.json
"""

import argparse
import compileall
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, distribution, distributions
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import regap_plugin
from regap_benchmarks.performance.measurement import (
    CONFIDENCE,
    FAILED,
    INTERRUPTED,
    BenchmarkError,
    check_output,
    describe_environment,
    difference_of_medians,
    difference_of_minima,
    estimate,
    table,
    write_result,
)
from regap_plugin import activation

_RUNS = 200
_IMPORT_TIMES = 9
_TIMEOUT_SECONDS = 60
_PROGRAM = "pass"
_FLAGS = ("--regap_weight", "0.5")
_DISTRIBUTION = "regap-plugin"
_PROBE = """
import json, sys
names = [type(finder).__name__ for finder in sys.meta_path]
print(json.dumps({"modules": sorted(sys.modules), "armed": "UpstreamFinder" in names}))
"""
_IMPORT_TIME = re.compile(r"^import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Condition:
    """One way to start Python.

    Attributes:
        name: in the result.
        title: in the table.
        python: the interpreter.
        arguments: what follows `-c PROGRAM`.
    """

    name: str
    title: str
    python: Path
    arguments: Tuple[str, ...]


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Measure, print, write; returns 0, 1 (the message is on stderr) or 130 (interrupted)."""
    parser = argparse.ArgumentParser(
        prog="python -m regap_benchmarks.performance.startup",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--runs",
        type=int,
        default=_RUNS,
        metavar="N",
        help="timed starts of each condition, >= 2 (default: %(default)s)",
    )
    parser.add_argument("--output", type=Path, metavar="FILE.json", help="file for the result")
    arguments = parser.parse_args(argv)
    if arguments.runs < 2:
        parser.error(f"--runs: expected 2 or more, found {arguments.runs}. Measure more than once.")
    try:
        check_output(arguments.output)
        result = measure(arguments.runs)
        print(render(result))
        if arguments.output:
            write_result(arguments.output, result)
    except BenchmarkError as error:
        print(f"startup: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("startup: interrupted, nothing was written.", file=sys.stderr)
        return INTERRUPTED
    return 0


def measure(runs: int) -> Dict[str, Any]:
    """Time the starts.

    Args:
        runs: timed starts of each condition.

    Returns:
        JSON values; times in milliseconds, those of imports in microseconds.

    Raises:
        BenchmarkError: the plugin is not installed, or an interpreter does not start.
    """
    environment = describe_environment()
    with tempfile.TemporaryDirectory(prefix="regap-startup-") as name:
        folder = Path(name)
        bare = _make_environment(folder / "bare")
        plugged = _make_environment(folder / "plugged")
        _install_plugin(_site_packages(plugged))
        conditions = [
            Condition("bare", "without the plugin", bare, ()),
            Condition("idle", "with the plugin, no flag", plugged, ()),
            Condition("armed", "with the plugin and a flag", plugged, _FLAGS),
        ]
        here = Path(sys.executable)
        if _probe(here, _FLAGS)["armed"]:
            conditions += [
                Condition("here_idle", "this environment, no flag", here, ()),
                Condition("here_armed", "this environment and a flag", here, _FLAGS),
            ]
        modules = _imported_modules(conditions)
        times = _time_in_turns(conditions, runs, folder)
    compared = [("bare", "idle"), ("bare", "armed"), ("here_idle", "here_armed")]
    return {
        "benchmark": "startup",
        "environment": environment,
        "settings": {
            "command": ["python", "-c", _PROGRAM],
            "flags": list(_FLAGS),
            "runs": runs,
            "distributions_in_this_environment": len(list(distributions())),
            "confidence": CONFIDENCE,
        },
        "conditions": {
            condition.name: {
                "title": condition.title,
                "minimum_ms": min(times[condition.name]),
                "median_ms": statistics.median(times[condition.name]),
                "times_ms": times[condition.name],
            }
            for condition in conditions
        },
        "differences": {
            f"{second} - {first}": _difference(times[first], times[second])
            for first, second in compared
            if first in times
        },
        "modules_imported_by_the_plugin_us": modules,
    }


def render(result: Dict[str, Any]) -> str:
    """The result of `measure` for a terminal."""
    conditions, differences = result["conditions"], result["differences"]
    rows = [["python -c pass", "minimum ms", "median ms"]]
    for each in conditions.values():
        rows.append([each["title"], f"{each['minimum_ms']:.2f}", f"{each['median_ms']:.2f}"])
    lines = [table(rows), ""]
    percent = f"{result['settings']['confidence']:.0%}"
    rows = [["difference", "medians ms", f"{percent} interval", "minima ms"]]
    for name, each in differences.items():
        median = each["of_medians_ms"]
        interval = f"{median['low']:.2f} to {median['high']:.2f}"
        rows.append([name, f"{median['value']:.2f}", interval, f"{each['of_minima_ms']:.2f}"])
    lines += [table(rows), ""]
    if "here_idle" not in conditions:
        lines += ["This environment was not timed: the activation does not work in it.", ""]
    rows = [["imported because of the plugin", "own time, fastest us", "median us"]]
    for name, times in result["modules_imported_by_the_plugin_us"].items():
        rows.append([name, f"{min(times)}", f"{statistics.median(times):.0f}"])
    lines.append(table(rows))
    return "\n".join(lines)


def _make_environment(folder: Path) -> Path:
    builder = venv.EnvBuilder(symlinks=os.name != "nt", with_pip=False)
    try:
        builder.create(folder)
    except (OSError, subprocess.SubprocessError) as error:
        raise BenchmarkError(
            f"venv: expected a virtual environment, found {type(error).__name__}: {error}. Install "
            "Python's venv module."
        ) from error
    windows = folder / "Scripts" / "python.exe"
    return windows if windows.exists() else folder / "bin" / "python"


def _site_packages(python: Path) -> Path:
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    return Path(_run([str(python), "-c", code]).stdout.strip())


def _install_plugin(site: Path) -> None:
    """Copy package, `.pth` and entry points; a wheel of the same is not at hand."""
    try:
        installed = distribution(_DISTRIBUTION)
    except PackageNotFoundError:
        raise BenchmarkError(
            f"{_DISTRIBUTION}: expected an installed distribution, found none. `pip install .` in "
            "the checkout, without -e."
        ) from None
    source = Path(regap_plugin.__file__).parent
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(source, site / regap_plugin.__name__, ignore=ignored)
    (site / activation.PTH_NAME).write_text(activation.PTH_LINE, encoding="utf-8")
    metadata = site / f"regap_plugin-{installed.version}.dist-info"
    metadata.mkdir()
    for name in ("METADATA", "entry_points.txt"):
        (metadata / name).write_text(installed.read_text(name) or "", encoding="utf-8")
    compileall.compile_dir(str(site), quiet=1)


def _imported_modules(conditions: Sequence[Condition]) -> Dict[str, List[int]]:
    """Own import times in microseconds, by module that only the plugin's idle start imports."""
    bare, idle, armed = (_probe(each.python, each.arguments) for each in conditions[:3])
    if "regap_plugin.activation" not in idle["modules"] or idle["armed"] or not armed["armed"]:
        raise BenchmarkError(
            "Throwaway environment: expected the activation to run, and to be armed by a flag "
            f"only, found armed={idle['armed']} without and armed={armed['armed']} with one. "
            "See `regap doctor`."
        )
    names = set(idle["modules"]) - set(bare["modules"])
    times: Dict[str, List[int]] = {name: [] for name in sorted(names)}
    command = [str(conditions[1].python), "-X", "importtime", "-c", _PROGRAM]
    for _ in range(_IMPORT_TIMES):
        for microseconds, name in _IMPORT_TIME.findall(_run(command).stderr):
            if name in times:
                times[name].append(int(microseconds))
    return {name: found for name, found in times.items() if found}


def _time_in_turns(
    conditions: Sequence[Condition], runs: int, folder: Path
) -> Dict[str, List[float]]:
    times: Dict[str, List[float]] = {condition.name: [] for condition in conditions}
    variables = _variables()
    for run in range(-1, runs):
        turn = run % len(conditions)
        for condition in (*conditions[turn:], *conditions[:turn]):
            command = [str(condition.python), "-c", _PROGRAM, *condition.arguments]
            started = time.perf_counter()
            done = subprocess.run(
                command,
                cwd=folder,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=False,
            )
            elapsed = time.perf_counter() - started
            if done.returncode:
                _run(command)  # again, to tell what it says
            if run >= 0:
                times[condition.name].append(round(elapsed * 1e3, 4))
    return times


def _difference(first: Sequence[float], second: Sequence[float]) -> Dict[str, Any]:
    pairs = list(zip(first, second))
    return {
        "of_medians_ms": asdict(estimate(pairs, difference_of_medians)),
        "of_minima_ms": difference_of_minima(pairs),
    }


def _probe(python: Path, arguments: Sequence[str]) -> Dict[str, Any]:
    answer: Dict[str, Any] = json.loads(_run([str(python), "-c", _PROBE, *arguments]).stdout)
    return answer


def _run(command: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        command,
        env=_variables(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=_TIMEOUT_SECONDS,
    )
    if done.returncode:
        raise BenchmarkError(
            f"{' '.join(command[:3])}: expected exit status 0, found {done.returncode}: "
            f"{done.stderr.strip()[-500:]}. Mend this Python first."
        )
    return done


def _variables() -> Dict[str, str]:
    # PYTHONPATH, PYTHONSTARTUP, a coverage hook: what would run in one start must run in none.
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "COVERAGE", "COV_", "__PYVENV"))
    }


if __name__ == "__main__":
    sys.exit(main())
