"""`regap-bench tasks|judges|runners|defences [NAME]`: what is there, and what each needs."""

import argparse
from typing import Dict, List, Optional

from regap_benchmarks.commands.command import DONE, WRONG_USAGE, Commands, complain, say
from regap_benchmarks.judges.judge import JudgeCard
from regap_benchmarks.judges.judge_options import flag
from regap_benchmarks.plugins import BenchmarkPlugins, PluginError, load_plugins
from regap_benchmarks.runners.runner import MissingRequirementError, ModelOptions


def add(commands: Commands) -> None:
    """Add the commands to the command line."""
    for name, what in (
        ("tasks", "sets of questions"),
        ("judges", "judges of answers"),
        ("runners", "ways to load a model"),
        ("defences", "defences at inference"),
    ):
        parser = commands.add_parser(name, help=f"list the {what}", description=f"The {what}.")
        parser.add_argument("name", nargs="?", metavar="NAME", help="all that is known of one")
        parser.set_defaults(run=_list, what=name)


def _list(arguments: argparse.Namespace) -> int:
    try:
        facts = _facts(arguments.what, load_plugins(), arguments.name)
    except (ValueError, PluginError) as error:
        complain(f"regap-bench {arguments.what}: {error}")
        return WRONG_USAGE
    if arguments.name:
        for fact, value in facts[0].items():
            say(f"{fact}: {value}")
        return DONE
    width = max(len(fact["name"]) for fact in facts)
    for item in facts:
        say(f"{item['name']:<{width}}  {item['summary']}. Needs: {item['needs']}.{_more(item)}")
    return DONE


def _facts(what: str, plugins: BenchmarkPlugins, name: Optional[str]) -> List[Dict[str, str]]:
    if what == "tasks":
        return [_task(plugins, item) for item in _chosen(plugins.benchmarks.names, name)]
    if what == "judges":
        return [_judge(plugins, item) for item in _chosen(plugins.judges.names, name)]
    if what == "defences":
        return [_defence(plugins, item) for item in _chosen(plugins.defences.names, name)]
    return [_runner(plugins, item) for item in _chosen(plugins.runners.names, name)]


def _more(item: Dict[str, str]) -> str:
    return f" Costs: {item['costs']}. Source: {item['source']}." if "costs" in item else ""


def _chosen(names: List[str], name: Optional[str]) -> List[str]:
    return names if name is None else [name]


def _task(plugins: BenchmarkPlugins, name: str) -> Dict[str, str]:
    task = plugins.benchmarks.get(name)
    return {
        "name": task.name,
        "summary": task.summary,
        "needs": task.needs,
        "kind": task.kind,
        "scored by": "its own rules" if task.scorer() else "--judge",
        "version": str(task.version),
        "source": task.source,
        **(task.facts.lines() if task.facts else {}),
    }


def _judge(plugins: BenchmarkPlugins, name: str) -> Dict[str, str]:
    judge = plugins.judges.get(name)
    return {
        "name": judge.name,
        "summary": judge.summary,
        "needs": judge.needs,
        "source": judge.source,
        "options": ", ".join(map(flag, judge.options)) or "none",
        **_card(judge.card),
    }


def _card(card: Optional[JudgeCard]) -> Dict[str, str]:
    if card is None:
        return {}
    return {name.replace("_", " "): str(value) for name, value in vars(card).items()}


def _runner(plugins: BenchmarkPlugins, name: str) -> Dict[str, str]:
    runner = plugins.runners.get(name)
    try:
        runner.check(ModelOptions(path=""))
        here = "yes"
    except MissingRequirementError as error:
        here = f"no. {error}"
    return {
        "name": runner.name,
        "summary": runner.summary,
        "needs": runner.needs,
        "runs here": here,
    }


def _defence(plugins: BenchmarkPlugins, name: str) -> Dict[str, str]:
    defence = plugins.defences.get(name)
    try:
        defence.check()
        here = "yes"
    except MissingRequirementError as error:
        here = f"no. {error}"
    return {
        "name": defence.name,
        "summary": defence.summary,
        "needs": defence.needs,
        "costs": defence.cost,
        "source": defence.source,
        "runs here": here,
    }
