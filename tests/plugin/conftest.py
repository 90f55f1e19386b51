"""What the plugin's tests share. No torch at the top: the light tests run without it."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Iterator, Mapping, Optional

import pytest
from hypothesis import settings

from regap_plugin import activation
from regap_plugin.upstream import Upstream

# The same examples on every machine: a red test is red for everyone.
settings.register_profile("regap", deadline=None, database=None, derandomize=True)
settings.load_profile("regap")


class FakeUpstream(Upstream):
    """An upstream that patches nothing and counts how often it was asked to."""

    name = "fakeupstream"
    distributions = ("pluggy", "no-such-distribution-of-regap")
    tested_versions = ("1.0",)

    def __init__(self, name: str = "fakeupstream") -> None:
        self.name = name
        self.applied = 0
        self.run: Optional[object] = None

    def apply(self) -> None:
        """Count."""
        self.applied += 1

    def revert(self) -> None:
        """Count back."""
        self.applied -= 1

    def locate_tokens(self, model: Any, batch: Mapping[str, Any]) -> Any:
        """Not needed here."""
        raise NotImplementedError


@pytest.fixture
def make_upstream() -> Callable[..., FakeUpstream]:
    return FakeUpstream


@pytest.fixture
def run_python(tmp_path: Path) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Run the interpreter of this environment in an empty folder."""

    def run(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            timeout=120,
            env={**os.environ, **environment},
        )

    return run


@pytest.fixture
def import_state() -> Iterator[None]:
    """Puts `sys.meta_path`, `sys.path`, `sys.argv` and `sys.modules` back afterwards."""
    finders, path, arguments = list(sys.meta_path), list(sys.path), list(sys.argv)
    modules = set(sys.modules)
    activation.disarm()
    yield
    sys.meta_path[:], sys.path[:], sys.argv = finders, path, arguments
    for name in set(sys.modules) - modules:
        if name.startswith(("fake", "other")):
            del sys.modules[name]
