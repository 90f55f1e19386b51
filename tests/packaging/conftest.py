"""Builds the distributions once, from a copy: nothing is written into the checkout."""

import importlib.util
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, List

import pytest

ROOT = Path(__file__).parents[2]
_BUILD = "import sys; from setuptools import build_meta as b; getattr(b, sys.argv[1])(sys.argv[2])"
_LEFT_OUT = shutil.ignore_patterns(
    ".*", "__pycache__", "*.egg-info", "build", "dist", "demo-output", "htmlcov"
)


def _environment() -> Dict[str, str]:
    # Without PYTHONPATH and the like: only what is installed may be found.
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def _run(command: List[str], folder: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        timeout=300,
        env=_environment(),
    )


def _build(kind: str, source: Path, output: Path) -> Path:
    output.mkdir(exist_ok=True)
    before = set(output.iterdir())
    # As a build frontend does, in a process of its own; isolation would download setuptools.
    done = _run([sys.executable, "-c", _BUILD, f"build_{kind}", str(output)], source)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = set(output.iterdir()) - before
    return built


@dataclass(frozen=True)
class Distributions:
    """What was built, and from which copy of the tree."""

    source: Path
    wheel: Path
    sdist: Path
    editable: Path


@pytest.fixture(scope="session")
def build() -> Callable[[str, Path, Path], Path]:
    """Build `wheel`, `sdist` or `editable` of a source folder into an output folder."""
    pytest.importorskip("setuptools", "64", reason="the build backend: pip install setuptools>=64")
    if importlib.util.find_spec("setuptools.command.bdist_wheel") is None:
        pytest.importorskip("wheel", reason="setuptools before 70.1 builds with it: pip install it")
    return _build


@pytest.fixture(scope="session")
def built(
    build: Callable[[str, Path, Path], Path], tmp_path_factory: pytest.TempPathFactory
) -> Distributions:
    """The distributions of this checkout."""
    if not (ROOT / "setup.cfg").is_file():
        pytest.skip("builds the checkout: run the tests from it")
    folder = tmp_path_factory.mktemp("distributions")
    source = folder / "source"
    shutil.copytree(ROOT, source, ignore=_LEFT_OUT)
    kinds = ("sdist", "wheel", "editable")
    paths = {kind: build(kind, source, folder / kind) for kind in kinds}
    return Distributions(source, **paths)


class Environment:
    """A fresh virtual environment with nothing in it but what a test installs.

    Args:
        folder: where it is made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        done = _run([sys.executable, "-m", "venv", "--without-pip", str(folder)], folder.parent)
        assert done.returncode == 0, done.stderr
        scripts = folder / ("Scripts" if os.name == "nt" else "bin")
        self.executable = scripts / ("python.exe" if os.name == "nt" else "python")
        self.scripts = scripts

    @property
    def site_packages(self) -> Path:
        """Where the distributions go."""
        done = self.python("import sysconfig; print(sysconfig.get_path('purelib'))")
        return Path(done.stdout.strip())

    def pip(self, *arguments: str) -> None:
        """Run this interpreter's pip on that environment, offline."""
        command = [sys.executable, "-m", "pip", "--python", str(self.executable), *arguments]
        done = _run(command, self.folder)
        assert done.returncode == 0, done.stdout + done.stderr

    def install(self, distribution: Path) -> None:
        """Install a built distribution, without its dependencies."""
        self.pip("install", "--quiet", "--no-deps", "--no-index", str(distribution))

    def python(self, code: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Start an interpreter; each warning at its start is an error."""
        return self.run(str(self.executable), "-I", "-W", "error", "-c", code, *arguments)

    def regap(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """The installed command."""
        return self.run(str(self.scripts / "regap"), *arguments)

    def run(self, *command: str) -> "subprocess.CompletedProcess[str]":
        """Any command, in the environment's folder."""
        return _run(list(command), self.folder)


@pytest.fixture(scope="session")
def make_environment(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Environment]:
    """Make a fresh virtual environment."""
    pytest.importorskip("pip", reason="installs into a virtual environment")
    return lambda: Environment(tmp_path_factory.mktemp("environment") / "venv")
