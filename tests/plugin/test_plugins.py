"""Names: each is there once, a typo is led back to its name, a misspelt hook is not swallowed."""

import importlib
import sys
from pathlib import Path
from typing import Any, Callable, Dict

import pytest

pytest.importorskip("torch", reason="the built-in formulas need torch")

from regap_plugin import plugins as plugins_module
from regap_plugin.errors import ReGapError
from regap_plugin.gap_losses import BUILT_IN_LOSSES, pairwise_l2
from regap_plugin.hookspecs import hookimpl
from regap_plugin.plugins import Plugins, describe, load_plugins, new_manager


def _plugins(*plugins: Any) -> Plugins:
    manager = new_manager()
    for plugin in plugins:
        manager.register(plugin)
    return Plugins(manager)


class Losses:
    """A plugin that registers formulas."""

    def __init__(self, **losses: Any) -> None:
        self._losses: Dict[str, Any] = losses

    @hookimpl
    def regap_register_gap_losses(self, register: Callable[..., None]) -> None:
        for name, loss in self._losses.items():
            register(name, loss)


class Upstreams:
    """A plugin that registers upstreams."""

    def __init__(self, *upstreams: Any) -> None:
        self._upstreams = upstreams

    @hookimpl
    def regap_register_upstreams(self, register: Callable[..., None]) -> None:
        for upstream in self._upstreams:
            register(upstream)


def test_without_plugins_there_are_the_built_in_formulas() -> None:
    plugins = Plugins()
    assert plugins.loss_names == [
        "centroid_l2",
        "energy_distance",
        "frechet",
        "info_nce",
        "mmd",
        "pairwise_l2",
        "pairwise_squared_l2",
        "sliced_wasserstein",
    ]
    assert plugins.upstream_names == []
    assert plugins.loss("pairwise_l2") is pairwise_l2


def test_a_registered_formula_is_found_by_its_name() -> None:
    def cosine(embeddings: Any) -> Any:
        return embeddings

    plugins = _plugins(Losses(cosine=cosine))
    assert plugins.loss("cosine") is cosine
    assert "cosine" in plugins.loss_names
    assert "cosine" not in BUILT_IN_LOSSES, "the next run starts from the built-in ones"
    assert "cosine" not in Plugins().loss_names


def test_an_unknown_formula_names_the_nearest() -> None:
    with pytest.raises(
        ValueError,
        match=r"gap loss: expected one of centroid_l2, cosine, energy_distance, .*, "
        r"sliced_wasserstein, found 'cosin'\. Did you mean 'cosine'\?",
    ):
        _plugins(Losses(cosine=pairwise_l2)).loss("cosin")


def test_an_unknown_upstream_names_the_nearest(make_upstream: Callable[..., Any]) -> None:
    plugins = _plugins(Upstreams(make_upstream("llava"), make_upstream("minigpt4")))
    with pytest.raises(
        ValueError, match=r"one of llava, minigpt4, found 'llama'\. Did you mean 'l"
    ):
        plugins.upstream("llama")


def test_a_formula_of_a_taken_name_is_refused() -> None:
    def impostor(embeddings: Any) -> Any:
        return embeddings

    with pytest.raises(
        ReGapError,
        match=r"Gap loss 'pairwise_l2': expected a name of its own, found one that is registered "
        r"already \(regap_plugin\.gap_losses\.pairwise\.pairwise_l2\)\. Rename .*impostor",
    ):
        _plugins(Losses(pairwise_l2=impostor))
    with pytest.raises(ReGapError, match="Gap loss 'mine'"):
        _plugins(Losses(mine=impostor), Losses(mine=impostor))


def test_a_second_patch_of_an_upstream_is_refused(make_upstream: Callable[..., Any]) -> None:
    with pytest.raises(
        ReGapError, match=r"Upstream 'llava': expected one patch, found two, of .*FakeUpstream"
    ):
        _plugins(Upstreams(make_upstream("llava")), Upstreams(make_upstream("llava")))


def test_a_misspelt_hook_names_the_nearest() -> None:
    class Misspelt:
        @hookimpl
        def regap_los_terms(self, step: Any) -> None: ...

    with pytest.raises(
        ReGapError,
        match=r"Plugin .*Misspelt.*hook: expected one of regap_loss_terms, regap_on_step, .*"
        r"found 'regap_los_terms'\. Did you mean 'regap_loss_terms'\?",
    ):
        _plugins(Misspelt())


def test_an_unmarked_function_is_no_hook() -> None:
    class Unmarked:
        def regap_register_gap_losses(self, register: Callable[..., None]) -> None:
            raise AssertionError("not marked, not called")

    assert _plugins(Unmarked()).loss_names == sorted(BUILT_IN_LOSSES)


# ---- the installed ones

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, import_state: None) -> Install:
    """Puts a distribution with one plugin on `sys.path`."""

    def write(name: str, code: str, group: str = "regap") -> None:
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {name}\n")
        (tmp_path / f"{name}.py").write_text(code)
        sys.path.insert(0, str(tmp_path))
        importlib.invalidate_caches()

    return write


def _load_anew() -> Plugins:
    fresh: Plugins = load_plugins.__wrapped__()
    return fresh


LOSS_PLUGIN = '''
"""Formulas of another distribution."""
from regap_plugin import hookimpl

@hookimpl
def regap_register_gap_losses(register):
    register("theirs", lambda embeddings: embeddings.image.sum())
'''

UPSTREAM_PLUGIN = '''
"""A patch of another distribution."""
from regap_plugin import hookimpl
from regap_plugin.upstream import Upstream

class Theirs(Upstream):
    """Their trainer."""
    name = "fake_trainer"
    def apply(self): ...
    def revert(self): ...
    def locate_tokens(self, model, batch): ...

@hookimpl
def regap_register_upstreams(register):
    register(Theirs())
'''


def test_an_installed_plugin_is_found_by_its_entry_point(install: Install) -> None:
    install("fake_losses", LOSS_PLUGIN)
    plugins = _load_anew()
    assert "theirs" in plugins.loss_names
    assert dict(plugins.manager.list_name_plugin())["fake_losses"] is sys.modules["fake_losses"]


def test_an_installed_upstream_is_found_by_its_entry_point(install: Install) -> None:
    from regap_plugin.activation import upstream_names

    install("fake_trainer", UPSTREAM_PLUGIN, group="regap.upstreams")
    assert "fake_trainer" in upstream_names()
    assert "fake_trainer" not in sys.modules, "its name is known without importing it"
    assert _load_anew().upstream("fake_trainer").name == "fake_trainer"


def test_the_activation_applies_the_patch_of_an_installed_upstream(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    from regap_plugin import activation

    applied = 'def apply(self):\n        import builtins; builtins.print("applied to", self.name)'
    code = UPSTREAM_PLUGIN.replace("def apply(self): ...", applied)
    install("fake_patch", code.replace("fake_trainer", "fake_upstream"), group="regap.upstreams")
    names = Path(sys.path[0]) / "fake_patch-1.0.dist-info" / "entry_points.txt"
    names.write_text("[regap.upstreams]\nfake_upstream = fake_patch\n")
    (Path(sys.path[0]) / "fake_upstream.py").write_text("")
    monkeypatch.setattr(plugins_module, "load_plugins", _load_anew)
    printed = []
    monkeypatch.setattr("builtins.print", lambda *words: printed.append(words))
    activation.arm_from_argv(["train.py", "--regap_weight", "1"])  # what is imported stays as it is
    importlib.import_module("fake_upstream")
    assert printed == [("applied to", "fake_upstream")]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("raise RuntimeError('broken')", "found RuntimeError: broken"),
        ("import no_such_module_of_regap", "found ModuleNotFoundError: No module named"),
        (
            "from regap_plugin import hookimpl\n"
            "@hookimpl\ndef regap_on_step(number, values): ...\n",
            "found PluginValidationError: ",
        ),
    ],
)
def test_a_plugin_that_cannot_be_loaded_is_an_error(
    install: Install, code: str, message: str
) -> None:
    install("fake_broken", code)
    with pytest.raises(
        ReGapError, match=r"group 'regap': expected plugins that can be im"
    ) as error:
        _load_anew()
    assert message in str(error.value)


def test_a_misspelt_hook_of_an_installed_plugin_is_an_error(install: Install) -> None:
    install("fake_misspelt", LOSS_PLUGIN.replace("register_gap_losses", "register_gap_loss"))
    with pytest.raises(ReGapError, match="Did you mean 'regap_register_gap_losses'"):
        _load_anew()


def test_the_plugins_are_loaded_once() -> None:
    assert load_plugins() is load_plugins()


def test_the_description_has_a_line_for_each_name(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("fake_losses", LOSS_PLUGIN)
    install("fake_trainer", UPSTREAM_PLUGIN, group="regap.upstreams")
    monkeypatch.setattr(plugins_module, "load_plugins", _load_anew)
    found = describe()
    assert found["plugins"]["fake_losses"] == "Formulas of another distribution."
    assert found["upstreams"]["fake_trainer"] == "Their trainer."
    assert found["gap losses"]["theirs"] == ""
    assert found["hooks"]["regap_on_step"].startswith("Watch. Called after every optimizer step")
    assert all("\n" not in text for entries in found.values() for text in entries.values())
