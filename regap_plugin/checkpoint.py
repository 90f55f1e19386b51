"""What a checkpoint carries: `regap_state.json` beside the weights, `regap` in `config.json`.

Standard library only, so that `regap inspect` runs anywhere.
"""

import json
import os
from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Union

from regap_plugin.errors import ResumeError

STATE_NAME = "regap_state.json"
CONFIG_KEY = "regap"


def write_state(directory: Union[str, Path], state: Mapping[str, Any]) -> Path:
    """Write the state into a checkpoint directory, whole or not at all.

    Args:
        directory: the checkpoint; made if it does not exist.
        state: JSON values.
    """
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    # Not by tempfile: its files are for their owner only, a checkpoint is often shared.
    temporary = folder / f"{STATE_NAME}.{os.getpid()}.part"
    try:
        with temporary.open("w", encoding="utf-8") as stream:
            json.dump(state, stream, indent=2, sort_keys=True)
            stream.write("\n")
        os.replace(temporary, folder / STATE_NAME)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return folder / STATE_NAME


def read_state(directory: Union[str, Path]) -> Dict[str, Any]:
    """Read the state of a checkpoint.

    Raises:
        ResumeError: there is none, or it is not a JSON object.
    """
    path = Path(directory) / STATE_NAME
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ResumeError(
            f"{path}: expected the state of a regularised run, found no such file. The checkpoint "
            "is from a run without ReGap: resume it without the flags, or start anew."
        ) from None
    except ValueError as error:
        raise ResumeError(
            f"{path}: expected JSON, found {error}. The file is damaged: resume from another "
            "checkpoint."
        ) from error
    if not isinstance(state, dict):
        raise ResumeError(
            f"{path}: expected a JSON object, found {type(state).__name__}. The file is damaged: "
            "resume from another checkpoint."
        )
    return state


def find_record(checkpoint: Union[str, Path]) -> Optional[Dict[str, Any]]:
    """What a checkpoint says of its regularisation.

    Args:
        checkpoint: a directory that holds `regap_state.json` or `config.json`.

    Returns:
        The content of `regap_state.json`, or of the key `regap` of `config.json`, with `source`
        naming which; None if the checkpoint carries neither.

    Raises:
        ValueError: no such directory.
        ResumeError: a damaged `regap_state.json`.
    """
    folder = Path(checkpoint)
    if not folder.is_dir():
        raise ValueError(
            f"{folder}: expected a checkpoint directory, found "
            f"{'a file' if folder.exists() else 'nothing'}. Pass the directory that was saved to."
        )
    if (folder / STATE_NAME).is_file():
        return {"source": STATE_NAME, **read_state(folder)}
    config = folder / "config.json"
    if config.is_file():
        try:
            values = json.loads(config.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(
                f"{config}: expected JSON, found {error}. The file is damaged: pass another "
                "checkpoint."
            ) from error
        if isinstance(values, dict) and isinstance(values.get(CONFIG_KEY), dict):
            return {"source": "config.json", **values[CONFIG_KEY]}
    return None
