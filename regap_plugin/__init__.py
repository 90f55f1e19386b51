"""ReGap: modality-gap regularisation (arXiv 2505.24208) for the LVLM trainers you already have.

Importing this package imports neither torch nor pluggy: it is on the path of every interpreter
start (see `regap_plugin.activation`). The names below are resolved on first use (PEP 562).
"""

from __future__ import annotations

TYPE_CHECKING = False  # `import typing` alone would cost milliseconds at every interpreter start
if TYPE_CHECKING:
    from typing import Any, List

    from regap_plugin.config import ReGapConfig
    from regap_plugin.embeddings import TokenEmbeddings
    from regap_plugin.hookspecs import LossTerm, TrainingStep, hookimpl

__version__ = "0.1.0"

__all__ = [
    "LossTerm",
    "ReGapConfig",
    "TokenEmbeddings",
    "TrainingStep",
    "__version__",
    "hookimpl",
]

_HOME = {
    "LossTerm": "hookspecs",
    "ReGapConfig": "config",
    "TokenEmbeddings": "embeddings",
    "TrainingStep": "hookspecs",
    "hookimpl": "hookspecs",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> List[str]:
    return sorted(__all__)
