"""Units of long work: each is finished or not, so that work goes on where it was interrupted.

Subprocesses run side by side, as many as there are workers; what runs in this process runs in its
main thread, so that an interruption reaches it at once.
"""

import subprocess
import threading
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, List, Mapping, Sequence, Set, Tuple

Say = Callable[[str], None]
_POLL = 0.5
_SECONDS_TO_END = 10.0


class UnitError(RuntimeError):
    """A unit that failed; the message says why and what to do."""


class Processes:
    """The subprocesses that run now, to be ended together."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: Set[subprocess.Popen[str]] = set()
        self._stopped = False

    def run(
        self,
        command: Sequence[str],
        *,
        folder: Path,
        environment: Mapping[str, str],
        log: Path,
        on_line: Callable[[str], None],
    ) -> int:
        """Run a command to its end, with its output in a file and line by line; its exit status."""
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w", encoding="utf-8") as written:
            process = self._start(command, folder, environment)
            try:
                assert process.stdout is not None
                for line in process.stdout:
                    written.write(line)
                    written.flush()
                    on_line(line)
                return process.wait()
            finally:
                _end(process)
                with self._lock:
                    self._running.discard(process)

    def stop(self) -> None:
        """End all of them, and let none begin."""
        with self._lock:
            self._stopped = True
            running = list(self._running)
        for process in running:
            process.terminate()

    def _start(
        self, command: Sequence[str], folder: Path, environment: Mapping[str, str]
    ) -> "subprocess.Popen[str]":
        with self._lock:
            if self._stopped:
                raise UnitError("Interrupted before it began. Run the same command again.")
            process = subprocess.Popen(
                list(command),
                cwd=folder,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                errors="replace",
            )
            self._running.add(process)
        return process


@dataclass(frozen=True)
class Unit:
    """One piece of work.

    Attributes:
        name: unique.
        requires: names of units that must be finished before.
        is_done: whether an earlier call finished it.
        run: does it; leaves `is_done` true, or raises.
        here: whether it runs in this process, in the main thread.
    """

    name: str
    requires: Tuple[str, ...]
    is_done: Callable[[], bool]
    run: Callable[[Processes, Say], None]
    here: bool = False


def run_units(units: Sequence[Unit], *, workers: int, say: Say) -> None:
    """Run all that is not done, in the order given as far as the requirements allow.

    Args:
        units: with unique names, and requirements among them.
        workers: subprocesses that run at once.
        say: gets a line at a time.

    Raises:
        UnitError: of the unit that failed first; those that run beside it are ended.
        KeyboardInterrupt: passed on, after the subprocesses have ended.
    """
    places = {unit.name: place for place, unit in enumerate(units, start=1)}
    left: Dict[str, Unit] = {}
    for unit in units:
        if unit.is_done():
            say(f"[{places[unit.name]}/{len(units)}] {unit.name}: finished before")
        else:
            left[unit.name] = unit
    processes = Processes()
    running: Dict[Future[float], str] = {}

    def speaker(unit: Unit) -> Say:
        return lambda line: say(f"[{places[unit.name]}/{len(units)}] {unit.name}: {line}")

    def timed(unit: Unit) -> float:
        started = time.monotonic()
        unit.run(processes, speaker(unit))
        return time.monotonic() - started

    with ThreadPoolExecutor(workers) as pool:
        try:
            while left:
                ready = [
                    unit
                    for unit in left.values()
                    if unit.name not in running.values() and not left.keys() & set(unit.requires)
                ]
                for unit in [each for each in ready if not each.here][: workers - len(running)]:
                    speaker(unit)("begins")
                    running[pool.submit(timed, unit)] = unit.name
                here = [each for each in ready if each.here][:1]
                finished: List[Tuple[str, float]] = [(unit.name, timed(unit)) for unit in here]
                if running:
                    pause = 0.0 if here else _POLL
                    done, _ = wait(running, timeout=pause, return_when=FIRST_COMPLETED)
                    finished += [(running.pop(each), each.result()) for each in done]
                for name, seconds in finished:
                    speaker(left.pop(name))(f"finished in {seconds:.0f} s")
        except BaseException:
            processes.stop()
            raise


def _end(process: "subprocess.Popen[str]") -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stdout is not None:
        process.stdout.close()
