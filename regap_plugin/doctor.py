"""`regap doctor`: what is installed, whether activation works here, and what to do."""

import os
import platform
import subprocess
import sys
import sysconfig
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Dict, Iterator, List, Optional

from regap_plugin import __version__, activation
from regap_plugin.config import ReGapConfig
from regap_plugin.errors import ReGapError

_LIBRARIES = ("torch", "transformers", "pluggy", "accelerate", "deepspeed", "peft", "bitsandbytes")
_PROBE = (
    "import sys; from regap_plugin import activation as a; "
    "print(a.is_armed(), *sorted(a.upstream_names()))"
)


def examine(config: Optional[str] = None) -> Dict[str, Any]:
    """Look at this environment; imports no upstream, starts two interpreters.

    Args:
        config: a configuration file of an upstream that takes one (MiniGPT-4's `--cfg-path`).

    Returns:
        JSON values: `python`, `libraries`, `upstreams`, `activation` and `advice`, a list of what
        to do, empty if all is well. With a `config` also that: `path`, `settings` (all of them, or
        None where it asks for no ReGap or asks wrongly) and `works`.
    """
    advice: List[str] = []
    with _this_folder_on_path():  # as for `python train.py` in an upstream's checkout
        upstreams = _upstreams(advice)
    state: Dict[str, Any] = {
        "regap_plugin": __version__,
        "python": platform.python_version(),
        "executable": sys.executable,
        "libraries": {name: _version(name) for name in _LIBRARIES},
        "upstreams": upstreams,
        "activation": _activation(advice),
    }
    if state["libraries"]["torch"] is None:
        advice.append("torch is not installed: install the upstream you train, it pins its own.")
    if upstreams and not any(each["importable"] for each in upstreams.values()):
        advice.append(
            "No upstream can be imported here: `pip install` one of "
            f"{', '.join(upstreams)} or put its checkout on PYTHONPATH."
        )
    if config is not None:
        state["config"] = _config(config, advice)
    return {**state, "advice": advice}


def render(found: Dict[str, Any]) -> str:
    """The result of `examine` for a terminal."""
    lines = [f"regap-plugin {found['regap_plugin']}, Python {found['python']}"]
    lines += [f"  {name:14}{value or '-'}" for name, value in found["libraries"].items()]
    lines.append("Upstreams")
    for name, each in found["upstreams"].items():
        versions = ", ".join(f"{n} {v}" for n, v in each["versions"].items())
        state = "importable" if each["importable"] else "not importable here"
        lines.append(
            f"  {name:14}{state}; {versions or 'version unknown'}; "
            f"tested: {', '.join(each['tested_versions'])}"
        )
    if not found["upstreams"]:
        lines.append("  none registered")
    active = found["activation"]
    lines.append("Activation")
    lines.append(f"  .pth file     {', '.join(active['files']) or 'none'}")
    lines.append(f"  works         {'yes' if active['works'] else 'NO'}")
    config = found.get("config")
    if config is not None:
        lines.append(f"Configuration {config['path']}")
        settings = config["settings"]
        lines += [f"  {name:14}{value}" for name, value in (settings or {}).items()]
        lines.append(f"  {'trained with the gap loss' if config['works'] else 'NOT REGULARISED'}")
    done = "Nothing to do" if config else "Nothing to do: add --regap_weight to train.py."
    lines.append("To do" if found["advice"] else done)
    lines += [f"  - {line}" for line in found["advice"]]
    return "\n".join(lines)


def _upstreams(advice: List[str]) -> Dict[str, Any]:
    try:
        from regap_plugin.plugins import load_plugins

        plugins = load_plugins()
    except (ImportError, ReGapError) as error:
        advice.append(f"The plugins cannot be loaded: {error}")
        return {}
    found = {}
    for name in plugins.upstream_names:
        upstream = plugins.upstream(name)
        versions = upstream.versions()
        importable = _can_find(name)
        found[name] = {
            "importable": importable,
            "versions": versions,
            "tested_versions": list(upstream.tested_versions),
        }
        untested = [v for v in versions.values() if v not in upstream.tested_versions]
        if importable and untested:
            advice.append(
                f"{name} {', '.join(untested)} was not tested with this plugin (tested: "
                f"{', '.join(upstream.tested_versions)}): it is refused at the start if it does "
                "not fit."
            )
    return found


def _config(path: str, advice: List[str]) -> Dict[str, Any]:
    state: Dict[str, Any] = {"path": path, "settings": None, "works": False}
    try:
        from regap_plugin.plugins import load_plugins

        plugins = load_plugins()
        for name in plugins.upstream_names:
            settings = plugins.upstream(name).settings_in_file(path)
            if settings is not None:
                config = ReGapConfig.from_mapping(settings)
                plugins.loss(config.loss)
                state["settings"] = config.to_dict()
                break
        else:
            advice.append(
                f"{path}: asks for no ReGap, and would train without. Add `regap: {{weight: 0.5}}` "
                "under `run`."
            )
            return state
    except (ImportError, ReGapError, ValueError) as error:
        advice.append(f"{path}: would not train. {error}")
        return state
    armed = _probe(["--cfg-path", path])
    state["works"] = armed is not None and armed[:1] == ["True"] and name in armed
    return state


def _activation(advice: List[str]) -> Dict[str, Any]:
    files = activation.activation_files(site_directories())
    armed = _probe(["--regap_weight", "0.5"])
    idle = _probe([])
    works = armed is not None and armed[:1] == ["True"] and idle is not None
    if not works:
        advice.append(
            "The activation does not run at interpreter start: run `regap activate` (an editable "
            "install has no .pth), or train with `regap train SCRIPT ...` instead of "
            "`python SCRIPT ...`."
        )
    return {"files": files, "works": works}


def site_directories() -> List[str]:
    """Where this interpreter reads `.pth` files."""
    import site

    directories = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    if site.ENABLE_USER_SITE:
        directories.append(site.getusersitepackages())
    return list(dict.fromkeys(directories))


def _probe(arguments: List[str]) -> Optional[List[str]]:
    done = subprocess.run(
        [sys.executable, "-c", _PROBE, *arguments], capture_output=True, text=True, check=False
    )
    return done.stdout.split() if done.returncode == 0 else None


@contextmanager
def _this_folder_on_path() -> Iterator[None]:
    path = list(sys.path)
    sys.path.append(os.getcwd())
    try:
        yield
    finally:
        sys.path[:] = path


def _can_find(name: str) -> bool:
    from importlib.util import find_spec

    try:
        spec = find_spec(name)
        # A folder of that name without code in it has no origin.
        return spec is not None and spec.origin is not None
    except (ImportError, ValueError):
        return False


def _version(name: str) -> Optional[str]:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
