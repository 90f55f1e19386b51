"""The `--regap_*` flags in the parser of trainers that use `transformers.HfArgumentParser`.

Covers the LLaVA family's train.py: a parser whose dataclasses have `mm_projector_type` and
`tune_mm_mlp_adapter`. Works when train.py is `__main__`, since the parser's class is wrapped.
"""

import argparse
import dataclasses
import sys
from contextlib import ExitStack
from typing import Any, Callable, List

from regap_plugin.config import ReGapConfig, add_arguments, take_arguments, unknown_flags
from regap_plugin.errors import ReGapError
from regap_plugin.patching import wrap_method

_TRAINER_FIELDS = {"mm_projector_type", "tune_mm_mlp_adapter"}

Listener = Callable[[ReGapConfig], None]

_listeners: List[Listener] = []
_wrapped = ExitStack()


def listen(listener: Listener) -> Callable[[], None]:
    """Add the flags to such parsers and hear of the settings that they parse.

    Args:
        listener: called with the settings, before training, when `--regap_weight` is given.

    Returns:
        A function that undoes it; the parser is upstream's own again after the last one.
    """
    if not _listeners:
        _wrap_parser()
    _listeners.append(listener)

    def revert() -> None:
        _listeners.remove(listener)
        if not _listeners:
            _wrapped.close()

    return revert


def _wrap_parser() -> None:
    from transformers import HfArgumentParser

    _wrapped.callback(
        wrap_method(
            HfArgumentParser, "__init__", _init, shapes=[("self", "dataclass_types", "...")]
        )
    )
    _wrapped.callback(
        wrap_method(
            HfArgumentParser,
            "parse_args_into_dataclasses",
            _parse,
            shapes=[("self", "args", "...")],
        )
    )


def _init(original: Callable[..., None], parser: Any, *args: Any, **kwargs: Any) -> None:
    original(parser, *args, **kwargs)
    if _is_trainers(parser):
        group = parser.add_argument_group(
            "ReGap", "modality-gap regularisation; without --regap_weight it does nothing"
        )
        add_arguments(group, _check_loss)


def _parse(
    original: Callable[..., Any], parser: Any, args: Any = None, *rest: Any, **kw: Any
) -> Any:
    if not _is_trainers(parser):
        return original(parser, args, *rest, **kw)
    for message in unknown_flags(sys.argv[1:] if args is None else args):
        parser.error(message)
    outputs = original(parser, args, *rest, **kw)
    settings = {}
    for output in outputs:
        if isinstance(output, argparse.Namespace):
            settings.update(take_arguments(output))
    if settings:
        try:
            config = ReGapConfig.from_mapping(settings)
        except ValueError as error:
            parser.error(str(error))
        _the_listener()(config)
    # Upstream unpacks its own dataclasses: a namespace that held only our values was not there.
    return tuple(o for o in outputs if not isinstance(o, argparse.Namespace) or vars(o))


def _the_listener() -> Listener:
    if len(_listeners) != 1:
        raise ReGapError(
            f"--regap_weight: expected one patched codebase in this process, found "
            f"{len(_listeners)}. Import only the one that is trained."
        )
    return _listeners[0]


def _is_trainers(parser: Any) -> bool:
    fields = {
        each.name
        for dataclass_type in parser.dataclass_types
        for each in dataclasses.fields(dataclass_type)
    }
    return fields >= _TRAINER_FIELDS


def _check_loss(name: str) -> str:
    from regap_plugin.plugins import load_plugins

    load_plugins().loss(name)
    return name
