"""`regap-bench`: what it parses, prints and returns."""

import subprocess
import sys

import pytest

from regap_benchmarks import cli
from regap_benchmarks.commands import demo
from regap_benchmarks.miniature.demo import DemoError
from regap_benchmarks.miniature.measuring import Checkpoint, Number
from regap_benchmarks.miniature.report import StudyReport
from regap_benchmarks.miniature.trainer_log import Identity


def _report(identity):
    numbers = {"mir": Number(1.5)}
    checkpoints = (
        Checkpoint(0, "pairwise_l2", 0.0, 5, numbers),
        Checkpoint(0, "pairwise_l2", 2.0, 5, numbers),
    )
    return StudyReport("", checkpoints, {}, identity, {}, ("int8 was not run",), ("It fell.",))


@pytest.fixture
def demo_call(monkeypatch):
    """Record the settings that reach the demo, which returns a report at once."""
    calls = []

    def run_demo(settings, *, say, workers, overwrite):
        calls.append((settings, overwrite))
        return _report(Identity(1, 0.0, 0.0))

    monkeypatch.setattr(demo, "run_demo", run_demo)
    return calls


def test_the_defaults(demo_call):
    assert cli.main(["demo"]) == 0
    settings, overwrite = demo_call[0]
    assert (settings.seeds, settings.weights, settings.losses) == (
        (0, 1, 2),
        (2.0,),
        ("pairwise_l2",),
    )
    assert (str(settings.output), settings.recipe, overwrite) == ("regap-demo", "full", False)


def test_quick_is_smaller_and_lies_elsewhere(demo_call):
    cli.main(["demo", "--quick"])
    settings, _ = demo_call[0]
    assert (settings.seeds, settings.recipe) == ((0,), "quick")
    assert str(settings.output) == "regap-demo-quick"


def test_what_is_named_wins_over_quick(demo_call):
    words = "demo --quick --steps 30 --pictures 40 --output here --weights 2,0.5 --seeds 4,5"
    cli.main([*words.split(), "--losses", "centroid_l2,pairwise_l2", "--overwrite"])
    settings, overwrite = demo_call[0]
    assert (settings.steps, settings.pictures, settings.seeds) == (30, 40, (4, 5))
    assert (settings.weights, settings.losses) == ((2.0, 0.5), ("centroid_l2", "pairwise_l2"))
    assert (str(settings.output), overwrite) == ("here", True)


def test_the_table_and_the_findings_are_printed(demo_call, capsys):
    cli.main(["demo"])
    out = capsys.readouterr().out
    assert "pairwise_l2, weight 2" in out
    assert "- It fell." in out
    assert "- int8 was not run" in out
    assert "report.md" in out


@pytest.mark.parametrize("identity", [Identity(1, 0.1, 0.0), Identity(1, 0.0, 0.1)])
def test_a_broken_identity_is_a_failure(monkeypatch, capsys, identity):
    monkeypatch.setattr(demo, "run_demo", lambda *_, **__: _report(identity))
    assert cli.main(["demo"]) == 1
    assert "expected the same training" in capsys.readouterr().err


def test_an_error_of_the_demo_is_told_without_a_traceback(monkeypatch, capsys):
    def run_demo(*_, **__):
        raise DemoError("out: expected a folder, found a file. Choose another --output.")

    monkeypatch.setattr(demo, "run_demo", run_demo)
    assert cli.main(["demo"]) == 1
    assert capsys.readouterr().err.startswith("regap-bench demo: out: expected a folder")


def test_an_interruption_says_how_to_go_on(monkeypatch, capsys):
    def run_demo(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "run_demo", run_demo)
    assert cli.main(["demo"]) == 130
    assert "The same command goes on" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "COMMAND"),
        (["dmeo"], "invalid choice"),
        (["demo", "--steps", "3"], "--steps: expected 5 or more, as alpha"),
        (["demo", "--weights", "0"], "--weights: expected finite numbers above 0"),
        (["demo", "--weights", "much"], "invalid _numbers value"),
        (["demo", "--seeds", "1,1"], "--seeds: expected each once"),
        (["demo", "--workers", "-1"], "--workers: expected 0 or more"),
        (["experiment", "weights"], "--config"),
    ],
)
def test_wrong_usage_exits_with_2(capsys, words, message):
    with pytest.raises(SystemExit) as raised:
        cli.main(words)
    assert raised.value.code == 2
    assert message in capsys.readouterr().err


def test_the_help_names_every_option_and_its_default(capsys):
    with pytest.raises(SystemExit) as raised:
        cli.main(["demo", "--help"])
    assert raised.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for option in (
        "quick",
        "output",
        "weights",
        "losses",
        "steps",
        "pictures",
        "seeds",
        "overwrite",
    ):
        assert f"--{option}" in text
    for default in ("regap-demo)", "0,1,2)", "2)", "pairwise_l2)", "300)", "600)", "0)"):
        assert f"(default: {default}" in text


def test_importing_the_command_line_imports_nothing_heavy():
    heavy = "torch transformers PIL skimage matplotlib numpy statsmodels bitsandbytes regap_patches"
    check = (
        f"import sys, regap_benchmarks.cli;print(sorted(set({heavy.split()!r}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
