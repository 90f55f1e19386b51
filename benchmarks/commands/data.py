"""`regap-bench data check|fetch|convert NAME --data DIR`: the official files of a set."""

import argparse
import json
from pathlib import Path
from typing import List

from regap_benchmarks.benchmark import Benchmark
from regap_benchmarks.commands.command import (
    DONE,
    FAILED,
    WRONG_USAGE,
    Commands,
    complain,
    say,
)
from regap_benchmarks.plugins import BenchmarkPlugins, PluginError, load_plugins
from regap_plugin.config import unknown_name


def add(commands: Commands) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "data",
        help="get and check the official files of a set",
        description="The project ships no requests: it gets them from their official places, and"
        " says whether a folder holds what was published.",
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    check = actions.add_parser(
        "check",
        help="say what is wrong with the files",
        description="Compare files, columns, counts, hashes and pictures with what is known of the"
        " set. Exit status 0: all as published; 1: not, and standard error says what.",
    )
    fetch = actions.add_parser(
        "fetch",
        help="get the files from their official place",
        description="Get what the licence lets anyone have, check it against what is known, and"
        " say what is left to do by hand. What is there already is not fetched again, and files"
        " of others are not overwritten.",
    )
    _add_convert(actions)
    for action in (check, fetch):
        action.add_argument("name", metavar="NAME", help="a task or a set; see regap-bench tasks")
        action.add_argument(
            "--data", type=Path, required=True, metavar="DIR", help="folder of all sets"
        )
    fetch.add_argument(
        "--accept-licence",
        action="store_true",
        help="fetch a set that asks for terms of its own; read them first, tasks NAME names them",
    )
    check.set_defaults(run=_check)
    fetch.set_defaults(run=_fetch)


def _add_convert(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    convert = actions.add_parser(
        "convert",
        help="write training data in LLaVA's form",
        description="Write VLGuard's training set as conversations for LLaVA's own train.py, as"
        " its authors do, and mix in others.",
    )
    convert.add_argument("name", choices=("vlguard",))
    convert.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="with vlguard/data/train.json"
    )
    convert.add_argument("--output", type=Path, required=True, metavar="FILE.json")
    convert.add_argument(
        "--mix", type=Path, metavar="FILE.json", help="conversations of which some are mixed in"
    )
    convert.add_argument(
        "--mix-number",
        type=int,
        default=5000,
        metavar="N",
        help="how many (default: %(default)s, as VLGuard's authors)",
    )
    convert.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of order and draw (default: %(default)s)"
    )
    convert.set_defaults(run=_convert)


def tasks_named(plugins: BenchmarkPlugins, name: str) -> List[Benchmark]:
    """The task of that name, or all tasks of the set of that name.

    Raises:
        ValueError: there is neither, or the task needs no files.
    """
    known = [plugins.benchmarks.get(task) for task in plugins.benchmarks.names]
    official = [task for task in known if task.facts is not None]
    named = [task for task in official if task.name == name]
    plain = name.replace("_", "-")
    named = named or [task for task in official if task.facts and task.facts.folder == plain]
    if not named:
        options = {task.name for task in official}
        options |= {task.facts.folder for task in official if task.facts}
        raise ValueError(unknown_name("set", name, options))
    return named


def _named(arguments: argparse.Namespace) -> List[Benchmark]:
    try:
        return tasks_named(load_plugins(), arguments.name)
    except (ValueError, PluginError) as error:
        complain(f"regap-bench data {arguments.action}: {error}")
        return []


def _check(arguments: argparse.Namespace) -> int:
    named = _named(arguments)
    return _say_checked(named, arguments.data) if named else WRONG_USAGE


def _say_checked(named: List[Benchmark], data: Path) -> int:
    from regap_benchmarks.official.check import check_files

    problems = False
    for task in named:
        try:
            checked = check_files(task, data)
        except ModuleNotFoundError as error:
            complain(f"regap-bench data check: {error}")
            return FAILED
        for text in (*checked.problems, *checked.doubts):
            complain(f"{task.name}: {text}")
        problems = problems or bool(checked.problems)
        if not checked.problems:
            doubts = len(checked.doubts)
            noted = f"; {doubts} counts differ that were never verified" if doubts else ""
            say(f"{task.name}: {checked.samples} samples, as published{noted}")
    return FAILED if problems else DONE


def _fetch(arguments: argparse.Namespace) -> int:
    from regap_benchmarks.official.fetch import FetchError, fetch_files

    named = _named(arguments)
    if not named:
        return WRONG_USAGE
    try:
        notes = fetch_files(
            [task.facts for task in named if task.facts],
            arguments.data,
            accepted=arguments.accept_licence,
            say=say,
        )
    except (FetchError, OSError) as error:
        complain(f"regap-bench data fetch: {error}")
        return FAILED
    status = _say_checked(named, arguments.data)
    for note in notes:
        say(note)
    return status


def _convert(arguments: argparse.Namespace) -> int:
    from regap_benchmarks.official.file_entries import SetFolder
    from regap_benchmarks.training.vlguard_conversations import mixed, vlguard_conversations

    try:
        path = SetFolder(arguments.data, "vlguard").file("data/train.json", "train.json")
        conversations = vlguard_conversations(path, seed=arguments.seed)
        if arguments.mix is not None:
            others = json.loads(arguments.mix.read_text(encoding="utf-8"))
            conversations = mixed(conversations, others, arguments.mix_number, seed=arguments.seed)
        text = json.dumps(conversations, indent=2, ensure_ascii=False) + "\n"
        arguments.output.write_text(text, encoding="utf-8")
    except (ValueError, OSError) as error:
        complain(f"regap-bench data convert: {error}")
        return FAILED
    say(f"{arguments.output}: {len(conversations)} conversations")
    return DONE
