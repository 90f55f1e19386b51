"""Wrap a method of a class: signature checked, applied once, reversible."""

import functools
import inspect
from typing import Any, Callable, Sequence, Tuple

from regap_plugin.errors import UpstreamShapeError

_MARK = "__regap_original__"

_REMEDY = "Install a version of it that `regap doctor` lists as tested, or update its patch."

Wrapper = Callable[..., Any]
Shape = Tuple[str, ...]


def wrap_method(
    owner: type, name: str, wrapper: Wrapper, *, shapes: Sequence[Shape]
) -> Callable[[], None]:
    """Replace `owner.name` by `wrapper(original, self, *args, **kwargs)`.

    The method is replaced on the class that defines it, so instances, subclasses and modules that
    imported the class earlier all see it.

    Args:
        owner: the class whose own body defines the method.
        name: the method's name.
        wrapper: called with the original function first, then as the method was called.
        shapes: the lists of parameter names, `self` included, that the wrapper was written for.
            A list that ends with `"..."` leaves open what follows.

    Returns:
        A function that puts the original object back.

    Raises:
        UpstreamShapeError: the class does not define it, its parameters are others, or it is
            wrapped already.
    """
    where = f"{owner.__module__}.{owner.__qualname__}.{name}"
    original = owner.__dict__.get(name)
    if not inspect.isfunction(original):
        raise UpstreamShapeError(
            f"{where}: expected a method that this class defines, found "
            f"{'nothing' if original is None else type(original).__name__}. {_REMEDY}"
        )
    if hasattr(original, _MARK):
        raise UpstreamShapeError(
            f"{where}: expected upstream's own method, found one that ReGap has wrapped. "
            "Revert the first patch before applying another."
        )
    _check_shape(original, shapes, where)

    @functools.wraps(original)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return wrapper(original, *args, **kwargs)

    setattr(wrapped, _MARK, original)
    setattr(owner, name, wrapped)

    def revert() -> None:
        if owner.__dict__.get(name) is not wrapped:
            raise UpstreamShapeError(
                f"{where}: expected the wrapper that ReGap put there, found another object. "
                "Something patched it later: revert that first."
            )
        setattr(owner, name, original)

    return revert


def _check_shape(function: Callable[..., Any], shapes: Sequence[Shape], where: str) -> None:
    found = tuple(inspect.signature(function).parameters)
    for shape in shapes:
        if found == shape or (shape[-1] == "..." and found[: len(shape) - 1] == shape[:-1]):
            return
    expected = " or ".join(f"({', '.join(shape)})" for shape in shapes)
    raise UpstreamShapeError(
        f"{where}: expected the parameters {expected}, found ({', '.join(found)}). {_REMEDY}"
    )
