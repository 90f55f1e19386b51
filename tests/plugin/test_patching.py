"""A wrapped method: its shape is checked, it is wrapped once, and it comes back as it was."""

import inspect
from typing import Any, Callable, List, Tuple

import pytest

from regap_plugin.errors import UpstreamShapeError
from regap_plugin.patching import wrap_method

SHAPE = ("self", "images", "scale")


def _make_class() -> type:
    class Model:
        """Upstream's class."""

        def encode(self, images: int, scale: int = 2) -> Tuple[str, int]:
            """Upstream's docstring."""
            return type(self).__name__, images * scale

        @staticmethod
        def static(images: int) -> int:
            return images

        @property
        def size(self) -> int:
            return 3

        attribute = 1

    return Model


def _passing(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return original(*args, **kwargs)


def test_the_wrapper_gets_the_original_and_the_call_as_it_was_made() -> None:
    model_class, calls = _make_class(), []

    def wrapper(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        calls.append((args[1:], kwargs))
        return ("wrapped", original(*args, **kwargs))

    wrap_method(model_class, "encode", wrapper, shapes=[SHAPE])
    assert model_class().encode(3, scale=5) == ("wrapped", ("Model", 15))
    assert model_class().encode(images=1) == ("wrapped", ("Model", 2))
    assert calls == [((3,), {"scale": 5}), ((), {"images": 1})]


def test_subclasses_and_instances_made_earlier_see_the_wrapper() -> None:
    model_class = _make_class()
    subclass = type("Sub", (model_class,), {})
    earlier, seen = subclass(), []

    def wrapper(original: Callable[..., Any], *args: Any) -> Any:
        seen.append(1)
        return original(*args)

    revert = wrap_method(model_class, "encode", wrapper, shapes=[SHAPE])
    assert earlier.encode(1) == ("Sub", 2)
    assert seen == [1]
    revert()
    assert earlier.encode(1) == ("Sub", 2)
    assert seen == [1]


def test_the_wrapper_keeps_name_docstring_and_signature() -> None:
    model_class = _make_class()
    before = inspect.signature(model_class.__dict__["encode"])
    wrap_method(model_class, "encode", _passing, shapes=[SHAPE])
    wrapped = model_class.__dict__["encode"]
    assert wrapped.__name__ == "encode"
    assert wrapped.__doc__ == "Upstream's docstring."
    assert inspect.signature(wrapped) == before


def test_revert_restores_the_very_same_object() -> None:
    model_class = _make_class()
    original = model_class.__dict__["encode"]
    revert = wrap_method(model_class, "encode", _passing, shapes=[SHAPE])
    assert model_class.__dict__["encode"] is not original
    revert()
    assert model_class.__dict__["encode"] is original
    assert not vars(original), "no mark stays on upstream's own function"


def test_it_can_be_wrapped_again_after_a_revert() -> None:
    model_class = _make_class()
    for _ in range(2):
        wrap_method(model_class, "encode", _passing, shapes=[SHAPE])()
    assert model_class().encode(2) == ("Model", 4)


def test_wrapping_twice_is_refused() -> None:
    model_class = _make_class()
    wrap_method(model_class, "encode", _passing, shapes=[SHAPE])
    with pytest.raises(UpstreamShapeError, match=r"Model\.encode: .*one that ReGap has wrapped"):
        wrap_method(model_class, "encode", _passing, shapes=[SHAPE])


def test_reverting_under_a_later_patch_is_refused() -> None:
    model_class = _make_class()
    revert = wrap_method(model_class, "encode", _passing, shapes=[SHAPE])
    model_class.encode = lambda self, images, scale=2: None  # type: ignore[attr-defined]
    with pytest.raises(UpstreamShapeError, match="Something patched it later: revert that first"):
        revert()


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("missing", "nothing"),
        ("static", "staticmethod"),
        ("size", "property"),
        ("attribute", "int"),
    ],
)
def test_what_is_no_method_of_the_class_is_refused(name: str, found: str) -> None:
    with pytest.raises(
        UpstreamShapeError,
        match=rf"Model\.{name}: expected a method that this class defines, found {found}\. Install",
    ):
        wrap_method(_make_class(), name, _passing, shapes=[("...",)])


def test_an_inherited_method_is_refused() -> None:
    subclass = type("Sub", (_make_class(),), {})
    with pytest.raises(UpstreamShapeError, match="expected a method that this class defines"):
        wrap_method(subclass, "encode", _passing, shapes=[SHAPE])


@pytest.mark.parametrize(
    "shapes",
    [
        [SHAPE],
        [("self", "...")],
        [("...",)],
        [("self", "images", "scale", "...")],
        [("self", "pixels"), SHAPE],
    ],
)
def test_a_shape_that_fits_is_taken(shapes: List[Tuple[str, ...]]) -> None:
    wrap_method(_make_class(), "encode", _passing, shapes=shapes)


@pytest.mark.parametrize(
    "shape",
    [
        ("self",),
        ("self", "images"),
        ("self", "scale", "images"),
        ("self", "images", "scale", "sizes"),
        ("self", "pixels", "..."),
        ("self", "images", "scale", "sizes", "..."),
    ],
)
def test_a_shape_that_does_not_fit_is_refused(shape: Tuple[str, ...]) -> None:
    model_class = _make_class()
    original = model_class.__dict__["encode"]
    with pytest.raises(UpstreamShapeError) as refused:
        wrap_method(model_class, "encode", _passing, shapes=[shape, ("self", "other")])
    message = str(refused.value)
    assert f"expected the parameters ({', '.join(shape)}) or (self, other)" in message
    assert "found (self, images, scale)" in message
    assert "regap doctor" in message
    assert model_class.__dict__["encode"] is original
