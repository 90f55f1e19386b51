"""`--regap_mir_every` on real LLaVA: bit for bit the training without it, and the right number."""

from dataclasses import replace

import pytest

pytest.importorskip("llava", reason="the real trainer: pip install llava-torch --no-deps")
pytest.importorskip("numpy", reason="the reference of these tests is written in it")

from upstream.cases import CASES, Case
from upstream.comparison import as_parameters, trained
from upstream.harness import Workspace, train
from upstream.watching import assert_same, check_the_number, check_watching

pytestmark = [
    pytest.mark.upstream,
    # torch 2.1 says it of its own torch.load.
    pytest.mark.filterwarnings("ignore:TypedStorage is deprecated:UserWarning"),
]

REPRESENTATIVE = ("stage 1, torchrun",)
WATCHED = tuple(
    replace(case, representative=case.name in REPRESENTATIVE)
    for case in CASES
    if case.name
    in (
        *REPRESENTATIVE,
        "stage 1, fp32",
        "stage 1, torchrun, ZeRO-3",
        "stage 2, LoRA, gradient checkpointing",
        "stage 1, bf16, gradient checkpointing, accumulation",
        "stage 1, data workers",
        "stage 1, torchrun, ZeRO-2, bf16, gradient checkpointing",
        "stage 2, text-only and picture samples",
        "stage 2, torchrun, ZeRO-3",
        "stage 2, resumed",
    )
)


@pytest.mark.parametrize("case", as_parameters(WATCHED))
def test_a_watched_training_is_the_same(case: Case, workspace: Workspace) -> None:
    check_watching(case, workspace)


@pytest.mark.parametrize("bf16", ["False", pytest.param("True", marks=pytest.mark.matrix)])
def test_the_number_is_that_of_the_definition(bf16: str, workspace: Workspace) -> None:
    case = Case(f"measured from dumped states, bf16 {bf16}", flags={"bf16": bf16})
    check_the_number(replace(case, options={"dump": True}), workspace, cut=256)


@pytest.mark.matrix
@pytest.mark.parametrize("launcher", ["python", "torchrun"])
def test_an_evaluation_set_gives_the_batch(launcher: str, workspace: Workspace) -> None:
    case = Case("held out", stage=2, launcher=launcher)
    fault = {"fault": "evaluate_on_the_last_samples"}
    plain = trained(case, workspace, f"{launcher}-plain")
    on = ("--regap_weight", "0", "--regap_mir_every", "2")
    watched = trained(replace(case, options=fault), workspace, f"{launcher}-held-out", *on)
    other = trained(case, workspace, f"{launcher}-not-held-out", *on)
    assert "MIR              every 2 optimizer steps, on a held-out batch" in watched.output
    assert_same(plain, watched)
    numbers = [[e["regap/mir"] for e in r.logs() if "regap/mir" in e] for r in (watched, other)]
    assert len(numbers[0]) == len(numbers[1]) == 3
    assert not set(numbers[0]) & set(numbers[1])


@pytest.mark.matrix
def test_tensorboard_shows_it(workspace: Workspace) -> None:
    pytest.importorskip("tensorboard", reason="one of the trainer's reporters")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    flags = {"report_to": "tensorboard", "logging_dir": "runs/mir-tensorboard/events"}
    case = Case("tensorboard", flags=flags)
    on = ["--regap_weight", "0", "--regap_mir_every", "3"]
    run = train(workspace, case, "mir-tensorboard", on)
    assert run.returncode == 0, run.output
    events = EventAccumulator(str(workspace.folder / flags["logging_dir"])).Reload()
    shown = [(event.step, event.value) for event in events.Scalars("train/regap/mir")]
    logged = [(e["step"], e["regap/mir"]) for e in run.logs() if "regap/mir" in e]
    assert [step for step, _ in logged] == [3, 6]
    assert shown == [(step, pytest.approx(value, rel=1e-6)) for step, value in logged]
