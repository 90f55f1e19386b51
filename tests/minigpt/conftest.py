"""The codebases to train with, each with its tiny checkpoints and data."""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Iterator

import pytest
from minigpt.harness import available, write_workspace

if TYPE_CHECKING:
    from minigpt.harness import Codebase, Workspace
    from upstream.outcomes import OutcomeFile


@pytest.fixture(scope="session", params=available(), ids=lambda codebase: codebase.name)
def codebase(request: pytest.FixtureRequest) -> "Codebase":
    """The stand-in, and the checkout that REGAP_MINIGPT4_SRC names."""
    found: Codebase = request.param
    return found


@pytest.fixture(scope="session")
def workspace(codebase: "Codebase", tmp_path_factory: pytest.TempPathFactory) -> "Workspace":
    for library in ("torch", "omegaconf", "PIL"):
        pytest.importorskip(library, reason=f"a training of MiniGPT-4: pip install {library}")
    for library in ("timm", "webdataset") if codebase.real else ():
        if find_spec(library) is None:  # as in the environment of another upstream
            pytest.skip(f"the real MiniGPT-4: pip install {library}")
    return write_workspace(tmp_path_factory.mktemp(f"minigpt-{codebase.name}"), codebase)


@pytest.fixture(scope="session")
def outcomes() -> "Iterator[OutcomeFile]":
    """Written to the file that REGAP_UPSTREAM_RECORD names, if it is set."""
    from upstream.outcomes import OutcomeFile

    path = os.environ.get("REGAP_UPSTREAM_RECORD")
    environment = os.environ.get("REGAP_UPSTREAM_ENVIRONMENT", "upstream")
    outcome_file = OutcomeFile(Path(path) if path else None, environment)
    yield outcome_file
    outcome_file.write()
