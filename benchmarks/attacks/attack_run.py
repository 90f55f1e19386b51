"""An attack on every picture of some tasks: `attack.jsonl` and a folder of pictures, resumable.

A picture is on the disk before its record; a kill loses the picture that was under way, no other.
"""

import hashlib
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Dict, Optional, Sequence

from regap_benchmarks.attacks.pgd import PgdSettings, attack_picture
from regap_benchmarks.attacks.target_loss import as_picture
from regap_benchmarks.benchmark import Benchmark
from regap_benchmarks.environment import environment
from regap_benchmarks.pictures import render
from regap_benchmarks.record_file import RecordFile
from regap_benchmarks.records import AttackedPicture, Json, Sample
from regap_benchmarks.run_plan import header_for, plan_samples
from regap_benchmarks.runners.runner import ModelOptions, Request, Runner, RunnerKind

RECORDS, PICTURES = "attack.jsonl", "pictures"
# A beginning that helps and says nothing of what.
TARGET = "Sure, here is"


@dataclass(frozen=True)
class AttackRun:
    """What `regap-bench attack` does.

    Attributes:
        runner: the way to load the model.
        options: the checkpoint and how it is loaded; not quantized.
        benchmarks: tasks whose requests are attacked.
        conditions: picture conditions; none: as each set gives it.
        target: how the answer is to begin.
        pgd: numbers of the attack.
        limit: the first so many requests of each task.
        data: folder of the official files.
    """

    runner: RunnerKind
    options: ModelOptions
    benchmarks: Sequence[Benchmark]
    conditions: Sequence[str] = ()
    target: str = TARGET
    pgd: PgdSettings = field(default_factory=PgdSettings)
    limit: Optional[int] = None
    data: Optional[Path] = None

    def describe(self) -> Dict[str, Json]:
        """What decides the pictures, beside the model."""
        return {
            **self.pgd.describe(),
            "target": self.target,
            "runner": self.runner.name,
            "dtype": self.options.dtype,
            "tasks": {benchmark.name: benchmark.version for benchmark in self.benchmarks},
            "pictures": list(self.conditions) or None,
            "limit": self.limit,
        }


@dataclass(frozen=True)
class AttackSummary:
    """What `attack_run` did.

    Attributes:
        asked: pictures of all.
        found: of them, those of an earlier call.
        loss_before, loss_saved: means over all, in nats a token.
    """

    asked: int
    found: int
    loss_before: float
    loss_saved: float


def attack_run(
    folder: Path, run: AttackRun, *, progress: Callable[[int, int], None]
) -> AttackSummary:
    """Attack every sample that the folder does not hold yet.

    Raises:
        ValueError: a sample without exactly one picture; a quantized model; what `target_loss`
            and `attack_picture` refuse.
        FileNotFoundError: a file of a benchmark is missing.
        MissingRequirementError: this environment cannot run the model.
        RecordFileError: the folder holds another attack.
    """
    _check(run)
    run.runner.check(run.options)
    samples = plan_samples(
        run.benchmarks, conditions=run.conditions, limit=run.limit, data=run.data
    )
    _check_pictures(samples)
    runner = run.runner.load(run.options)
    try:
        header = header_for(
            samples,
            settings={**run.describe(), "model": dict(runner.describe())},
            environment={
                **environment(),
                "model_path": run.options.path,
                **runner.environment(),
            },
        )
        (folder / PICTURES).mkdir(parents=True, exist_ok=True)
        with RecordFile(folder / RECORDS, AttackedPicture, header) as file:
            done = {record.key: record for record in file.records}
            found = len(done)
            progress(found, len(samples))
            for sample in samples:
                if sample.key not in done:
                    done[sample.key] = _attack(folder, run, runner, sample)
                    file.append([done[sample.key]])
                    progress(len(done), len(samples))
    finally:
        runner.close()
    records = list(done.values())
    return AttackSummary(
        asked=len(samples),
        found=found,
        loss_before=sum(record.loss_before for record in records) / len(records),
        loss_saved=sum(record.loss_saved for record in records) / len(records),
    )


def _attack(folder: Path, run: AttackRun, runner: Runner, sample: Sample) -> AttackedPicture:
    started = time.perf_counter()
    request = Request(
        f"{sample.task}/{sample.id}",
        sample.prompt,
        (render(sample.pictures[0], run.data),),
        sample.system,
    )
    target = runner.target_loss(request, run.target)
    digest = hashlib.sha256(f"{run.pgd.seed}/{request.id}".encode()).digest()
    result = attack_picture(target, run.pgd, int.from_bytes(digest[:8], "big") >> 1)
    name = hashlib.sha256(request.id.encode()).hexdigest()[:16]
    path = Path(PICTURES) / f"{name}.png"
    new = folder / PICTURES / f"{name}.{os.getpid()}.new"
    as_picture(result.pixels).save(new, format="PNG")
    os.replace(new, folder / path)
    return AttackedPicture(
        task=sample.task,
        id=sample.id,
        picture=path.as_posix(),
        picture_sha256=hashlib.sha256((folder / path).read_bytes()).hexdigest(),
        target_tokens=target.target_tokens,
        loss_before=result.loss_before,
        loss_found=result.loss_found,
        loss_saved=result.loss_saved,
        restart=result.restart,
        step=result.step,
        largest_change=round(float((result.pixels - target.start).abs().max()) * 255),
        seconds=time.perf_counter() - started,
    )


def _check(run: AttackRun) -> None:
    described = run.options.quantization.describe()
    if described.get("kind") != "Quantization":
        raise ValueError(
            f"--quantization: expected none, found {described['kind']}. The gradient is checked for"
            " weights that are not quantized only: attack those, and ask the quantized checkpoint"
            " with the pictures."
        )


def _check_pictures(samples: Sequence[Sample]) -> None:
    for sample in samples:
        if len(sample.pictures) != 1 or sample.earlier_turns:
            raise ValueError(
                f"Sample {sample.id!r} of {sample.task!r}: expected one picture and one turn, found"
                f" {len(sample.pictures)} and {1 + len(sample.earlier_turns)}. Choose a task with"
                " pictures, or --picture blank."
            )
