"""Where the package `share4v` comes from: the real checkout if REGAP_SHARE4V_SRC names it.

Otherwise the stand-in of the same contract, so that the same tests run where the codebase is not.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Optional

STAND_IN = Path(__file__).with_name("standin_share4v")
REAL: Optional[Path] = None
if os.environ.get("REGAP_SHARE4V_SRC"):
    REAL = Path(os.environ["REGAP_SHARE4V_SRC"]).resolve()
    if not (REAL / "share4v" / "train" / "train.py").is_file():
        raise FileNotFoundError(
            "REGAP_SHARE4V_SRC: expected a checkout of ShareGPT4V, found no "
            f"share4v/train/train.py in {REAL}. Name the folder that holds the package, or unset "
            "the variable."
        )
SOURCE = REAL or STAND_IN


def commit() -> Optional[str]:
    """The commit of the real checkout; None for the stand-in."""
    if REAL is None:
        return None
    done = subprocess.run(
        ["git", "-C", str(REAL), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"


def make_importable() -> None:
    """Let this process import `share4v`, from `SOURCE` and from nowhere else."""
    if str(SOURCE) not in sys.path:
        sys.path.insert(0, str(SOURCE))
