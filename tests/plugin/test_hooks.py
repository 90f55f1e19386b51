"""Every hook is called as its docstring says, has a test here and an example that runs."""

import importlib.util
import inspect
import math
import re
from pathlib import Path
from types import ModuleType
from typing import Any, Callable, Dict, List, Mapping, Tuple

import pytest

pytest.importorskip("torch", reason="the hooks hand tensors around: install torch")

import torch
from torch import nn

from regap_plugin import hookspecs
from regap_plugin.config import ReGapConfig
from regap_plugin.embeddings import TokenEmbeddings
from regap_plugin.hookspecs import LossTerm, TrainingStep, hookimpl
from regap_plugin.plugins import Plugins, new_manager
from regap_plugin.training_run import TrainingRun
from regap_plugin.upstream import Upstream

DOCUMENTATION = Path(__file__).parents[2] / "docs" / "hooks.md"
HOOKS: Dict[str, Any] = {
    name: hook
    for name, hook in inspect.getmembers(hookspecs, inspect.isfunction)
    if name.startswith("regap_")
}


def _page() -> str:
    assert DOCUMENTATION.is_file(), "docs/hooks.md: expected beside the tests, found nothing"
    return DOCUMENTATION.read_text(encoding="utf-8")


def _examples() -> Dict[str, str]:
    blocks = re.findall(r"^```python\n(.*?)^```$", _page(), re.MULTILINE | re.DOTALL)
    named = [(re.match(r"# file: (\w+\.py)\n", block), block) for block in blocks]
    examples = {match.group(1): block for match, block in named if match}
    assert len(examples) == sum(match is not None for match, _ in named), "two of one name"
    return examples


def _load(name: str, folder: Path) -> ModuleType:
    path = folder / name
    path.write_text(_examples()[name], encoding="utf-8")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _hooks_of(plugin: Any) -> List[str]:
    return [name for name in HOOKS if hasattr(getattr(plugin, name, None), "regap_impl")]


def _embeddings(projector: nn.Module, samples: int = 3) -> TokenEmbeddings:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(samples, 4, 3, generator=generator)
    text = torch.randn(samples, 2, 5, generator=generator)
    masks = [torch.ones(samples, tokens, dtype=torch.bool) for tokens in (4, 2)]
    return TokenEmbeddings(projector(pixels), masks[0], text, masks[1])


def _run_one_step(plugin: Any, upstream: Upstream, **settings: Any) -> Tuple[TrainingRun, float]:
    """A run of one step with a plugin; returns what was added to a loss of 1."""
    manager = new_manager()
    manager.register(plugin)
    run = TrainingRun(ReGapConfig(0.5, alpha=1.0, **settings), Plugins(manager), upstream)
    run.begin(warmup_steps=0, total_steps=2)
    torch.manual_seed(0)
    projector = nn.Linear(3, 5)
    total = run.add_to_loss(torch.tensor(1.0), _embeddings(projector))
    total.backward()
    assert projector.weight.grad is not None
    assert torch.isfinite(projector.weight.grad).all()
    run.end_step(1)
    return run, total.item() - 1.0


# ---- completeness


def test_there_are_hooks() -> None:
    assert len(HOOKS) >= 4
    assert all(hasattr(hook, "regap_spec") for hook in HOOKS.values())
    assert set(HOOKS) == {name for name in vars(new_manager().hook) if name.startswith("regap_")}, (
        "every regap_ function is a hook, and every hook is one of them"
    )


@pytest.mark.parametrize("name", sorted(HOOKS))
def test_every_hook_has_a_docstring_that_says_when_it_is_called(name: str) -> None:
    text = inspect.getdoc(HOOKS[name]) or ""
    assert "Called " in text
    assert "Args:\n" in text
    for argument in inspect.signature(HOOKS[name]).parameters:
        assert re.search(rf"^    {argument}: ", text, re.MULTILINE), argument


@pytest.mark.parametrize("name", sorted(HOOKS))
def test_every_hook_has_a_test(name: str) -> None:
    tests = [each for each in globals() if each.startswith("test_hook_")]
    assert any(each == f"test_hook_{name}" for each in tests), f"write test_hook_{name}"


@pytest.mark.parametrize("name", sorted(HOOKS))
def test_every_hook_is_in_the_documentation(name: str) -> None:
    arguments = ", ".join(inspect.signature(HOOKS[name]).parameters)
    headings = re.findall(r"^#+ (.*)$", _page(), re.MULTILINE)
    assert f"`{name}({arguments})`" in headings


def test_the_documentation_names_no_hook_that_is_none() -> None:
    named = set(re.findall(r"`(regap_\w+)\(", _page()))
    assert named == set(HOOKS)


@pytest.mark.parametrize("name", sorted(HOOKS))
def test_every_hook_has_an_example(name: str) -> None:
    assert any(f"def {name}(" in code for code in _examples().values()), (
        f"docs/hooks.md: expected a ```python block `# file: NAME.py` with {name}, found none"
    )


# ---- the examples of docs/hooks.md

EXAMPLES = sorted(_examples()) if DOCUMENTATION.is_file() else []


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_a_plugin_that_trains(
    name: str, tmp_path: Path, make_upstream: Callable[[], Any]
) -> None:
    module = _load(name, tmp_path)
    hooks = _hooks_of(module)
    assert hooks, f"{name}: expected a hookimpl of this project"
    run, added = _run_one_step(module, make_upstream())
    _, alone = _run_one_step(ModuleType("empty"), make_upstream())
    if hooks == ["regap_loss_terms"]:
        assert added != pytest.approx(alone), "its term is in the loss"
    else:
        assert added == pytest.approx(alone)
    assert all(math.isfinite(value) for value in run.pop_log().values())
    manager = new_manager()
    manager.register(module)
    plugins = Plugins(manager)
    for loss in set(plugins.loss_names) - set(Plugins(new_manager()).loss_names):
        _, by_name = _run_one_step(module, make_upstream(), loss=loss)
        assert math.isfinite(by_name)
        assert by_name != pytest.approx(alone), f"{loss} is another formula"
    if "regap_register_gap_losses" in hooks:
        assert len(plugins.loss_names) > 3
    if "regap_register_upstreams" in hooks:
        (upstream,) = plugins.upstream_names
        assert isinstance(plugins.upstream(upstream), Upstream)


def test_the_example_of_an_upstream_locates_tokens(tmp_path: Path) -> None:
    (name,) = (name for name, code in _examples().items() if "regap_register_upstreams" in code)
    manager = new_manager()
    manager.register(_load(name, tmp_path))
    plugins = Plugins(manager)
    upstream = plugins.upstream(plugins.upstream_names[0])
    batch = {
        "inputs_embeds": torch.zeros(1, 4, 2),
        "is_image": torch.tensor([[False, True, True, False]]),
        "attention_mask": torch.tensor([[1, 1, 0, 1]]),
    }
    located = upstream.locate_tokens(None, batch)
    assert located.image_mask.tolist() == [[False, True, False, False]]
    assert located.text_mask.tolist() == [[True, False, False, True]]
    upstream.apply()
    upstream.revert()


# ---- one test for each hook


def test_hook_regap_register_gap_losses(make_upstream: Callable[[], Any]) -> None:
    calls: List[int] = []

    class Formulas:
        @hookimpl
        def regap_register_gap_losses(self, register: Callable[..., None]) -> None:
            calls.append(1)
            register("first", lambda embeddings: embeddings.image.sum() * 0 + 3.0)
            register("second", lambda embeddings: embeddings.image.sum() * 0 + 5.0)

    formulas = Formulas()
    _, added = _run_one_step(formulas, make_upstream(), loss="second")
    assert added == pytest.approx(0.5 * 5.0)
    assert calls == [1], "once, when the plugins are loaded"


def test_hook_regap_register_upstreams(make_upstream: Callable[..., Any]) -> None:
    first, second, calls = make_upstream("first"), make_upstream("second"), []

    class Upstreams:
        @hookimpl
        def regap_register_upstreams(self, register: Callable[[Upstream], None]) -> None:
            calls.append(1)
            register(first)
            register(second)

    manager = new_manager()
    manager.register(Upstreams())
    plugins = Plugins(manager)
    assert plugins.upstream_names == ["first", "second"]
    assert plugins.upstream("second") is second
    assert calls == [1]
    assert (first.applied, second.applied) == (0, 0), "registering patches nothing"


def test_hook_regap_loss_terms(make_upstream: Callable[[], Any]) -> None:
    seen: List[TrainingStep] = []

    class Term:
        @hookimpl
        def regap_loss_terms(self, step: TrainingStep) -> LossTerm:
            seen.append(step)
            scalars = {"largest": step.embeddings.image.max()}
            return LossTerm("total", step.embeddings.image.sum(), 2.0, scalars)

    class Nothing:
        @hookimpl
        def regap_loss_terms(self, step: TrainingStep) -> None:
            return None

    run, added = _run_one_step(Term(), make_upstream())
    _, alone = _run_one_step(Nothing(), make_upstream())
    (step,) = seen
    assert step.number == 0
    assert step.lm_loss.item() == 1.0
    assert step.config is run.config
    assert added - alone == pytest.approx(2.0 * step.embeddings.image.sum().item(), rel=1e-5)
    log = run.pop_log()
    assert log["regap/total"] == pytest.approx(step.embeddings.image.sum().item())
    assert log["regap/largest"] == pytest.approx(step.embeddings.image.max().item())
    assert log["regap/weighted"] == pytest.approx(added, rel=1e-5)


def test_hook_regap_on_step(make_upstream: Callable[[], Any]) -> None:
    seen: List[Tuple[int, Mapping[str, float]]] = []

    class Watcher:
        @hookimpl
        def regap_on_step(self, step: int, values: Mapping[str, float]) -> None:
            seen.append((step, dict(values)))

    run, added = _run_one_step(Watcher(), make_upstream())
    ((step, values),) = seen
    assert step == 1
    assert values == run.pop_log()
    assert values["regap/weighted"] == pytest.approx(added, rel=1e-5)

    class Stopper:
        @hookimpl
        def regap_on_step(self, step: int, values: Mapping[str, float]) -> None:
            raise KeyError(f"stop at {step}")

    with pytest.raises(KeyError, match="stop at 1"):
        _run_one_step(Stopper(), make_upstream())


def test_the_hooks_are_named_without_importing_torch(run_python: Callable[..., Any]) -> None:
    code = "import regap_plugin.hookspecs, sys; print('torch' in sys.modules)"
    folder = str(Path(hookspecs.__file__).parents[1])
    done = run_python("-c", f"import sys; sys.path.insert(0, {folder!r}); {code}")
    assert done.stdout == "False\n", done.stderr
