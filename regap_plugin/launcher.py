"""`regap train SCRIPT [ARGS]`: upstream's script with the patch armed, without the `.pth`.

Standard library only: what the script imports first stays upstream's choice.
"""

import itertools
import os
import runpy
import sys
from typing import List, Sequence, Tuple

from regap_plugin import activation
from regap_plugin.errors import InactiveRegularizerError

_WEIGHT_FLAG = "--regap_weight"
_CONFIG_FLAG, _OPTIONS_FLAG = "--cfg-path", "--options"  # MiniGPT-4's


def train(command: Sequence[str]) -> None:
    """Run a script, or a module after `-m`, as `__main__` with the patches armed.

    Args:
        command: the script's path, or `-m` and a module's name, then the script's own arguments.

    Raises:
        ValueError: no script, or one that does not exist.
        InactiveRegularizerError: the script ended well with `--regap_weight` on its command line,
            or with a configuration that asks for ReGap, but no patched upstream took it.
    """
    is_module = command[:1] == ["-m"]
    target: List[str] = list(command[1:] if is_module else command)
    if not target:
        raise ValueError(
            "regap train: expected a training script (or -m MODULE) and its arguments, found "
            "none. Example: regap train llava/train/train.py --regap_weight 0.5 ..."
        )
    if not is_module and not os.path.isfile(target[0]):
        raise ValueError(
            f"regap train: expected a training script, found no file {target[0]!r}. Pass the "
            "script first, then its own arguments."
        )
    arguments = target[1:]
    activation.arm()
    sys.argv[:] = target
    try:
        if is_module:
            sys.path[0] = os.getcwd()
            runpy.run_module(target[0], run_name="__main__", alter_sys=True)
        else:
            # runpy.run_path leaves the script's folder out, which `python SCRIPT` puts first.
            sys.path[0] = os.path.dirname(os.path.abspath(target[0]))
            runpy.run_path(target[0], run_name="__main__")
    except SystemExit as stop:
        if stop.code not in (None, 0):  # `sys.exit(main())` is how many scripts end well
            raise
    _require_a_run(arguments)


def _require_a_run(arguments: Sequence[str]) -> None:
    if any(argument.startswith(_WEIGHT_FLAG) for argument in arguments):
        asked = _WEIGHT_FLAG
    elif any(argument.startswith(_CONFIG_FLAG) for argument in arguments):
        asked = _CONFIG_FLAG
    else:
        return
    from regap_plugin.plugins import load_plugins

    plugins = load_plugins()
    upstreams = [plugins.upstream(name) for name in plugins.upstream_names]
    if any(getattr(upstream, "run", None) for upstream in upstreams):
        return
    if asked == _CONFIG_FLAG:
        path, options = _configuration(arguments)
        if all(upstream.settings_in_file(path, options) is None for upstream in upstreams):
            return
        asked = path
    raise InactiveRegularizerError(
        f"{asked}: expected a script that trains one of "
        f"{', '.join(plugins.upstream_names) or 'no installed upstream'}, found one that ended "
        "without. Nothing was regularised: see `regap doctor`."
    )


def _configuration(arguments: Sequence[str]) -> Tuple[str, List[str]]:
    """The file behind `--cfg-path`, and the words behind `--options`."""
    path, options = "", []
    for index, argument in enumerate(arguments):
        following = arguments[index + 1 :]
        if argument.startswith(f"{_CONFIG_FLAG}="):
            path = argument.partition("=")[2]
        elif argument == _CONFIG_FLAG:
            path = "".join(following[:1])
        elif argument == _OPTIONS_FLAG:
            options = list(itertools.takewhile(lambda word: word[:2] != "--", following))
    return path, options
