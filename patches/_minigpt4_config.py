"""`run.regap` in a MiniGPT-4 YAML: where it may stand, and the guard against a plugin that is off.

MiniGPT-4 ignores keys that it does not know. So a key in the wrong place is refused here, and a
weight may be written `${regap:0.5}`: OmegaConf, which MiniGPT-4 reads its YAML with, stops at once
where nobody has registered a resolver of that name.
"""

import warnings
from pathlib import Path
from typing import Any, Callable, Dict, Mapping, Optional, Sequence, Union

KEY = "regap"


def register_guard() -> Callable[[], None]:
    """Let OmegaConf resolve `${regap:VALUE}` to VALUE.

    Returns:
        A function that undoes it.
    """
    from omegaconf import OmegaConf

    if OmegaConf.has_resolver(KEY):
        return lambda: None
    with warnings.catch_warnings():
        # OmegaConf 2.3, which MiniGPT-4 pins, and 2.4 each warn of the other's name for this.
        warnings.simplefilter("ignore")
        OmegaConf.register_new_resolver(KEY, lambda value: value)

    def revert() -> None:
        OmegaConf.clear_resolver(KEY)

    return revert


def settings_in(content: Mapping[str, Any]) -> Optional[Dict[str, Any]]:
    """What stands under `run.regap`.

    Args:
        content: the whole configuration, interpolations resolved.

    Returns:
        The settings by name; None if the key is absent.

    Raises:
        ValueError: the key holds no settings.
    """
    run = content.get("run")
    if not isinstance(run, Mapping) or KEY not in run:
        return None
    settings = run[KEY]
    if not isinstance(settings, Mapping):
        raise ValueError(
            f"run.regap: expected settings below it, such as `weight: 0.5`, found {settings!r}. "
            "Indent them below the key, or remove the key to train without ReGap."
        )
    return {str(name): value for name, value in settings.items()}


def check_places(content: object) -> None:
    """Refuse what looks like a setting of ReGap and stands where nobody would read it.

    Args:
        content: a configuration, or the content of a YAML.

    Raises:
        ValueError: a key that begins with "regap" at the top, under `model`, or under `run` but
            not as `run.regap`.
    """
    sections = content if isinstance(content, Mapping) else {}
    for section in ("", "run", "model"):
        values = sections.get(section) if section else sections
        for name in values if isinstance(values, Mapping) else ():
            if str(name).lower().startswith(KEY) and (section, name) != ("run", KEY):
                found = f"{section}.{name}".lstrip(".")
                raise ValueError(
                    f"{found}: expected the settings of ReGap under run.regap alone, found this "
                    "key, which MiniGPT-4 would ignore. Write `run: {regap: {weight: 0.5}}`."
                )


def settings_in_file(
    path: Union[str, Path], options: Sequence[str] = ()
) -> Optional[Dict[str, Any]]:
    """What a YAML asks for, with `--options` over it, without MiniGPT-4.

    Args:
        path: the YAML.
        options: words of `--options`, as `a.b=c` or as pairs `a.b c`.

    Returns:
        See `settings_in`.

    Raises:
        ValueError: no such file, no YAML, a key in the wrong place, or no library to read it.
    """
    content = _read(Path(path), options)
    check_places(content)
    return settings_in(content)


def _read(path: Path, options: Sequence[str]) -> Mapping[str, Any]:
    if not path.is_file():
        raise ValueError(f"{path}: expected a YAML, found no such file. Pass its path.")
    try:
        from omegaconf import OmegaConf
    except ImportError as error:
        raise ValueError(
            f"{path}: expected OmegaConf, with which MiniGPT-4 reads it, found none here. Ask in "
            "the environment that trains, or `pip install omegaconf`."
        ) from error
    if options and "=" not in options[0]:
        options = [f"{name}={value}" for name, value in zip(options[::2], options[1::2])]
    try:
        merged = OmegaConf.merge(OmegaConf.load(path), OmegaConf.from_dotlist(list(options)))
        content = OmegaConf.to_container(merged)
        if isinstance(content, dict) and isinstance(content.get("run"), dict):
            revert = register_guard()
            try:
                content["run"] = OmegaConf.to_container(merged.run, resolve=True)
            finally:
                revert()
    except Exception as error:  # of OmegaConf, of its YAML reader, of its grammar
        raise ValueError(
            f"{path}: expected a YAML that OmegaConf reads, found {type(error).__name__}: {error}. "
            "Correct the file."
        ) from error
    if not isinstance(content, dict):
        raise ValueError(
            f"{path}: expected sections such as run and model, found "
            f"{type(content).__name__}. Pass the file that --cfg-path names."
        )
    return {str(name): value for name, value in content.items()}
