"""The record of a run of the upstream tests: a JSON file, from which docs/upstreams.md is made."""

import datetime
import json
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Dict, Optional

LIBRARIES = (
    "regap-plugin",
    "torch",
    "transformers",
    "tokenizers",
    "accelerate",
    "peft",
    "deepspeed",
    "llava-torch",
)


class OutcomeFile:
    """Collects the outcome of each case; one entry per environment.

    Args:
        path: the JSON file; nothing is written if absent.
        environment: name of the entry.
    """

    def __init__(self, path: Optional[Path], environment: str) -> None:
        self._path = path
        self._environment = environment
        self._commits: Dict[str, Optional[str]] = {}
        self._cases: Dict[str, Dict[str, Dict[str, str]]] = {}

    def start(self, upstream: str, case: str, commit: Optional[str] = None) -> Dict[str, str]:
        """A dict to fill as the case goes on; what stays unfilled counts as failed.

        Args:
            upstream: name of its package.
            case: name of the case.
            commit: of an upstream that is a checkout, not an installed version.
        """
        self._commits[upstream] = commit
        return self._cases.setdefault(upstream, {}).setdefault(case, {})

    def write(self) -> None:
        """Merge into the file: cases of the same versions stay, others make way for these."""
        if self._path is None or not self._cases:
            return
        content: Dict[str, Any] = {}
        if self._path.is_file():
            content = json.loads(self._path.read_text())
        for upstream, cases in self._cases.items():
            environments = content.setdefault(upstream, {})
            entry: Dict[str, Any] = {
                "python": platform.python_version(),
                "versions": {name: _version(name) for name in LIBRARIES},
            }
            if self._commits[upstream]:
                entry["commit"] = self._commits[upstream]
            before = environments.get(self._environment, {})
            if all(before.get(key) == value for key, value in entry.items()):
                cases = {**before["cases"], **cases}
            entry.update(date=datetime.date.today().isoformat(), cases=cases)
            environments[self._environment] = entry
        self._path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")


def _version(name: str) -> Optional[str]:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
