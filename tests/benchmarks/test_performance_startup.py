"""The benchmark of the start: it runs, and what it tells is true; nothing asserts a time."""

import json
import subprocess
import sys

import pytest

from regap_benchmarks.performance import startup
from regap_benchmarks.performance.measurement import BenchmarkError

_COMMAND = [sys.executable, "-m", "regap_benchmarks.performance.startup"]


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory):
    """Two runs by the command itself: its output and the result that it wrote."""
    output = tmp_path_factory.mktemp("startup") / "startup.json"
    done = subprocess.run(
        [*_COMMAND, "--runs", "2", "--output", str(output)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads(output.read_text())


def test_every_repetition_is_kept(benchmark):
    _, result = benchmark
    assert {"bare", "idle", "armed"} <= set(result["conditions"])
    for condition in result["conditions"].values():
        assert len(condition["times_ms"]) == 2
        assert condition["minimum_ms"] == min(condition["times_ms"])
        assert condition["median_ms"] == pytest.approx(sum(condition["times_ms"]) / 2)


def test_the_difference_is_that_of_the_repetitions(benchmark):
    _, result = benchmark
    bare, idle = (result["conditions"][name]["median_ms"] for name in ("bare", "idle"))
    difference = result["differences"]["idle - bare"]
    assert difference["of_medians_ms"]["value"] == pytest.approx(idle - bare)


def test_the_plugin_imports_nothing_heavy_at_an_idle_start(benchmark):
    _, result = benchmark
    modules = set(result["modules_imported_by_the_plugin_us"])
    assert "regap_plugin.activation" in modules
    for name in ("torch", "pluggy", "typing", "importlib.metadata", "re"):
        assert name not in modules
    # Python 3.9 and 3.13 need a codec to read any .pth.
    codecs = {"_bootlocale", "encodings"}
    assert {name.split(".")[0] for name in modules} - codecs <= {"regap_plugin", "__future__"}


def test_what_is_printed_and_recorded(benchmark):
    printed, result = benchmark
    for text in ("without the plugin", "with the plugin, no flag", "idle - bare", "__future__"):
        assert text in printed
    assert result["settings"]["runs"] == 2
    assert result["environment"]["versions"]["regap-plugin"]


def test_no_path_is_recorded(benchmark):
    _, result = benchmark
    text = json.dumps(result)
    assert sys.prefix not in text
    assert "regap-startup-" not in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--runs", "1"], "--runs: expected 2 or more, found 1. Measure more than once."),
        (["--runs", "many"], "invalid int value"),
    ],
)
def test_wrong_usage_exits_with_2(capsys, words, message):
    with pytest.raises(SystemExit) as raised:
        startup.main(words)
    assert raised.value.code == 2
    assert message in capsys.readouterr().err


def test_an_impossible_output_is_told_before_anything_is_timed(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(startup, "measure", lambda runs: pytest.fail("measured"))
    assert startup.main(["--output", str(tmp_path / "missing" / "result.json")]) == 1
    assert capsys.readouterr().err.startswith("startup: --output")


def test_a_plugin_that_is_not_installed_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(startup, "_DISTRIBUTION", "no-such-distribution-of-regap")
    with pytest.raises(BenchmarkError, match=r"expected an installed distribution, found none"):
        startup._install_plugin(tmp_path)


def test_no_variable_of_python_or_coverage_reaches_what_is_timed(monkeypatch):
    for name in ("PYTHONPATH", "PYTHONSTARTUP", "COVERAGE_PROCESS_START"):
        monkeypatch.setenv(name, "somewhere")
    monkeypatch.setenv("REGAP_SOMETHING", "else")
    found = startup._variables()
    assert not [name for name in found if name.startswith(("PYTHON", "COVERAGE"))]
    assert found["REGAP_SOMETHING"] == "else"


def test_an_interpreter_that_fails_is_told_with_its_words():
    with pytest.raises(BenchmarkError, match=r"expected exit status 0, found 3: out of luck"):
        startup._run(
            [sys.executable, "-c", "import sys; print('out of luck', file=sys.stderr); sys.exit(3)"]
        )


def test_a_copy_that_does_not_activate_is_told(monkeypatch):
    monkeypatch.setattr(startup, "_probe", lambda *_: {"modules": [], "armed": False})
    conditions = [startup.Condition(name, name, sys.executable, ()) for name in "abc"]
    with pytest.raises(BenchmarkError, match=r"expected the activation to run"):
        startup._imported_modules(conditions)


def test_an_interruption_is_told(monkeypatch, capsys):
    def measure(runs):
        raise KeyboardInterrupt

    monkeypatch.setattr(startup, "measure", measure)
    assert startup.main([]) == 130
    assert "interrupted" in capsys.readouterr().err
