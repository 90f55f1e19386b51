"""The contract with benchmark plugins: sets, judges, ways to load a model, defences.

A plugin is any module or object with `hookimpl` functions, found by an entry point in the group
`regap.benchmarks`. Examples that run: docs/benchmark-hooks.md.
"""

from typing import TYPE_CHECKING, Callable

import pluggy

if TYPE_CHECKING:
    from regap_benchmarks.benchmark import Benchmark
    from regap_benchmarks.defences.defence import DefenceKind
    from regap_benchmarks.judges.judge import JudgeKind
    from regap_benchmarks.runners.runner import RunnerKind

hookspec = pluggy.HookspecMarker("regap_benchmarks")
hookimpl = pluggy.HookimplMarker("regap_benchmarks")


@hookspec
def regap_register_benchmarks(register: "Callable[[Benchmark], None]") -> None:
    """Called once when the plugins are loaded, to learn of sets of questions.

    :param register: takes a benchmark. A name that is taken is an error.
    """


@hookspec
def regap_register_judges(register: "Callable[[JudgeKind], None]") -> None:
    """Called once when the plugins are loaded, to learn of judges for `--judge`.

    :param register: takes a judge's kind; the judge itself is made when it is used.
    """


@hookspec
def regap_register_runners(register: "Callable[[RunnerKind], None]") -> None:
    """Called once when the plugins are loaded, to learn of runners for `--model KIND:PATH`.

    :param register: takes a runner's kind; a model is loaded when it is used.
    """


@hookspec
def regap_register_defences(register: "Callable[[DefenceKind], None]") -> None:
    """Called once when the plugins are loaded, to learn of defences for `--defence NAME`.

    :param register: takes a defence's kind; it is put around a model when it is used.
    """
