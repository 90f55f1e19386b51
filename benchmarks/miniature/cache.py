"""What is dear to train is kept in the user's cache folder, under a hash of all that decides it."""

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, Mapping

_MARKER = "made.json"


def cache_folder() -> Path:
    """`regap/miniature` under XDG_CACHE_HOME, or under `~/.cache`; it need not be there."""
    root = os.environ.get("XDG_CACHE_HOME", "")
    # By its specification, a relative path there is to be ignored.
    base = Path(root) if root and Path(root).is_absolute() else Path.home() / ".cache"
    return base / "regap" / "miniature"


def key_of(settings: Mapping[str, Any]) -> str:
    """16 hexadecimal digits of the settings' SHA-256, whatever their order."""
    text = json.dumps(settings, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def place_of(kind: str, settings: Mapping[str, Any]) -> Path:
    """The folder of one thing in the cache, made or not."""
    return cache_folder() / f"{kind}-{key_of(settings)}"


def is_made(folder: Path) -> bool:
    """Whether a folder of the cache is complete."""
    return (folder / _MARKER).is_file()


def make_cached(
    kind: str,
    settings: Mapping[str, Any],
    build: Callable[[Path], Mapping[str, Any]],
    *,
    rebuild: bool = False,
) -> Path:
    """The folder of one thing, built now if it is not there.

    It is built beside and moved when complete, so nothing half built is ever found, and two
    processes that build the same at once both end with it.

    Args:
        kind: first part of the folder's name.
        settings: all that decides what is built.
        build: fills a folder and returns what it found out, which the marker keeps.
        rebuild: build it though it is there.
    """
    target = place_of(kind, settings)
    if is_made(target) and not rebuild:
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f"{target.name}.", dir=target.parent))
    try:
        found = dict(build(partial))
        marker: Dict[str, Any] = {"settings": dict(settings), "found": found}
        (partial / _MARKER).write_text(json.dumps(marker, indent=1) + "\n", encoding="utf-8")
        if rebuild and target.exists():
            shutil.rmtree(target)
        try:
            partial.rename(target)
        except OSError:
            if not is_made(target):  # otherwise another process was first
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def found_of(folder: Path) -> Mapping[str, Any]:
    """What building a folder of the cache found out."""
    marker: Mapping[str, Any] = json.loads((folder / _MARKER).read_text(encoding="utf-8"))
    found: Mapping[str, Any] = marker["found"]
    return found
