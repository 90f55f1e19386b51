"""The commands, with their exit codes: 0 done, 1 a message says what is wrong, 2 bad usage."""

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, Dict, List, Optional, Sequence

import pytest

from regap_plugin import __version__, activation, cli, doctor, launcher
from regap_plugin.checkpoint import write_state
from regap_plugin.config import DEFAULT_LOSS, unknown_name
from regap_plugin.errors import InactiveRegularizerError, ReGapError

RunPython = Callable[..., "subprocess.CompletedProcess[str]"]
Captured = pytest.CaptureFixture[str]


def _require_torch() -> None:
    pytest.importorskip("torch", reason="the formulas of the plugins need torch")


def _require_the_distribution() -> None:
    try:
        importlib.metadata.distribution("regap-plugin")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("entry points need the installed distribution: pip install .")


# ---- usage


@pytest.mark.parametrize("arguments", [[], ["no-such-command"], ["inspect"], ["doctor", "--yaml"]])
def test_bad_usage_exits_with_two(arguments: List[str], capsys: Captured) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    assert stop.value.code == 2
    assert "usage: regap" in capsys.readouterr().err


def test_the_version_is_the_packages(capsys: Captured) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"regap-plugin {__version__}\n"


def test_the_help_names_every_command(capsys: Captured) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    text = capsys.readouterr().out
    for command in ("train", "doctor", "activate", "deactivate", "inspect", "plugins"):
        assert f"    {command}" in text


def test_the_help_of_train_is_its_own(capsys: Captured) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["train", "--help"])
    assert stop.value.code == 0
    assert "usage: regap train" in capsys.readouterr().out


# ---- inspect

STATE: Dict[str, Any] = {
    "alpha": 1.25,
    "config": {"weight": 0.5, "loss": "pairwise_l2"},
    "calibration": {"steps": 3},
}


def test_inspect_reads_a_regularised_checkpoint(tmp_path: Path, capsys: Captured) -> None:
    write_state(tmp_path, STATE)
    assert cli.main(["inspect", str(tmp_path)]) == 0
    first, rest = capsys.readouterr().out.split("\n", 1)
    assert first == (
        f"{tmp_path}: regularised with weight 0.5 and alpha 1.25, loss pairwise_l2, at layer 0 "
        "(from regap_state.json)"
    )
    assert json.loads(rest)["config"] == STATE["config"]


def test_inspect_prints_json(tmp_path: Path, capsys: Captured) -> None:
    write_state(tmp_path, STATE)
    assert cli.main(["inspect", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "regularised": True,
        "record": {"source": "regap_state.json", **STATE},
    }


def test_inspect_reads_the_record_in_the_models_config(tmp_path: Path, capsys: Captured) -> None:
    record = {"weight": 2, "alpha": 0.5, "loss": "centroid_l2", "layer": 3}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llava", "regap": record}))
    assert cli.main(["inspect", str(tmp_path)]) == 0
    assert (
        f"{tmp_path}: regularised with weight 2 and alpha 0.5, loss centroid_l2, at layer 3 "
        "(from config.json)" in capsys.readouterr().out
    )


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({"config": {"weight": 0}}, "the gap was measured, not added"),
        ({"config": {"weight": 0.0}, "alpha": None}, "the gap was measured, not added"),
        ({"alpha": None}, "weight 0.5, still calibrating alpha: the gap was not added yet"),
        (
            {"micro_batches_added_to": 0},
            "weight 0.5, alpha frozen at 1.25: the gap was not added yet",
        ),
    ],
)
def test_inspect_does_not_call_the_rest_regularised(
    tmp_path: Path, capsys: Captured, changes: Dict[str, Any], verdict: str
) -> None:
    write_state(tmp_path, {**STATE, **changes})
    assert cli.main(["inspect", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{tmp_path}: {verdict} (from regap_state.json)\n")
    assert "regularised with" not in out
    assert cli.main(["inspect", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["regularised"] is False


def test_inspect_of_a_checkpoint_without_a_record_exits_with_one(
    tmp_path: Path, capsys: Captured
) -> None:
    assert cli.main(["inspect", str(tmp_path)]) == 1
    assert f"{tmp_path}: carries no record of ReGap." in capsys.readouterr().out
    assert cli.main(["inspect", str(tmp_path), "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == {"regularised": False, "record": None}


def test_inspect_of_nowhere_exits_with_a_message(tmp_path: Path, capsys: Captured) -> None:
    assert cli.main(["inspect", str(tmp_path / "nowhere")]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("regap: ")
    assert "expected a checkpoint, found nothing" in captured.err


@pytest.mark.parametrize(
    "content", ["{", "[]", "{}", '{"config": null}', '{"config": {"weight": 1}, "alpha": "1"}']
)
def test_inspect_of_a_damaged_record_exits_with_a_message(
    tmp_path: Path, capsys: Captured, content: str
) -> None:
    (tmp_path / "regap_state.json").write_text(content)
    assert cli.main(["inspect", str(tmp_path)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("regap: ")
    assert "damaged" in captured.err


# ---- train


def test_train_without_a_script_says_what_it_expects(capsys: Captured) -> None:
    for command in (["train"], ["train", "-m"]):
        assert cli.main(command) == 1
        error = capsys.readouterr().err
        assert error.startswith("regap: regap train: expected a training script (or -m MODULE)")
        assert "Example: regap train llava/train/train.py" in error


def test_train_with_a_missing_script_names_it(capsys: Captured) -> None:
    assert cli.main(["train", "no/such/train.py", "--regap_weight", "1"]) == 1
    assert "found no file 'no/such/train.py'" in capsys.readouterr().err
    assert not activation.is_armed()


SCRIPT = """
import sys
import beside
from regap_plugin.activation import is_armed
print(__name__, is_armed(), beside.VALUE, sys.argv[1:], sys.path[0] == beside.FOLDER)
"""
BESIDE = "import os\nVALUE = 3\nFOLDER = os.path.dirname(os.path.abspath(__file__))\n"


def _write_script(folder: Path, content: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "beside.py").write_text(BESIDE)
    script = folder / "script.py"
    script.write_text(content)
    return script


def test_train_runs_the_script_as_python_does(tmp_path: Path, run_python: RunPython) -> None:
    script = _write_script(tmp_path / "upstream", SCRIPT)
    done = run_python("-m", "regap_plugin", "train", str(script), "--lr", "1", "--", "-x")
    assert done.stderr == ""
    assert done.stdout == "__main__ True 3 ['--lr', '1', '--', '-x'] True\n"
    assert done.returncode == 0


def test_train_runs_a_module(tmp_path: Path, run_python: RunPython) -> None:
    _write_script(tmp_path, SCRIPT)
    done = run_python("-m", "regap_plugin", "train", "-m", "script", "--lr", "1")
    assert done.stderr == ""
    assert done.stdout == "__main__ True 3 ['--lr', '1'] True\n"


@pytest.mark.parametrize("error", ["ValueError('mine')", "FileNotFoundError('mine')"])
def test_the_scripts_own_error_keeps_its_traceback(
    tmp_path: Path, run_python: RunPython, error: str
) -> None:
    script = _write_script(tmp_path, f"def load():\n    raise {error}\nload()\n")
    done = run_python("-m", "regap_plugin", "train", str(script))
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback (most recent call last)")
    assert f'File "{script}", line 2, in load' in done.stderr
    assert done.stderr.rstrip().endswith("Error: mine")
    assert "regap: " not in done.stderr


def test_an_error_that_the_plugin_raised_is_a_message(
    tmp_path: Path, run_python: RunPython
) -> None:
    script = _write_script(
        tmp_path, "from regap_plugin.errors import ResumeError\nraise ResumeError('no state')\n"
    )
    done = run_python("-m", "regap_plugin", "train", str(script))
    assert (done.returncode, done.stderr) == (1, "regap: no state\n")
    script = _write_script(tmp_path, "from regap_plugin import ReGapConfig\nReGapConfig(-1.0)\n")
    done = run_python("-m", "regap_plugin", "train", str(script))
    assert done.returncode == 1
    assert done.stderr.startswith("regap: regap weight: expected a finite number >= 0, found -1.0")


@pytest.mark.parametrize(("code", "expected"), [("3", 3), ("0", 0), ("", 0), ("'gone wrong'", 1)])
def test_the_scripts_exit_code_is_the_commands(
    tmp_path: Path, run_python: RunPython, code: str, expected: int
) -> None:
    script = _write_script(tmp_path, f"import sys\nsys.exit({code})\n")
    done = run_python("-m", "regap_plugin", "train", str(script))
    assert done.returncode == expected
    assert done.stderr == ("gone wrong\n" if expected == 1 else "")


class _Plugins:
    """The loaded plugins, with one upstream."""

    def __init__(self, upstream: Any) -> None:
        self.upstream_names = [upstream.name]
        self.upstream = lambda name: upstream

    def loss(self, name: str) -> object:
        if name != DEFAULT_LOSS:
            raise ValueError(unknown_name("gap loss", name, [DEFAULT_LOSS]))
        return object()


@pytest.fixture
def only_upstream(
    monkeypatch: pytest.MonkeyPatch, make_upstream: Callable[[], Any], import_state: None
) -> Any:
    """The one upstream of this environment; no torch needed."""
    upstream = make_upstream()
    module: Any = SimpleNamespace(load_plugins=lambda: _Plugins(upstream))
    monkeypatch.setitem(sys.modules, "regap_plugin.plugins", module)
    monkeypatch.setattr(activation, "upstream_names", lambda: frozenset({"fakeupstream"}))
    return upstream


@pytest.mark.parametrize("ending", ["", "import sys; sys.exit()", "raise SystemExit(0)"])
def test_a_weight_that_nothing_took_is_an_error(
    tmp_path: Path, capsys: Captured, only_upstream: Any, ending: str
) -> None:
    script = _write_script(tmp_path, ending)
    assert cli.main(["train", str(script), "--regap_weight=1"]) == 1
    error = capsys.readouterr().err
    assert "expected a script that trains one of fakeupstream, found one that ended" in error
    with pytest.raises(InactiveRegularizerError, match="Nothing was regularised: see `regap doct"):
        launcher.train([str(script), "--regap_weight", "1"])
    assert cli.main(["train", str(script)]) == 0, "without the flag there is nothing to miss"


def test_a_failed_script_fails_as_itself(tmp_path: Path, only_upstream: Any) -> None:
    script = _write_script(tmp_path, "raise SystemExit(7)")
    with pytest.raises(SystemExit) as stop:
        cli.main(["train", str(script), "--regap_weight", "1"])
    assert stop.value.code == 7


def test_a_weight_that_an_upstream_took_is_none(tmp_path: Path, only_upstream: Any) -> None:
    only_upstream.run = object()
    script = _write_script(tmp_path, "")
    assert cli.main(["train", str(script), "--regap_weight", "1"]) == 0


def test_the_patch_is_applied_when_the_script_imports_its_upstream(
    tmp_path: Path, only_upstream: Any
) -> None:
    script = _write_script(tmp_path, "import fakeupstream")
    (tmp_path / "fakeupstream.py").write_text("")
    assert cli.main(["train", str(script)]) == 0
    assert only_upstream.applied == 1


# ---- doctor


def _probes(
    monkeypatch: pytest.MonkeyPatch, armed: Optional[List[str]], idle: Optional[List[str]]
) -> None:
    monkeypatch.setattr(doctor, "_probe", lambda arguments: armed if arguments else idle)


def test_doctor_reports_what_is_here(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured, only_upstream: Any
) -> None:
    _probes(monkeypatch, ["True", "fakeupstream"], ["False"])
    assert cli.main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == [
        "regap_plugin",
        "python",
        "executable",
        "libraries",
        "upstreams",
        "activation",
        "advice",
    ]
    assert found["regap_plugin"] == __version__
    assert found["executable"] == sys.executable
    assert found["libraries"]["pluggy"] == importlib.metadata.version("pluggy")
    assert found["upstreams"]["fakeupstream"] == {
        "importable": False,
        "versions": {"pluggy": importlib.metadata.version("pluggy")},
        "tested_versions": ["1.0"],
    }
    assert found["activation"]["works"] is True
    assert any("No upstream can be imported here" in advice for advice in found["advice"])


def test_doctor_sees_a_checkout_in_this_folder(
    monkeypatch: pytest.MonkeyPatch, only_upstream: Any, tmp_path: Path
) -> None:
    _probes(monkeypatch, ["True"], ["False"])
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    (tmp_path / "fakeupstream").mkdir()
    assert not doctor.examine()["upstreams"]["fakeupstream"]["importable"]
    (tmp_path / "fakeupstream" / "__init__.py").write_text("raise ValueError('imported')")
    importlib.invalidate_caches()
    assert doctor.examine()["upstreams"]["fakeupstream"]["importable"]
    assert sys.path == path


WANTED = {"weight": 0.5}


@pytest.mark.parametrize(
    ("settings", "armed", "code", "words"),
    [
        (WANTED, ["True", "fakeupstream"], 0, "trained with the gap loss"),
        (WANTED, ["True"], 1, "NOT REGULARISED"),
        (WANTED, ["False", "fakeupstream"], 1, "NOT REGULARISED"),
        (WANTED, None, 1, "NOT REGULARISED"),
        (None, ["True", "fakeupstream"], 1, "asks for no ReGap, and would train without"),
        ({"wieght": 1}, ["True", "fakeupstream"], 1, "Did you mean 'weight'?"),
        ({"weight": 1, "loss": "pairwise_l3"}, ["True", "fakeupstream"], 1, "'pairwise_l2'?"),
    ],
)
def test_doctor_says_what_a_configuration_would_do(
    monkeypatch: pytest.MonkeyPatch,
    capsys: Captured,
    only_upstream: Any,
    settings: Any,
    armed: Optional[List[str]],
    code: int,
    words: str,
) -> None:
    monkeypatch.setattr(
        only_upstream, "settings_in_file", lambda path, options=(): settings, raising=False
    )
    monkeypatch.setattr(
        doctor, "_probe", lambda given: armed if "--cfg-path" in given else ["True"]
    )
    assert cli.main(["doctor", "--config", "x.yaml"]) == code
    out = capsys.readouterr().out
    assert words in out
    assert "Configuration x.yaml" in out
    assert ("loss          pairwise_l2\n" in out) == (settings is WANTED)
    assert cli.main(["doctor", "--config", "x.yaml", "--json"]) == code
    assert json.loads(capsys.readouterr().out)["config"]["works"] == (code == 0)


@pytest.mark.parametrize(
    ("words", "path", "options"),
    [
        (["--cfg-path", "x.yaml"], "x.yaml", []),
        (["--cfg-path=x.yaml", "--options", "a=1", "b=2", "--more"], "x.yaml", ["a=1", "b=2"]),
        (["--options", "a", "1", "--cfg-path", "x.yaml"], "x.yaml", ["a", "1"]),
    ],
)
def test_a_configuration_that_nothing_took_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    only_upstream: Any,
    words: List[str],
    path: str,
    options: List[str],
) -> None:
    asked: List[Any] = []

    def settings_in_file(path: str, options: Sequence[str] = ()) -> Any:
        asked.append((path, options))
        return WANTED if len(asked) == 1 else None

    monkeypatch.setattr(only_upstream, "settings_in_file", settings_in_file, raising=False)
    script = _write_script(tmp_path, "")
    with pytest.raises(InactiveRegularizerError, match=r"^x\.yaml: expected a script that trains"):
        launcher.train([str(script), *words])
    assert asked == [(path, options)]
    launcher.train([str(script), *words])
    only_upstream.run = object()
    launcher.train([str(script), *words])
    assert len(asked) == 2, "where a run was, there is nothing to ask"


@pytest.mark.parametrize(
    ("armed", "idle"), [(None, None), (["False"], ["False"]), (None, ["False"]), (["True"], None)]
)
def test_doctor_exits_with_one_where_the_activation_does_not_run(
    monkeypatch: pytest.MonkeyPatch,
    capsys: Captured,
    only_upstream: Any,
    armed: Optional[List[str]],
    idle: Optional[List[str]],
) -> None:
    _probes(monkeypatch, armed, idle)
    assert cli.main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "  works         NO\n" in out
    assert "run `regap activate`" in out
    assert "`regap train SCRIPT ...`" in out


def test_doctor_says_that_a_version_is_untested(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured, only_upstream: Any, tmp_path: Path
) -> None:
    _probes(monkeypatch, ["True"], ["False"])
    (tmp_path / "fakeupstream.py").write_text("raise RuntimeError('doctor imports no upstream')")
    sys.path.insert(0, str(tmp_path))
    assert cli.main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert f"fakeupstream  importable; pluggy {importlib.metadata.version('pluggy')};" in out
    assert "was not tested with this plugin (tested: 1.0)" in out
    only_upstream.tested_versions = (importlib.metadata.version("pluggy"),)
    assert cli.main(["doctor"]) == 0
    assert "was not tested" not in capsys.readouterr().out


def test_doctor_survives_plugins_that_cannot_be_loaded(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    _probes(monkeypatch, ["True"], ["False"])
    monkeypatch.setitem(sys.modules, "regap_plugin.plugins", None)
    assert cli.main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "  none registered\n" in out
    assert "The plugins cannot be loaded: import of regap_plugin.plugins halted" in out

    def broken() -> None:
        raise ReGapError("Entry points of group 'regap': expected plugins that can be imported")

    module: Any = SimpleNamespace(load_plugins=broken)
    monkeypatch.setitem(sys.modules, "regap_plugin.plugins", module)
    assert cli.main(["doctor"]) == 0
    assert "The plugins cannot be loaded: Entry points of group" in capsys.readouterr().out


def test_doctor_misses_torch(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured, only_upstream: Any
) -> None:
    _probes(monkeypatch, ["True"], ["False"])
    monkeypatch.setattr(doctor, "_version", lambda name: None)
    cli.main(["doctor"])
    out = capsys.readouterr().out
    assert "  torch         -\n" in out
    assert "torch is not installed: install the upstream you train" in out


def test_doctor_has_nothing_to_say_where_all_is_well() -> None:
    text = doctor.render(
        {
            "regap_plugin": __version__,
            "python": "3.11.7",
            "libraries": {},
            "upstreams": {},
            "activation": {"files": ["site/regap_plugin.pth"], "works": True},
            "advice": [],
        }
    )
    assert "  .pth file     site/regap_plugin.pth\n  works         yes\n" in text
    assert text.endswith("Nothing to do: add --regap_weight to train.py.")


def test_doctor_looks_at_this_very_environment(run_python: RunPython) -> None:
    done = run_python("-m", "regap_plugin", "doctor", "--json")
    assert "Traceback" not in done.stderr  # torch may warn there of what else is installed
    found = json.loads(done.stdout)
    assert done.returncode == (0 if found["activation"]["works"] else 1)
    assert found["executable"] == sys.executable
    # An activation file works, and nothing else can.
    assert found["activation"]["works"] == bool(found["activation"]["files"])


# ---- activate, deactivate


@pytest.fixture
def site_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A site directory in place of this environment's own."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(folder))
    monkeypatch.setattr("site.ENABLE_USER_SITE", False)
    return folder


def test_activate_writes_the_line_once(site_folder: Path, capsys: Captured) -> None:
    path = site_folder / activation.PTH_NAME
    assert cli.main(["activate"]) == 0
    assert path.read_text() == activation.PTH_LINE
    assert f"{path}: written. `regap deactivate` removes it." in capsys.readouterr().out
    assert cli.main(["activate"]) == 0
    assert f"{path}: is there already." in capsys.readouterr().out


def test_activate_renews_an_older_line(site_folder: Path, capsys: Captured) -> None:
    path = site_folder / activation.PTH_NAME
    path.write_text("import regap_plugin.older\n")
    assert cli.main(["activate"]) == 0
    assert path.read_text() == activation.PTH_LINE
    assert "written" in capsys.readouterr().out


def test_activate_without_the_right_to_write_exits_with_a_message(
    site_folder: Path, capsys: Captured
) -> None:
    site_folder.rmdir()
    assert cli.main(["activate"]) == 1
    assert capsys.readouterr().err.startswith("regap: [Errno 2] No such file or directory")


def test_deactivate_removes_every_line(
    site_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Captured
) -> None:
    users = tmp_path / "user"
    users.mkdir()
    monkeypatch.setattr("site.ENABLE_USER_SITE", True)
    monkeypatch.setattr("site.getusersitepackages", lambda: str(users))
    paths = [folder / activation.PTH_NAME for folder in (site_folder, users)]
    for path in paths:
        path.write_text(activation.PTH_LINE)
    assert cli.main(["deactivate"]) == 0
    out = capsys.readouterr().out
    for path in paths:
        assert not path.exists()
        assert f"{path}: removed. `regap activate` writes it again." in out
    assert cli.main(["deactivate"]) == 0
    assert "There is no activation file in this environment." in capsys.readouterr().out


# ---- plugins


def test_plugins_lists_hooks_and_losses(capsys: Captured) -> None:
    _require_torch()
    assert cli.main(["plugins", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["hooks", "plugins", "gap losses", "upstreams"]
    assert found["hooks"]["regap_loss_terms"] == "Add terms to the loss of one forward."
    assert {"centroid_l2", "pairwise_l2", "pairwise_squared_l2"} <= set(found["gap losses"])
    assert all(text for entries in found.values() for text in entries.values())
    assert cli.main(["plugins"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for title, entries in found.items():
        assert title in lines
        for name, text in entries.items():
            assert f"  {name:28}{text}" in lines


def test_plugins_lists_the_installed_upstreams(capsys: Captured) -> None:
    _require_torch()
    _require_the_distribution()
    cli.main(["plugins", "--json"])
    found = json.loads(capsys.readouterr().out)
    declared = {
        point.name
        for point in importlib.metadata.distribution("regap-plugin").entry_points
        if point.group == activation.UPSTREAMS_GROUP
    }
    assert declared
    assert declared <= set(found["upstreams"])
    assert declared <= set(found["plugins"])
    assert declared <= activation.upstream_names()
