"""The folder of a study: made, or found to hold the same settings."""

import contextlib
import json
import shutil
from pathlib import Path
from typing import Any, Dict, Mapping

from regap_benchmarks.miniature.units import UnitError
from regap_benchmarks.miniature.upstream_training import write_json


def additive_settings(marker: Path) -> Dict[str, Any]:
    """Of a study's settings those that only say which trainings there are."""
    found: Any = {}
    if marker.is_file():
        with contextlib.suppress(ValueError):
            found = json.loads(marker.read_text(encoding="utf-8"))
    return {name: found[name] for name in ("seeds", "losses", "weights") if name in found}


def claim_folder(output: Path, stored: Mapping[str, Any], *, overwrite: bool) -> None:
    """Make a folder with `settings.json`, or see that it holds the same settings.

    Raises:
        UnitError: it holds other settings, or something else.
    """
    marker = output / "settings.json"
    if output.exists() and not output.is_dir():
        raise UnitError(f"{output}: expected a folder, found a file. Choose another --output.")
    if marker.is_file():
        try:
            found = json.loads(marker.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UnitError(
                f"{marker}: expected JSON, found {error}. Delete the file and start again."
            ) from error
        if overwrite:
            for name in ("runs", "measured", "bases", "logs"):
                shutil.rmtree(output / name, ignore_errors=True)
        elif found != stored:
            differs = sorted(key for key in stored if stored[key] != found.get(key))
            raise UnitError(
                f"{output}: expected a study of the same {', '.join(differs) or 'settings'}, found"
                f" another. Choose another --output, or pass --overwrite to start anew."
            )
    elif output.is_dir() and any(output.iterdir()):
        raise UnitError(
            f"{output}: expected an empty folder or one of an earlier demo, found other files."
            " Choose another --output."
        )
    output.mkdir(parents=True, exist_ok=True)
    write_json(marker, stored)
