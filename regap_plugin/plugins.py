"""The plugin manager: which plugins, formulas and upstreams there are, by name."""

import functools
import inspect
from typing import Any, Dict, List, Optional

import pluggy

from regap_plugin import hookspecs
from regap_plugin.activation import UPSTREAMS_GROUP
from regap_plugin.config import unknown_name
from regap_plugin.errors import ReGapError
from regap_plugin.gap_losses import BUILT_IN_LOSSES, GapLoss
from regap_plugin.upstream import Upstream

PLUGINS_GROUP = "regap"


class Plugins:
    """The loaded plugins with the formulas and upstreams that they registered.

    Args:
        manager: holds the plugins; a fresh one of the project's hooks if absent.

    Raises:
        ReGapError: a hook that does not exist, a name taken twice.
    """

    def __init__(self, manager: Optional[pluggy.PluginManager] = None) -> None:
        self.manager = new_manager() if manager is None else manager
        self._losses: Dict[str, GapLoss] = dict(BUILT_IN_LOSSES)
        self._upstreams: Dict[str, Upstream] = {}
        _check_hooks(self.manager)
        self.manager.hook.regap_register_gap_losses(register=self._register_loss)
        self.manager.hook.regap_register_upstreams(register=self._register_upstream)

    @property
    def loss_names(self) -> List[str]:
        """The formulas that `--regap_loss` takes."""
        return sorted(self._losses)

    @property
    def upstream_names(self) -> List[str]:
        """The upstreams that a plugin registered."""
        return sorted(self._upstreams)

    def loss(self, name: str) -> GapLoss:
        """The formula of that name.

        Raises:
            ValueError: no such formula; names the nearest one.
        """
        if name not in self._losses:
            raise ValueError(unknown_name("gap loss", name, self._losses))
        return self._losses[name]

    def upstream(self, name: str) -> Upstream:
        """The upstream of that name.

        Raises:
            ValueError: no such upstream; names the nearest one.
        """
        if name not in self._upstreams:
            raise ValueError(unknown_name("upstream", name, self._upstreams))
        return self._upstreams[name]

    def _register_loss(self, name: str, loss: GapLoss) -> None:
        if name in self._losses:
            raise ReGapError(
                f"Gap loss {name!r}: expected a name of its own, found one that is registered "
                f"already ({_home(self._losses[name])}). Rename the one of {_home(loss)}."
            )
        self._losses[name] = loss

    def _register_upstream(self, upstream: Upstream) -> None:
        if upstream.name in self._upstreams:
            raise ReGapError(
                f"Upstream {upstream.name!r}: expected one patch, found two, of "
                f"{_home(type(self._upstreams[upstream.name]))} and {_home(type(upstream))}. "
                "Uninstall one of the packages."
            )
        self._upstreams[upstream.name] = upstream


def new_manager() -> pluggy.PluginManager:
    """A manager that knows the hooks and holds no plugin."""
    manager = pluggy.PluginManager("regap")
    manager.add_hookspecs(hookspecs)
    return manager


@functools.cache
def load_plugins() -> Plugins:
    """The installed plugins of this environment, loaded once.

    Raises:
        ReGapError: a plugin that cannot be imported, a misspelt hook, a name taken twice.
    """
    manager = new_manager()
    for group in (PLUGINS_GROUP, UPSTREAMS_GROUP):
        try:
            manager.load_setuptools_entrypoints(group)
        except Exception as error:
            raise ReGapError(
                f"Entry points of group {group!r}: expected plugins that can be imported, found "
                f"{type(error).__name__}: {error}. Mend or uninstall the plugin."
            ) from error
    return Plugins(manager)


def _check_hooks(manager: pluggy.PluginManager) -> None:
    # pluggy accepts a misspelt hook in silence; only this call reports it.
    try:
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        hooks = [name for name, _ in inspect.getmembers(hookspecs, inspect.isfunction)]
        wanted = [name for name in hooks if name.startswith("regap_")]
        found = str(error).split("'")[1] if "'" in str(error) else str(error)
        raise ReGapError(
            f"Plugin {error.plugin!r}: " + unknown_name("hook", found, wanted)
        ) from error


def _home(item: Any) -> str:
    return f"{getattr(item, '__module__', '?')}.{getattr(item, '__qualname__', item)}"


def describe() -> Dict[str, Dict[str, str]]:
    """What `regap plugins` lists: hooks, plugins, gap losses, upstreams, each with a line."""
    plugins = load_plugins()
    hooks = inspect.getmembers(hookspecs, inspect.isfunction)
    return {
        "hooks": {name: _first_line(hook) for name, hook in hooks if name.startswith("regap_")},
        "plugins": {
            name: _first_line(plugin)
            for name, plugin in plugins.manager.list_name_plugin()
            if plugin is not None
        },
        "gap losses": {name: _first_line(plugins.loss(name)) for name in plugins.loss_names},
        "upstreams": {
            name: _first_line(type(plugins.upstream(name))) for name in plugins.upstream_names
        },
    }


def _first_line(item: Any) -> str:
    return (inspect.getdoc(item) or "").split("\n", 1)[0]
