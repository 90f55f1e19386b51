"""The benchmarks' hooks: each has an example in docs/benchmark-hooks.md that runs, and a test."""

import importlib.util
import inspect
import re
from pathlib import Path

import pytest

from regap_benchmarks import cli, hookspecs, plugins
from regap_benchmarks.evaluation import RunSettings, generate_run, judge_run
from regap_benchmarks.hookspecs import hookimpl
from regap_benchmarks.plugins import BenchmarkPlugins, PluginError, load_plugins, new_manager
from regap_benchmarks.records import Judgement, read_run
from regap_benchmarks.run_folder import RunFolder
from regap_benchmarks.runners.runner import ModelOptions

PAGE = Path(__file__).parents[2] / "docs" / "benchmark-hooks.md"
HOOKS = [
    name for name, _ in inspect.getmembers(hookspecs, inspect.isfunction) if name[:6] == "regap_"
]
EXAMPLES = {
    "regap_register_benchmarks": "arithmetic",
    "regap_register_judges": "length_judge",
    "regap_register_runners": "echo_runner",
    "regap_register_defences": "asked_twice",
}


def _load(name, folder):
    blocks = re.findall(r"^```python\n# file: (\w+)\.py\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    path = folder / f"{name}.py"
    path.write_text(dict(blocks)[name])
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _plugins(*modules):
    manager = new_manager()
    for module in modules:
        manager.register(module)
    return BenchmarkPlugins(manager)


def _silent(what):
    return lambda done, total: None


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_has_a_heading_with_its_signature_and_an_example(hook, tmp_path):
    arguments = ", ".join(inspect.signature(getattr(hookspecs, hook)).parameters)
    assert f"## `{hook}({arguments})`" in PAGE.read_text()
    assert hasattr(_load(EXAMPLES[hook], tmp_path), hook)
    assert "Called once" in inspect.getdoc(getattr(hookspecs, hook))


def test_the_examples_of_the_page_run_together(tmp_path):
    """An own runner is asked an own set, scored by its own rule; another set by an own judge."""
    found = _plugins(*(_load(name, tmp_path) for name in EXAMPLES.values()))
    folder = RunFolder(tmp_path / "run")
    tasks = [found.benchmarks.get(name) for name in ("arithmetic", "stand_in_requests")]
    defences = [found.defences.get("asked_twice")]
    echo = found.runners.get("echo")
    settings = RunSettings(echo, ModelOptions("any"), tasks, defences=defences)
    assert generate_run(folder, settings, progress=_silent).complete
    done = judge_run(folder, ["length"], found, progress=_silent)
    assert {name: item.judged for name, item in done.items()} == {"arithmetic": 100, "length": 40}
    scores = read_run(folder.judgements("arithmetic"), Judgement)[1]
    # The last number of "What is A + B?" is B, which is the sum for A = 0 only.
    assert sum(item.values["correct"] for item in scores) == 10
    refused = read_run(folder.judgements("length"), Judgement)[1]
    assert all(item.values == {"refused": 1.0} for item in refused)
    header, responses = folder.read_responses()
    assert list(header.settings["defences"]) == ["1 asked_twice"]
    assert {item.cost.calls for item in responses} == {2}
    assert responses[0].text == f"Politely: {responses[0].sample.prompt}"


def test_the_built_in_names():
    found = load_plugins()
    assert {"drawn_questions", "stand_in_requests"} <= set(found.benchmarks.names)
    assert {"fake", "refusal_phrases"} <= set(found.judges.names)
    assert {"fake", "huggingface", "llava"} <= set(found.runners.names)
    assert {"adashield_s", "ecso", "eta"} <= set(found.defences.names)


def test_a_name_that_is_taken_is_refused(tmp_path):
    class Twice:
        @hookimpl
        def regap_register_runners(self, register):
            register(load_plugins().runners.get("fake"))

    with pytest.raises(PluginError, match=r"Runner 'fake': expected a name of its own"):
        _plugins(Twice())


def test_a_misspelt_hook_is_refused():
    class Misspelt:
        @hookimpl
        def regap_register_benchmark(self, register):
            pass

    with pytest.raises(PluginError, match=r"expected hooks of regap_register_benchmarks, .*found"):
        _plugins(Misspelt())


def test_a_plugin_that_cannot_be_imported_is_an_error(monkeypatch):
    def broken(manager, group):
        raise ImportError("no module named my_sets")

    monkeypatch.setattr(plugins.pluggy.PluginManager, "load_setuptools_entrypoints", broken)
    load_plugins.cache_clear()
    with pytest.raises(PluginError, match=r"found ImportError: no module named my_sets"):
        load_plugins()
    load_plugins.cache_clear()


@pytest.mark.parametrize(
    ("words", "nearest"),
    [
        ("tasks drawn_question", "drawn_questions"),
        ("judges refusal_phrase", "refusal_phrases"),
        ("runners hugging", "huggingface"),
        ("defences adashield", "adashield_s"),
        ("generate --model fake:mixed --tasks mme --defence esco --output o", "ecso"),
        ("generate --model lava:x --tasks drawn_questions --output o", "llava"),
        ("generate --model fake:mixed --tasks stand_in --output o", "stand_in_requests"),
        ("run --model fake:mixed --tasks drawn_questions --judge fakes --output o", "fake"),
        ("judge nowhere --judge refusal_phrase", "refusal_phrases"),
    ],
)
def test_a_typo_is_told_the_nearest_name(capsys, tmp_path, monkeypatch, words, nearest):
    monkeypatch.chdir(tmp_path)
    assert cli.main(words.split()) == 2
    assert f"Did you mean {nearest!r}?" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("what", ["tasks", "judges", "runners", "defences"])
def test_the_lists_say_what_each_needs(capsys, what):
    assert cli.main([what]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) >= 2
    assert all("Needs: " in line for line in lines)
    name = lines[0].split()[0]
    assert cli.main([what, name]) == 0
    assert f"name: {name}" in capsys.readouterr().out
