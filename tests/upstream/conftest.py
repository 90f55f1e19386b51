"""The tiny checkpoints and data that every training of a test session starts from."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Iterator

import pytest

if TYPE_CHECKING:
    from upstream.harness import Workspace
    from upstream.outcomes import OutcomeFile

CAPTIONS, CONVERSATIONS = 48, 48


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> "Workspace":
    pytest.importorskip("llava", reason="the real trainer: pip install llava-torch --no-deps")
    return _write_workspace(tmp_path_factory.mktemp("llava"))


@pytest.fixture(scope="session")
def share4v_workspace(tmp_path_factory: pytest.TempPathFactory) -> "Workspace":
    for name in ("torch", "transformers", "accelerate", "sentencepiece", "PIL"):
        pytest.importorskip(name, reason="a training: the deps of setup.cfg's [llava]")
    return _write_workspace(tmp_path_factory.mktemp("share"))


def _write_workspace(folder: Path) -> "Workspace":
    from upstream.harness import Workspace

    from regap_benchmarks.miniature.checkpoints import write_miniature
    from regap_benchmarks.miniature.dataset import (
        dataset_texts,
        write_captions,
        write_conversations,
    )

    captions = write_captions(folder / "captions", count=CAPTIONS, seed=0)
    conversations = write_conversations(folder / "conversations", count=CONVERSATIONS, seed=0)
    texts = [*dataset_texts(captions), *dataset_texts(conversations)]
    write_miniature(folder, texts, seed=0)
    return Workspace(folder)


@pytest.fixture(scope="session")
def outcomes() -> "Iterator[OutcomeFile]":
    """Written to the file that REGAP_UPSTREAM_RECORD names, if it is set."""
    from upstream.outcomes import OutcomeFile

    path = os.environ.get("REGAP_UPSTREAM_RECORD")
    environment = os.environ.get("REGAP_UPSTREAM_ENVIRONMENT", "upstream")
    outcome_file = OutcomeFile(Path(path) if path else None, environment)
    yield outcome_file
    outcome_file.write()
