"""Which commit of an upstream is used, for those that run from a checkout."""

from importlib.util import find_spec
from pathlib import Path
from typing import Optional

_SHOWN = 7


def checkout_commit(package: str) -> Optional[str]:
    """The commit of the git checkout that holds a top-level package; the package is not imported.

    Args:
        package: import name of the package at the checkout's root.

    Returns:
        The first seven digits; None if the package is not importable or lies in no checkout.
    """
    try:
        spec = find_spec(package)
    except (ImportError, ValueError):
        return None
    for location in (spec.submodule_search_locations or ()) if spec is not None else ():
        commit = _head(Path(location).parent / ".git")
        if commit is not None:
            return commit[:_SHOWN]
    return None


def _head(git: Path) -> Optional[str]:
    try:
        if git.is_file():  # a worktree names its folder, which names the one with the branches
            git = git.parent / git.read_text().partition("gitdir:")[2].strip()
        head = (git / "HEAD").read_text().strip()
        if not head.startswith("ref:"):
            return head
        reference = head.partition("ref:")[2].strip()
        common = git / "commondir"
        home = git / common.read_text().strip() if common.is_file() else git
        if (home / reference).is_file():
            return (home / reference).read_text().strip()
        for line in (home / "packed-refs").read_text().splitlines():
            if line.endswith(f" {reference}"):
                return line.split(" ")[0]
    except OSError:
        pass
    return None
