"""Units: what waits for what, what is kept, how a failure and an interruption end the others."""

import os
import sys
import time

import pytest

from regap_benchmarks.miniature.units import Processes, Unit, UnitError, run_units


class Book:
    """Units that write down when they run."""

    def __init__(self):
        self.done = set()
        self.order = []

    def unit(self, name, *requires, here=False, fail=None):
        def run(processes, say):
            assert set(requires) <= self.done
            self.order.append(name)
            say("works")
            if fail is not None:
                raise fail
            self.done.add(name)

        return Unit(name, requires, lambda: name in self.done, run, here=here)


def _run(units, workers=2):
    said = []
    run_units(units, workers=workers, say=said.append)
    return said


def test_what_is_required_comes_before():
    book = Book()
    units = [book.unit("c", "a", "b", here=True), book.unit("a"), book.unit("b", "a")]
    said = _run(units)
    assert book.order == ["a", "b", "c"]
    assert any(line == "[2/3] a: works" for line in said)


def test_what_is_done_is_not_done_again():
    book = Book()
    book.done.add("a")
    said = _run([book.unit("a"), book.unit("b", "a")])
    assert book.order == ["b"]
    assert said[0] == "[1/2] a: finished before"


def test_a_failure_ends_the_processes_beside_it(tmp_path):
    started = tmp_path / "started"

    def sleep(processes, say):
        code = f"import pathlib, time; pathlib.Path({str(started)!r}).touch(); time.sleep(60)"
        processes.run(
            [sys.executable, "-c", code],
            folder=tmp_path,
            environment=os.environ,
            log=tmp_path / "log",
            on_line=lambda line: None,
        )

    def fail(processes, say):
        while not started.exists():
            time.sleep(0.01)
        raise UnitError("out of luck")

    began = time.monotonic()
    units = [
        Unit("sleep", (), lambda: False, sleep),
        Unit("fail", (), lambda: False, fail, here=True),
    ]
    with pytest.raises(UnitError, match="out of luck"):
        _run(units)
    assert time.monotonic() - began < 50


def test_an_interruption_reaches_the_caller_and_the_rest_goes_on_later():
    book = Book()
    units = [book.unit("a", here=True), book.unit("b", "a", here=True, fail=KeyboardInterrupt())]
    with pytest.raises(KeyboardInterrupt):
        _run(units)
    assert book.done == {"a"}
    _run([book.unit("a", here=True), book.unit("b", "a", here=True)])
    assert book.order == ["a", "b", "b"]


def test_output_goes_to_the_log_and_line_by_line_to_the_caller(tmp_path):
    lines = []
    code = Processes().run(
        [sys.executable, "-c", "print('one'); print('two'); raise SystemExit(3)"],
        folder=tmp_path,
        environment=os.environ,
        log=tmp_path / "logs" / "x.log",
        on_line=lines.append,
    )
    assert code == 3
    assert lines == ["one\n", "two\n"]
    assert (tmp_path / "logs" / "x.log").read_text() == "one\ntwo\n"


def test_nothing_begins_after_a_stop(tmp_path):
    processes = Processes()
    processes.stop()
    with pytest.raises(UnitError, match="Interrupted"):
        processes.run(
            [sys.executable, "-c", ""],
            folder=tmp_path,
            environment=os.environ,
            log=tmp_path / "log",
            on_line=lambda line: None,
        )
