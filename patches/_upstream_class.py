"""Find a class of an upstream by name, or say what is missing."""

import importlib

from regap_plugin.errors import UpstreamShapeError


def find_class(module: str, name: str) -> type:
    """Import a class.

    Raises:
        UpstreamShapeError: there is no such module, or nothing of that name in it.
    """
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UpstreamShapeError(
            f"{module}.{name}: expected a class, found {type(error).__name__}: {error}. Install a "
            "version of it that `regap doctor` lists as tested, or update its patch."
        ) from error
    assert isinstance(found, type)
    return found
