"""What the gap loss adds to upstream's training step: time and peak memory.

Builds upstream's own LLaVA with random weights (tiny: the miniature of the demo; 7b: the shapes
of LLaVA-1.5-7B) and times whole stage 1 steps: forward, backward with gradient checkpointing,
AdamW on the projector, and with the plugin also the end of its step and its log. Each repetition
is a block in which every condition has its turn, in an order that rotates: the plugin is started
or reverted, one step is not counted, the next ones are. A condition is compared with the step
without the plugin of the same block, so what drifts slowly cancels; the median of these ratios
comes with a bootstrap interval over the blocks, beside it the fastest steps, which suffer least
from what else runs on the machine. On a GPU the peak memory is that of torch's allocator; on the
CPU it is the sum of the tensors alive, from one profiled step at the end.

    python -m regap_benchmarks.performance.step_overhead
    python -m regap_benchmarks.performance.step_overhead --size 7b --output step-overhead-7b.json
"""

import argparse
import gc
import json
import statistics
import sys
import tempfile
import time
import warnings
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Sequence

from regap_benchmarks.performance.llava_model import (
    SIZES,
    build_model,
    frozen_dtype,
    make_batch,
)
from regap_benchmarks.performance.measurement import (
    CONFIDENCE,
    FAILED,
    INTERRUPTED,
    BenchmarkError,
    check_output,
    describe_environment,
    estimate,
    median_ratio,
    table,
    write_result,
)

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

OFF = "off"
_UPSTREAM = "llava"
_WEIGHT, _ALPHA = 0.5, 1.0
CONDITIONS: Dict[str, Optional[Dict[str, Any]]] = {
    OFF: None,
    "weight 0": {"weight": 0.0, "alpha": _ALPHA},
    "pairwise_l2": {"weight": _WEIGHT, "alpha": _ALPHA, "loss": "pairwise_l2"},
    "pairwise_squared_l2": {"weight": _WEIGHT, "alpha": _ALPHA, "loss": "pairwise_squared_l2"},
    "centroid_l2": {"weight": _WEIGHT, "alpha": _ALPHA, "loss": "centroid_l2"},
}
_DEVICES = {"tiny": "cpu", "7b": "cuda"}
_REPETITIONS = {"tiny": 40, "7b": 12}
_BATCH_SIZE, _TEXT_TOKENS, _TIME_LIMIT = 16, 64, 300.0
_UNCOUNTED_STEPS, _STEPS = 1, 2
_SEED = 0
# So small that the weights stay where they are: every condition computes on the same values.
_LEARNING_RATE = 1e-6


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Attributes:
        size: a name in `SIZES`.
        device: `cpu` or `cuda`.
        batch_size: samples of a step, one image each.
        text_tokens: caption tokens of a sample.
        repetitions: blocks, each with all conditions.
        time_limit: seconds after which no further block begins; the first is always run.
    """

    size: str
    device: str
    batch_size: int
    text_tokens: int
    repetitions: int
    time_limit: float


@dataclass
class Samples:
    """What one condition measured, a row per block.

    Attributes:
        seconds: of each counted step.
        peak_bytes: largest memory during the counted steps; on the CPU one value in all.
        logged: the plugin's log of the last step; empty without it.
    """

    seconds: List[List[float]] = field(default_factory=list)
    peak_bytes: List[int] = field(default_factory=list)
    logged: Dict[str, float] = field(default_factory=dict)

    def medians(self) -> List[float]:
        """Median step of each block, in seconds."""
        return [statistics.median(row) for row in self.seconds]

    def fastest(self) -> float:
        """Fastest step of all blocks, in seconds."""
        return min(min(row) for row in self.seconds)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Measure, print, write; returns 0, 1 (the message is on stderr) or 130 (interrupted)."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    size, repetitions = arguments.size, arguments.repetitions
    settings = Settings(
        size=size,
        device=arguments.device or _DEVICES[size],
        batch_size=arguments.batch_size,
        text_tokens=arguments.text_tokens,
        repetitions=_REPETITIONS[size] if repetitions is None else repetitions,
        time_limit=arguments.time_limit,
    )
    if settings.repetitions < 1:
        parser.error(f"--repetitions: expected 1 or more, found {repetitions}. Measure something.")
    if (settings.size, settings.device) == ("7b", "cpu"):
        parser.error(
            "--size 7b: expected --device cuda, found cpu, where a step takes minutes and 28 GB. "
            "Pass --size tiny, or use a machine with a GPU of 40 GB or more."
        )
    try:
        check_output(arguments.output)
        result = measure(settings)
        print(render(result))
        if arguments.output:
            write_result(arguments.output, result)
    except (BenchmarkError, ValueError) as error:
        print(f"step_overhead: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("step_overhead: interrupted, nothing was written.", file=sys.stderr)
        return INTERRUPTED
    return 0


def measure(settings: Settings) -> Dict[str, Any]:
    """Time the steps of all conditions.

    Returns:
        JSON values; times in seconds, memory in bytes.

    Raises:
        BenchmarkError: torch, the GPU, LLaVA or the plugin's patch of it is missing, or the GPU's
            memory is too small.
        ValueError: a batch that the model cannot take.
    """
    started = time.monotonic()
    device_name = _check_device(settings.device)
    environment = describe_environment(device_name)
    import torch

    sizes = SIZES[settings.size]
    batch = make_batch(
        sizes,
        batch_size=settings.batch_size,
        text_tokens=settings.text_tokens,
        device=settings.device,
        seed=_SEED,
    )
    torch.manual_seed(_SEED)
    try:
        with warnings.catch_warnings():
            # Upstream turns checkpointing on in the vision tower too, which has no gradient.
            warnings.filterwarnings("ignore", message="None of the inputs have requires_grad")
            model = build_model(sizes, settings.device)
            training = _Training(model, batch, settings.device, _find_upstream())
            built = time.monotonic()
            samples = _measure_blocks(training, settings, started)
    except torch.cuda.OutOfMemoryError as error:
        raise BenchmarkError(
            f"{device_name}: expected room for batches of {settings.batch_size}, found "
            f"{str(error).splitlines()[0]} Lower --batch-size or --text-tokens."
        ) from error
    return {
        "benchmark": "step_overhead",
        "environment": {
            **environment,
            "torch_threads": torch.get_num_threads(),
            "cuda": torch.version.cuda,
        },
        "settings": {
            **asdict(settings),
            "model": {**asdict(sizes), "image_tokens": sizes.image_tokens},
            "frozen_dtype": str(frozen_dtype(settings.device)),
            "attention": getattr(model.config, "_attn_implementation", None),
            "learning_rate": _LEARNING_RATE,
            "seed": _SEED,
            "uncounted_steps_of_a_turn": _UNCOUNTED_STEPS,
            "steps_of_a_turn": _STEPS,
            "confidence": CONFIDENCE,
        },
        "seconds_to_build": built - started,
        "seconds_in_all": time.monotonic() - started,
        "blocks_measured": len(samples[OFF].seconds),
        "memory": _MEMORY[settings.device],
        "conditions": {name: _summary(name, samples) for name in CONDITIONS},
    }


def render(result: Mapping[str, Any]) -> str:
    """The result of `measure` for a terminal."""
    settings, environment = result["settings"], result["environment"]
    model = settings["model"]
    lines = [
        f"{settings['size']}, batch {settings['batch_size']} x ({model['image_tokens']} image + "
        f"{settings['text_tokens']} text tokens), hidden {model['hidden']}, "
        f"{model['layers']} layers, {settings['frozen_dtype']}, on {environment['device']}",
        f"{result['blocks_measured']} of {settings['repetitions']} blocks within "
        f"{result['seconds_in_all']:.0f} s; memory: {result['memory']}",
        "",
    ]
    percent = f"{settings['confidence']:.0%} interval"
    rows = [
        ["condition", "median ms", "added", percent, "fastest ms", "added", "peak MiB", "added"]
    ]
    for name, each in result["conditions"].items():
        ratio = each["ratio_to_off"]
        added = interval = fastest_added = peak_added = ""
        if ratio is not None:
            added = f"{ratio['value'] - 1:+.2%}"
            interval = f"{ratio['low'] - 1:+.2%} to {ratio['high'] - 1:+.2%}"
            fastest_added = f"{each['fastest_ratio_to_off'] - 1:+.2%}"
            peak_added = f"{each['peak_ratio_to_off'] - 1:+.2%}"
        median, fastest = each["median_seconds"] * 1e3, each["fastest_seconds"] * 1e3
        peak = max(each["peak_bytes"]) / 2**20
        row = [name, f"{median:.2f}", added, interval, f"{fastest:.2f}", fastest_added]
        rows.append([*row, f"{peak:.2f}", peak_added])
    return "\n".join([*lines, table(rows)])


class _Training:
    """One model, optimizer and batch, stepped with or without the plugin.

    Args:
        model: upstream's.
        batch: its inputs.
        device: `cpu` or `cuda`.
        upstream: the patch, from the plugin manager.
    """

    def __init__(self, model: Any, batch: "Dict[str, Tensor]", device: str, upstream: Any) -> None:
        import torch

        self._model = model
        self._batch = batch
        self._device = device
        self._upstream = upstream
        trained = [each for each in model.parameters() if each.requires_grad]
        self._optimizer: Optimizer = torch.optim.AdamW(trained, lr=_LEARNING_RATE)

    def turn(self, config: Optional[Dict[str, Any]], samples: Samples) -> None:
        """Start the plugin, or not; step; revert. Adds a row to the samples."""
        with_plugin = config is not None
        try:
            if with_plugin:
                self._start(config)
            for number in range(1, _UNCOUNTED_STEPS + 1):
                self._step(number)
            self._reset_peak()
            row = []
            for number in range(_UNCOUNTED_STEPS + 1, _UNCOUNTED_STEPS + _STEPS + 1):
                self._synchronize()
                started = time.perf_counter()
                samples.logged = self._step(number)
                self._synchronize()
                row.append(time.perf_counter() - started)
            samples.seconds.append(row)
            samples.peak_bytes += self._peak()
        finally:
            if with_plugin:
                self._upstream.revert()

    def profiled_peak(self, config: Optional[Dict[str, Any]]) -> int:
        """Largest sum in bytes of the tensors alive during a step on the CPU."""
        from torch.profiler import ProfilerActivity, profile

        try:
            if config is not None:
                self._start(config)
            self._step(1)
            gc.collect()
            at_start = self._resident_bytes()
            with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
                self._step(2)
        finally:
            if config is not None:
                self._upstream.revert()
        with tempfile.TemporaryDirectory() as folder:
            trace = Path(folder, "trace.json")
            profiler.export_chrome_trace(str(trace))
            events = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
        return at_start + _largest_sum(events)

    def _start(self, config: Optional[Mapping[str, Any]]) -> None:
        from regap_plugin.config import ReGapConfig

        self._upstream.start(ReGapConfig.from_mapping(config or {}))
        self._upstream.run.begin(warmup_steps=0)

    def _step(self, number: int) -> Dict[str, float]:
        import torch

        mixed = self._device == "cuda"
        with torch.autocast(self._device, dtype=torch.bfloat16, enabled=mixed):
            loss = self._model(**self._batch).loss
        loss.backward()
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        run = self._upstream.run
        if run is None:
            return {}
        run.end_step(number)
        logged: Dict[str, float] = run.pop_log()
        return logged

    def _synchronize(self) -> None:
        import torch

        if self._device == "cuda":
            torch.cuda.synchronize()

    def _reset_peak(self) -> None:
        import torch

        if self._device == "cuda":
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()

    def _peak(self) -> List[int]:
        import torch

        return [torch.cuda.max_memory_allocated()] if self._device == "cuda" else []

    def _resident_bytes(self) -> int:
        states = [
            value
            for state in self._optimizer.state.values()
            for value in state.values()
            if hasattr(value, "untyped_storage")
        ]
        tensors = [*self._model.parameters(), *self._model.buffers(), *states]
        tensors += self._batch.values()
        storages = {each.untyped_storage().data_ptr(): each for each in tensors}
        return sum(each.untyped_storage().nbytes() for each in storages.values())


_MEMORY = {
    "cuda": "torch.cuda.max_memory_allocated during the counted steps",
    "cpu": "tensors alive, from one profiled step; the interpreter and its libraries not counted",
}


def _measure_blocks(training: _Training, settings: Settings, started: float) -> Dict[str, Samples]:
    uncounted = {name: Samples() for name in CONDITIONS}
    samples = {name: Samples() for name in CONDITIONS}
    _block(training, 0, uncounted)
    longest = 0.0
    for block in range(settings.repetitions):
        now = time.monotonic()
        if block and now + longest > started + settings.time_limit:
            break
        _block(training, block, samples)
        longest = max(longest, time.monotonic() - now)
    if settings.device == "cpu":
        for name, config in CONDITIONS.items():
            samples[name].peak_bytes.append(training.profiled_peak(config))
    return samples


def _block(training: _Training, number: int, samples: Mapping[str, Samples]) -> None:
    names = list(CONDITIONS)
    first = number % len(names)
    order = [*names[first:], *names[:first]]
    if number % 2:
        order.reverse()  # by rotation alone each condition would always follow the same one
    gc.collect()
    for name in order:
        training.turn(CONDITIONS[name], samples[name])


def _summary(name: str, samples: Mapping[str, Samples]) -> Dict[str, Any]:
    own, off = samples[name], samples[OFF]
    blocks = list(zip(off.medians(), own.medians()))
    return {
        "settings": CONDITIONS[name],
        "median_seconds": statistics.median(value for row in own.seconds for value in row),
        "fastest_seconds": own.fastest(),
        "ratio_to_off": None if name == OFF else asdict(estimate(blocks, median_ratio)),
        "fastest_ratio_to_off": own.fastest() / off.fastest(),
        "peak_ratio_to_off": max(own.peak_bytes) / max(off.peak_bytes),
        "step_seconds": [[round(value, 7) for value in row] for row in own.seconds],
        "peak_bytes": own.peak_bytes,
        "logged_in_the_last_step": own.logged,
    }


def _largest_sum(events: Sequence[Mapping[str, Any]]) -> int:
    """Peak in bytes, above the start, of a trace's allocations and frees on the CPU."""
    changes = [event for event in events if event.get("name") == "[memory]"]
    if not changes:
        raise BenchmarkError(
            "torch.profiler: expected memory events, found none. Use a build of torch with Kineto."
        )
    total = largest = 0
    for event in sorted(changes, key=lambda event: float(event["ts"])):
        total += int(event["args"]["Bytes"])
        largest = max(largest, total)
    return largest


def _check_device(device: str) -> Optional[str]:
    try:
        import torch
    except ImportError as error:
        raise BenchmarkError(
            f"torch: expected an installed torch, found {error}. Install the one that your "
            "upstream asks for."
        ) from error
    if device == "cpu":
        return None
    if not torch.cuda.is_available():
        raise BenchmarkError(
            f"--device cuda: expected a GPU that torch {torch.__version__} can use, found none. "
            "Pass --device cpu with --size tiny, or look at `nvidia-smi`."
        )
    return torch.cuda.get_device_name()


def _find_upstream() -> Any:
    from regap_plugin.errors import ReGapError
    from regap_plugin.plugins import load_plugins

    try:
        return load_plugins().upstream(_UPSTREAM)
    except (ReGapError, ValueError) as error:
        raise BenchmarkError(
            f"Patch of {_UPSTREAM}: expected it among the installed plugins, found: {error} "
            "`pip install regap-plugin` anew: its entry points name the patch."
        ) from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m regap_benchmarks.performance.step_overhead",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--size", choices=sorted(SIZES), default="tiny", help="of the model (default: %(default)s)"
    )
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), help="default: cpu for tiny, cuda for 7b"
    )
    parser.add_argument(
        "--batch-size",
        type=int,
        default=_BATCH_SIZE,
        metavar="N",
        help="samples of a step, one image each (default: %(default)s)",
    )
    parser.add_argument(
        "--text-tokens",
        type=int,
        default=_TEXT_TOKENS,
        metavar="N",
        help="caption tokens of a sample (default: %(default)s)",
    )
    parser.add_argument(
        "--repetitions",
        type=int,
        metavar="N",
        help=f"blocks of {_STEPS} counted steps of every condition (default: "
        f"{_REPETITIONS['tiny']} for tiny, {_REPETITIONS['7b']} for 7b)",
    )
    parser.add_argument(
        "--time-limit",
        type=float,
        default=_TIME_LIMIT,
        metavar="SECONDS",
        help="no further block begins if it would end later (default: %(default)s)",
    )
    parser.add_argument("--output", type=Path, metavar="FILE.json", help="file for the result")
    return parser


if __name__ == "__main__":
    sys.exit(main())
