"""Who may know whom, read from the imports: `regap_patches -> regap_plugin <- regap_benchmarks`."""

import ast
import subprocess
import sys
from pathlib import Path
from typing import Iterator, List, Set, Tuple

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {
    "regap_plugin": ROOT / "regap_plugin",
    "regap_patches": ROOT / "patches",
    "regap_benchmarks": ROOT / "benchmarks",
}
UPSTREAM_PACKAGES = {"llava", "share4v", "minigpt4"}
# What runs where nothing is installed: at interpreter start, in a launcher, beside a checkpoint.
STANDARD_LIBRARY_ONLY = (
    "activation",
    "checkpoint",
    "cli",
    "config",
    "doctor",
    "errors",
    "launcher",
    "patching",
    "upstream",
)

MODULES: List[Tuple[str, Path]] = [
    (name, path) for name, folder in FOLDERS.items() for path in sorted(folder.rglob("*.py"))
]
each_module = pytest.mark.parametrize(
    ("package", "path"), MODULES, ids=[path.relative_to(ROOT).as_posix() for _, path in MODULES]
)


def _imported(node: ast.AST) -> List[str]:
    """The absolute names of modules that one node imports, by statement or by name."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [node.module] if node.level == 0 and node.module else []
    if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        called = node.func.attr if isinstance(node.func, ast.Attribute) else None
        called = node.func.id if isinstance(node.func, ast.Name) else called
        if called in ("import_module", "__import__"):
            return [str(node.args[0].value)]
    return []


def _tops(nodes: Iterator[ast.AST]) -> Set[str]:
    return {name.split(".")[0] for node in nodes for name in _imported(node)}


def _run_at_import(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node but those inside of functions."""
    for child in ast.iter_child_nodes(tree):
        if not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield child
            yield from _run_at_import(child)


def _parse(text: str) -> ast.Module:
    return ast.parse(text)


def _tree(path: Path) -> ast.Module:
    return _parse(path.read_text(encoding="utf-8"))


def test_the_reading_of_imports_sees_them_all() -> None:
    tree = _parse(
        "import a.b, c\nfrom d.e import f\nfrom . import g\nfrom .h import i\n"
        "if TYPE_CHECKING:\n    import j\ntry:\n    import k\nexcept ImportError:\n    pass\n"
        "class L:\n    import m\ndef n():\n    import o\n    importlib.import_module('p.q')\n"
        "r = __import__('s')\n"
    )
    assert _tops(_run_at_import(tree)) == {"a", "c", "d", "j", "k", "m", "s"}
    assert _tops(ast.walk(tree)) == {"a", "c", "d", "j", "k", "m", "s", "o", "p"}


def test_there_are_modules_in_every_folder() -> None:
    for name, folder in FOLDERS.items():
        assert (folder / "__init__.py").is_file(), f"{folder}: expected the package {name}"
    assert len(MODULES) > 20


@each_module
def test_packages_know_only_whom_they_may(package: str, path: Path) -> None:
    allowed = {"regap_plugin", package}
    ours = _tops(ast.walk(_tree(path))) & set(FOLDERS)
    assert ours <= allowed, f"{path}: expected imports of {sorted(allowed)}, found {sorted(ours)}"


@each_module
def test_no_module_imports_a_folder_by_its_own_name(package: str, path: Path) -> None:
    assert not _tops(ast.walk(_tree(path))) & {"patches", "benchmarks", "tests"}


@each_module
def test_upstream_is_imported_inside_functions_only(package: str, path: Path) -> None:
    found = _tops(_run_at_import(_tree(path))) & UPSTREAM_PACKAGES
    assert not found, f"{path}: expected {sorted(found)} to be imported where it is used"


@pytest.mark.skipif(sys.version_info < (3, 10), reason="needs sys.stdlib_module_names")
@pytest.mark.parametrize(
    "path", sorted(FOLDERS["regap_plugin"].rglob("*.py")), ids=lambda p: p.name
)
def test_the_plugin_needs_torch_and_pluggy_and_nothing_else(path: Path) -> None:
    foreign = _tops(ast.walk(_tree(path))) - set(sys.stdlib_module_names)
    assert foreign <= {"regap_plugin", "torch", "pluggy"}


def test_what_runs_anywhere_needs_the_standard_library_only() -> None:
    names = ", ".join(f"regap_plugin.{name}" for name in STANDARD_LIBRARY_ONLY)
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import {names}"
    # -S: no site-packages, so that nothing but the standard library can be imported.
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", STANDARD_LIBRARY_ONLY)
def test_that_they_do_is_not_for_want_of_a_module(name: str) -> None:
    assert (FOLDERS["regap_plugin"] / f"{name}.py").is_file()
