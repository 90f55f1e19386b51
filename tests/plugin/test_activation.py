"""The finder waits for an upstream's package, reports it once it ran, and disturbs nothing else."""

import importlib
import importlib.abc
import importlib.machinery
import importlib.resources
import importlib.util
import inspect
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, Callable, Dict, FrozenSet, List, Optional, Sequence

import pytest

from regap_plugin import activation
from regap_plugin.activation import PTH_LINE, PTH_NAME, UpstreamFinder, activation_files
from regap_plugin.errors import UpstreamShapeError

RunPython = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def packages(tmp_path: Path, import_state: None) -> Path:
    """A folder on `sys.path` with the packages `fakellava` and `otherpackage`."""
    folder = tmp_path / "packages"
    for name in ("fakellava", "otherpackage"):
        (folder / name / "inner").mkdir(parents=True)
        (folder / name / "__init__.py").write_text("LOADED = []\nLOADED.append(__name__)\n")
        (folder / name / "inner" / "__init__.py").write_text("VALUE = 3\n")
        (folder / name / "data.txt").write_text("resource")
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    return folder


def _watch(
    *names: str, imported: Optional[Callable[[str], None]] = None, seen: Optional[List[str]] = None
) -> UpstreamFinder:
    record = [] if seen is None else seen
    finder = UpstreamFinder(lambda: frozenset(names), imported or record.append)
    sys.meta_path.insert(0, finder)
    return finder


def test_a_watched_package_is_reported_after_its_code_ran(packages: Path) -> None:
    seen: List[List[str]] = []
    _watch("fakellava", imported=lambda name: seen.append([name, *sys.modules[name].LOADED]))
    importlib.import_module("fakellava")
    assert seen == [["fakellava", "fakellava"]]


def test_a_submodule_reports_its_package_once(packages: Path) -> None:
    seen: List[str] = []
    _watch("fakellava", seen=seen)
    assert importlib.import_module("fakellava.inner").VALUE == 3
    importlib.import_module("fakellava")
    assert seen == ["fakellava"]


def test_a_submodule_of_a_watched_name_is_not_intercepted(packages: Path) -> None:
    seen: List[str] = []
    finder = _watch("fakellava", "inner", "fakellava.inner", seen=seen)
    assert finder.find_spec("fakellava.inner", [str(packages / "fakellava")]) is None
    importlib.import_module("fakellava.inner")
    assert seen == ["fakellava"]


def test_other_packages_are_left_alone(packages: Path) -> None:
    seen: List[str] = []
    finder = _watch("fakellava", seen=seen)
    assert finder.find_spec("otherpackage") is None
    other = importlib.import_module("otherpackage")
    assert seen == []
    assert type(other.__spec__.loader) is importlib.machinery.SourceFileLoader


def test_the_module_gets_its_own_loader_back(packages: Path) -> None:
    _watch("fakellava")
    module = importlib.import_module("fakellava")
    assert module.__spec__ is not None
    assert type(module.__spec__.loader) is importlib.machinery.SourceFileLoader
    assert module.__loader__ is module.__spec__.loader
    assert inspect.getsource(module).startswith("LOADED = []")
    assert importlib.resources.files("fakellava").joinpath("data.txt").read_text() == "resource"


def test_resources_are_readable_through_the_wrapped_loader_too(packages: Path) -> None:
    _watch("fakellava")
    spec = importlib.util.find_spec("fakellava")
    assert spec is not None
    loader: Any = spec.loader
    assert "fakellava" not in sys.modules
    assert loader.get_source("fakellava").startswith("LOADED = []")
    assert loader.get_data(str(packages / "fakellava" / "data.txt")) == b"resource"
    assert loader.is_package("fakellava")
    with pytest.raises(AttributeError, match="no_such_method"):
        loader.no_such_method  # noqa: B018 - the access is the test


def test_an_error_of_the_patch_is_raised_by_the_import(packages: Path) -> None:
    def refuse(name: str) -> None:
        raise UpstreamShapeError(f"{name}.forward: expected (self), found nothing.")

    finder = _watch("fakellava", imported=refuse)
    with pytest.raises(UpstreamShapeError, match=r"fakellava\.forward: expected"):
        importlib.import_module("fakellava")
    assert "fakellava" not in sys.modules, "half an import must not look like a whole one"
    with pytest.raises(UpstreamShapeError):
        importlib.import_module("fakellava.inner")
    assert finder in sys.meta_path


def test_an_error_of_the_package_is_its_own(packages: Path) -> None:
    (packages / "fakellava" / "__init__.py").write_text("raise RuntimeError('broken upstream')\n")
    seen: List[str] = []
    _watch("fakellava", seen=seen)
    with pytest.raises(RuntimeError, match="broken upstream"):
        importlib.import_module("fakellava")
    assert seen == []


def test_a_missing_package_is_missing_as_ever(packages: Path) -> None:
    _watch("fakemissing")
    with pytest.raises(ModuleNotFoundError, match="No module named 'fakemissing'"):
        importlib.import_module("fakemissing")


def test_a_reload_reports_again(packages: Path) -> None:
    seen: List[str] = []
    _watch("fakellava", seen=seen)
    module = importlib.import_module("fakellava")
    assert importlib.reload(module) is module
    assert seen == ["fakellava", "fakellava"]
    assert type(module.__loader__) is importlib.machinery.SourceFileLoader


class _WrappingLoader(importlib.abc.Loader):
    """What another import hook puts around a loader."""

    def __init__(self, inner: Any, log: List[str]) -> None:
        self._inner, self._log = inner, log

    def create_module(self, spec: Any) -> Optional[ModuleType]:
        created: Optional[ModuleType] = self._inner.create_module(spec)
        return created

    def exec_module(self, module: ModuleType) -> None:
        self._inner.exec_module(module)
        self._log.append(f"hook:{module.__name__}")


class _OtherHook(importlib.abc.MetaPathFinder):
    """Another import hook that wraps the loader of what the finders behind it find."""

    def __init__(self, log: List[str]) -> None:
        self._log, self._busy = log, False

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        if fullname != "fakellava" or self._busy:
            return None
        self._busy = True
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self._busy = False
        assert spec is not None
        spec.loader = _WrappingLoader(spec.loader, self._log)
        return spec


@pytest.mark.parametrize("first", ["regap", "other"])
def test_another_import_hook_still_works(packages: Path, first: str) -> None:
    log: List[str] = []
    _watch("fakellava", seen=log)
    sys.meta_path.insert(1 if first == "regap" else 0, _OtherHook(log))
    module = importlib.import_module("fakellava")
    assert module.LOADED == ["fakellava"]
    assert sorted(set(log)) == ["fakellava", "hook:fakellava"]


def test_finders_without_find_spec_are_passed_over(packages: Path) -> None:
    seen: List[str] = []
    _watch("fakellava", seen=seen)
    sys.meta_path.insert(1, SimpleNamespace())  # type: ignore[arg-type]
    spec = importlib.util.find_spec("fakellava")
    assert spec is not None


def test_the_names_are_asked_again_when_the_path_has_changed(packages: Path) -> None:
    asked: List[int] = []

    def names() -> FrozenSet[str]:
        asked.append(1)
        return frozenset({"fakellava"}) if str(packages) in sys.path else frozenset()

    sys.path.remove(str(packages))
    finder = UpstreamFinder(names, lambda _: None)
    assert finder.watched() == finder.watched() == frozenset()
    assert len(asked) == 1
    sys.path.insert(0, str(packages))
    assert finder.watched() == finder.watched() == {"fakellava"}
    assert len(asked) == 2


def test_an_import_inside_the_asking_does_not_recurse(packages: Path) -> None:
    def names() -> FrozenSet[str]:
        importlib.import_module("otherpackage")
        return frozenset({"fakellava"})

    seen: List[str] = []
    sys.meta_path.insert(0, UpstreamFinder(names, seen.append))
    importlib.import_module("fakellava")
    assert seen == ["fakellava"]


@pytest.fixture
def patched(monkeypatch: pytest.MonkeyPatch, packages: Path) -> List[str]:
    """Makes `arm` wait for `fakellava`; returns the names whose patch was applied."""
    applied: List[str] = []
    monkeypatch.setattr(activation, "upstream_names", lambda: frozenset({"fakellava"}))
    monkeypatch.setattr(activation, "_apply_patch", applied.append)
    return applied


def _finders() -> int:
    return sum(isinstance(finder, UpstreamFinder) for finder in sys.meta_path)


def test_arming_twice_is_arming_once(patched: List[str]) -> None:
    assert not activation.is_armed()
    activation.arm()
    activation.arm()
    assert activation.is_armed()
    assert _finders() == 1
    importlib.import_module("fakellava")
    assert patched == ["fakellava"]


def test_a_package_that_is_there_already_is_patched_now(patched: List[str]) -> None:
    importlib.import_module("fakellava")
    activation.arm()
    assert patched == ["fakellava"]
    activation.arm()
    assert patched == ["fakellava"]
    assert _finders() == 1


def test_arming_at_the_start_reads_no_entry_points(
    patched: List[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: List[int] = []
    monkeypatch.setattr(activation, "upstream_names", lambda: asked.append(1) or frozenset())
    assert activation.arm_from_argv(["train.py", "--help"])
    (finder,) = (each for each in sys.meta_path if isinstance(each, UpstreamFinder))
    if sys.version_info >= (3, 10):  # older Pythons cannot tell which modules are their own
        assert finder.find_spec("wave") is None
    assert asked == []
    assert finder.find_spec("fakellava") is None
    assert asked == [1]


def test_disarmed_it_waits_for_nothing(patched: List[str]) -> None:
    activation.arm()
    activation.disarm()
    activation.disarm()
    assert not activation.is_armed()
    importlib.import_module("fakellava")
    assert patched == []


@pytest.mark.parametrize(
    "argv",
    [
        ["train.py", "--lr", "1", "--regap_weight", "0.5"],
        ["train.py", "--regap_weight=0.5"],
        ["train.py", "--regap-wieght", "0.5"],  # armed, so that upstream's parser can refuse it
        ["train.py", "--cfg-path", "stage1.yaml"],
        ["train.py", "--help"],
        ["train.py", "-h"],
    ],
)
def test_a_command_line_that_could_concern_it_arms(patched: List[str], argv: List[str]) -> None:
    assert activation.arm_from_argv(argv) is True
    assert _finders() == 1


@pytest.mark.parametrize(
    "argv", [[], [""], ["train.py"], ["train.py", "regap", "-regap", "--lr", "--config", "--hel"]]
)
def test_any_other_command_line_does_not_arm(patched: List[str], argv: List[str]) -> None:
    assert activation.arm_from_argv(argv) is False
    assert _finders() == 0


def test_the_command_line_is_the_interpreters_own(
    patched: List[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", "--regap_weight", "1"])
    assert activation.arm_from_argv() is True
    monkeypatch.setattr(sys, "argv", ["train.py"])
    assert activation.arm_from_argv() is True, "it stays armed"
    activation.disarm()
    monkeypatch.delattr(sys, "argv")
    assert activation.arm_from_argv() is False, "some embedders have no sys.argv"


def test_the_pth_line_is_one_line_that_site_executes() -> None:
    assert PTH_LINE.endswith("\n")
    assert PTH_LINE.count("\n") == 1
    assert PTH_LINE.startswith("import "), "site runs only lines that start so"


def test_the_pth_line_run_twice_is_harmless(
    patched: List[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", "--regap_weight", "1"])
    for _ in range(2):
        exec(PTH_LINE, {})
    assert _finders() == 1


def test_the_pth_line_is_silent_once_the_package_is_gone(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "regap_plugin"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(sys, "argv", ["train.py", "--regap_weight", "1"])
    exec(PTH_LINE, {})
    assert capfd.readouterr() == ("", "")


def test_an_error_inside_the_package_is_not_taken_for_its_absence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken() -> None:
        raise ImportError("half an install")

    monkeypatch.setattr(activation, "arm_from_argv", broken)
    with pytest.raises(ImportError, match="half an install"):
        exec(PTH_LINE, {})


class _EntryPoint(SimpleNamespace):
    """Enough of an entry point."""


class _SelectableDict(Dict[str, Any]):
    """What `importlib.metadata.entry_points()` returns in Python 3.10 and 3.11."""

    def select(self, group: str) -> Sequence[Any]:
        return super().get(group, ())

    def get(self, *_: Any) -> Any:
        raise DeprecationWarning("SelectableGroups dict interface is deprecated. Use select.")


class _Selectable(List[Any]):
    """What it returns from Python 3.12 on."""

    def select(self, group: str) -> Sequence[Any]:
        return [point for point in self if point.group == group]


@pytest.mark.parametrize("kind", ["3.9", "3.10", "3.12"])
def test_the_names_are_those_of_the_entry_points(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    points = [
        _EntryPoint(name="llava", group="regap.upstreams"),
        _EntryPoint(name="minigpt4", group="regap.upstreams"),
        _EntryPoint(name="contrastive", group="regap"),
    ]
    by_group = {"regap.upstreams": points[:2], "regap": points[2:]}
    answer: Any = {
        "3.9": by_group,
        "3.10": _SelectableDict(by_group),
        "3.12": _Selectable(points),
    }[kind]
    monkeypatch.setattr("importlib.metadata.entry_points", lambda: answer)
    assert activation.upstream_names() == {"llava", "minigpt4"}


def test_without_plugins_nothing_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.entry_points", dict)
    assert activation.upstream_names() == frozenset()


def test_activation_files_are_found_in_the_given_directories(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    assert activation_files([str(first), str(second), str(tmp_path / "nowhere")]) == []
    (second / PTH_NAME).write_text(PTH_LINE)
    assert activation_files([str(first), str(second)]) == [str(second / PTH_NAME)]


def _package_folder() -> str:
    return str(Path(activation.__file__).parent.parent)


_MODULES = """
import sys
sys.path.insert(0, {folder!r})
before = set(sys.modules)
{code}
print(*sorted(set(sys.modules) - before))
"""


def _newly_imported(run_python: RunPython, code: str, *arguments: str) -> List[str]:
    program = _MODULES.format(folder=_package_folder(), code=code)
    # -S: no site, so that no .pth of this environment has imported anything before.
    done = run_python("-I", "-S", "-c", program, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_importing_the_package_imports_next_to_nothing(run_python: RunPython) -> None:
    assert _newly_imported(run_python, "import regap_plugin") == ["__future__", "regap_plugin"]


def test_the_activation_of_an_unconcerned_process_imports_next_to_nothing(
    run_python: RunPython,
) -> None:
    code = "import regap_plugin.activation as a; assert not a.arm_from_argv()"
    assert _newly_imported(run_python, code, "--lr", "1") == [
        "__future__",
        "regap_plugin",
        "regap_plugin.activation",
    ]


def test_an_armed_process_has_imported_neither_torch_nor_pluggy(run_python: RunPython) -> None:
    code = "import regap_plugin.activation as a; assert a.arm_from_argv()"
    names = _newly_imported(run_python, code, "--regap_weight", "1")
    assert "regap_plugin.activation" in names
    assert not {"torch", "pluggy", "regap_plugin.plugins", "regap_patches"} & set(names)


def test_the_public_names_are_resolved_on_first_use(run_python: RunPython) -> None:
    code = "import regap_plugin; regap_plugin.ReGapConfig(1.0)"
    names = _newly_imported(run_python, code)
    assert "regap_plugin.config" in names
    assert not {"torch", "pluggy"} & set(names)


def test_a_public_name_that_does_not_exist_is_an_attribute_error() -> None:
    import regap_plugin

    assert dir(regap_plugin) == sorted(regap_plugin.__all__)
    assert regap_plugin.ReGapConfig is importlib.import_module("regap_plugin.config").ReGapConfig
    with pytest.raises(AttributeError, match="module 'regap_plugin' has no attribute 'Regap'"):
        regap_plugin.Regap  # noqa: B018 - the access is the test
