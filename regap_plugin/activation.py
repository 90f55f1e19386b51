"""What runs at interpreter start: a look at `sys.argv`, and a finder when a flag is there.

The wheel carries one `.pth` line that calls `arm_from_argv`. Without a ReGap flag on the command
line it returns at once. With one it puts a finder on `sys.meta_path` that waits for an upstream's
top-level package; when that package has been imported, its patch is applied.

Standard library only, and as little of it as possible: every interpreter of the environment pays
for what stands at the top of this file. An upstream is known by the *name* of its entry point in
the group `regap.upstreams`: the import name of its top-level package.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # `import typing` alone would cost milliseconds at every interpreter start
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any, Callable, FrozenSet, List, Optional, Sequence, Tuple

PTH_NAME = "regap_plugin.pth"
# The guard makes the line silent once the package is gone: a file that `regap activate` wrote is
# not in the wheel's RECORD and stays behind after an uninstall.
PTH_LINE = (
    'import sys; exec("try:\\n    import regap_plugin.activation as _regap\\n'
    'except ImportError:\\n    pass\\nelse:\\n    _regap.arm_from_argv()\\n")\n'
)
UPSTREAMS_GROUP = "regap.upstreams"

_ARMING_ARGUMENTS = ("--regap", "--cfg-path")  # Hugging Face trainers; MiniGPT-4's YAML
_HELP_ARGUMENTS = ("-h", "--help")
_STANDARD_LIBRARY: FrozenSet[str] = getattr(
    sys, "stdlib_module_names", frozenset()
)  # from Python 3.10 on


def arm_from_argv(argv: Optional[Sequence[str]] = None) -> bool:
    """Arm the finder if the command line could concern ReGap.

    Args:
        argv: the command line; `sys.argv` if absent. Some embedders have none.

    Returns:
        Whether the finder is armed now.
    """
    arguments = getattr(sys, "argv", ()) if argv is None else argv
    for argument in arguments:
        if argument.startswith(_ARMING_ARGUMENTS) or argument in _HELP_ARGUMENTS:
            _insert_finder()
            break
    return is_armed()


def is_armed() -> bool:
    """Whether the finder is on `sys.meta_path`."""
    return any(isinstance(finder, UpstreamFinder) for finder in sys.meta_path)


def arm() -> None:
    """Put the finder on `sys.meta_path`, once; upstreams imported before are patched now."""
    if is_armed():
        return
    imported = upstream_names() & set(sys.modules)
    _insert_finder()
    for name in sorted(imported):
        _apply_patch(name)


def _insert_finder() -> None:
    if not is_armed():
        sys.meta_path.insert(0, UpstreamFinder(upstream_names, _apply_patch))


def disarm() -> None:
    """Take the finder off `sys.meta_path`. Patches that are applied stay: revert them apart."""
    sys.meta_path[:] = [f for f in sys.meta_path if not isinstance(f, UpstreamFinder)]


def upstream_names() -> FrozenSet[str]:
    """The top-level packages that installed upstream plugins wait for."""
    from importlib.metadata import entry_points

    points: Any = entry_points()
    # Python 3.9 gives a dict by group; 3.10 and 3.11 one that warns when it is used as a dict.
    chosen = (
        points.select(group=UPSTREAMS_GROUP)
        if hasattr(points, "select")
        else points.get(UPSTREAMS_GROUP, ())
    )
    return frozenset(point.name for point in chosen)


def _apply_patch(name: str) -> None:
    from regap_plugin.plugins import load_plugins

    load_plugins().upstream(name).apply()


class UpstreamFinder:
    """A `sys.meta_path` finder that reports when a watched top-level package was imported.

    It finds nothing itself: the other finders do, and their loader is wrapped.

    Args:
        names: gives the watched names; asked again whenever `sys.path` has changed, since site
            packages are still being added while the `.pth` line runs.
        imported: called with the name once the package's code has run. What it raises is raised
            by the import statement: a patch that does not fit must stop the run.
    """

    def __init__(
        self, names: Callable[[], FrozenSet[str]], imported: Callable[[str], None]
    ) -> None:
        self._names = names
        self._imported = imported
        self._path: Optional[Tuple[str, ...]] = None
        self._watched: FrozenSet[str] = frozenset()

    def watched(self) -> FrozenSet[str]:
        """The names this finder waits for, by the present `sys.path`."""
        path = tuple(map(str, sys.path))
        if path != self._path:
            self._path = path  # first: asking for the names imports modules, which comes back here
            self._watched = self._names()
        return self._watched

    def find_spec(
        self, fullname: str, path: Optional[Sequence[str]] = None, target: Any = None
    ) -> Optional[ModuleSpec]:
        """Let the other finders find a watched package and wrap its loader."""
        # Reading the entry points costs tens of milliseconds: not for a module that cannot be one.
        if path is not None or fullname in _STANDARD_LIBRARY or fullname not in self.watched():
            return None
        for finder in sys.meta_path:
            find = None if finder is self else getattr(finder, "find_spec", None)
            spec: Optional[ModuleSpec] = find(fullname, path, target) if find else None
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _ReportingLoader(spec.loader, self._imported)  # type: ignore[assignment]
                return spec
        return None


class _ReportingLoader:
    """Runs another loader and reports the module afterwards.

    It delegates instead of replacing `exec_module` on the loader it was given, which recurses
    when another import hook does the same.
    """

    def __init__(self, loader: Any, imported: Callable[[str], None]) -> None:
        self._loader = loader
        self._imported = imported

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> Optional[ModuleType]:
        created: Optional[ModuleType] = self._loader.create_module(spec)
        return created

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        self._imported(module.__name__)


def activation_files(directories: Sequence[str]) -> List[str]:
    """The activation `.pth` files that lie in the given site directories."""
    import os

    paths = [os.path.join(directory, PTH_NAME) for directory in directories]
    return [path for path in paths if os.path.isfile(path)]
