"""Off means off, weight 0 means off, weight 0.5 means L_LM + 0.5 * alpha * L_gap: on real LLaVA."""

import math
from importlib.metadata import version
from typing import Any, Dict

import pytest

pytest.importorskip("llava", reason="the real trainer: pip install llava-torch --no-deps")

import torch
from upstream import reference
from upstream.cases import CASES, Case
from upstream.harness import STEPS, Outcome, Workspace, train
from upstream.outcomes import OutcomeFile

IMAGE_TOKENS = 16

pytestmark = [
    pytest.mark.upstream,
    # torch 2.1 says it of its own torch.load.
    pytest.mark.filterwarnings("ignore:TypedStorage is deprecated:UserWarning"),
]


def _marks(case: Case) -> Any:
    return () if case.representative else pytest.mark.matrix


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=case.name, marks=_marks(case)) for case in CASES]
)
def test_off_is_upstream_and_on_is_not(
    case: Case, workspace: Workspace, outcomes: OutcomeFile
) -> None:
    if case.zero:
        _require_deepspeed()
    result = outcomes.start("llava", case.name)
    plain = _trained(case, workspace, "plain")
    assert plain.notes[0]["no_site"]
    idle = _trained(case, workspace, "idle")
    assert idle.notes[0]["plugin_modules"] in ([], ["regap_plugin", "regap_plugin.activation"])
    _assert_same_training(plain, idle)
    result["no flag"] = "bit-identical"

    measured = _trained(case, workspace, "weight-0", "--regap_weight", "0")
    _assert_same_training(plain, measured)
    assert any("regap/gap" in entry for entry in measured.logs())
    result["weight 0"] = "bit-identical"

    active = _trained(case, workspace, "weight-0.5", "--regap_weight", "0.5")
    assert active.losses != plain.losses
    assert not _same_weights(plain.weights(), active.weights())
    _assert_added(active)
    result["weight 0.5"] = "differs"


@pytest.mark.parametrize("bf16", ["False", "True"])
def test_loss_equals_the_independent_recomputation(
    bf16: str, workspace: Workspace, outcomes: OutcomeFile
) -> None:
    result = outcomes.start("llava", f"recomputed from dumped tensors, bf16 {bf16}")
    case = Case("dumped", flags={"bf16": bf16}, options={"dump": True})
    run = train(workspace, case, f"dumped-{bf16}", ["--regap_weight", "0.5"])
    assert run.returncode == 0, run.output
    batches = reference.read_batches(run.record)
    assert len(batches) == STEPS
    gaps = [
        reference.gap(batch, image_tokens=IMAGE_TOKENS, padding=0, cut=256) for batch in batches
    ]
    lm_losses = [float.fromhex(value) for value in run.lm_losses[0]]
    losses = [float.fromhex(value) for value in run.losses[0]]
    warmup = 2
    alpha = sum(lm_losses[:warmup]) / sum(gaps[:warmup])
    largest = 0.0
    for step, (loss, lm_loss, gap) in enumerate(zip(losses, lm_losses, gaps)):
        expected = lm_loss if step < warmup else lm_loss + 0.5 * alpha * gap
        largest = max(largest, abs(loss - expected) / expected)
        assert loss == pytest.approx(expected, rel=1e-6), f"step {step}"
    for entry, gap in zip(run.logs(), gaps):
        assert entry["regap/gap"] == pytest.approx(gap, rel=1e-6)
    assert run.logs()[-1]["regap/alpha"] == pytest.approx(alpha, rel=1e-6)
    result["weight 0.5"] = f"equal, largest relative difference {largest:.1e}"


def _require_deepspeed() -> None:
    pytest.importorskip("deepspeed", reason="ZeRO: DS_BUILD_OPS=0 pip install deepspeed")
    release = tuple(int(part) for part in version("deepspeed").split(".")[:2])
    if release < (0, 14) and not torch.cuda.is_available():
        pytest.importorskip(
            "intel_extension_for_pytorch",
            reason="DeepSpeed before 0.14 needs it, or a GPU: pip install a newer deepspeed",
        )


def _trained(case: Case, workspace: Workspace, variant: str, *regap: str) -> Outcome:
    name = f"{case.name.replace(' ', '-').replace(',', '')}-{variant}"
    plain = variant == "plain"
    if case.resume:
        # The learning-rate schedule must be that of the whole run, so it is cut by an exception.
        first = train(
            workspace,
            Case(
                **{**case.__dict__, "options": {**case.options, "fault": "stop_after_four_steps"}}
            ),
            name,
            regap,
            plain=plain,
        )
        assert "stopped after four steps" in first.output, first.output
        assert (first.folder / "checkpoint-4").is_dir(), first.output
    outcome = train(workspace, case, name, regap, plain=plain, fresh=not case.resume)
    assert outcome.returncode == 0, outcome.output
    assert len(outcome.losses) == case.processes
    accumulation = int(case.flags.get("gradient_accumulation_steps", "1"))
    expected = 2 if case.resume else STEPS * accumulation
    assert all(len(rank) == expected for rank in outcome.losses)
    return outcome


def _assert_same_training(plain: Outcome, other: Outcome) -> None:
    assert plain.losses == other.losses
    assert [e["loss"] for e in plain.logs()] == [e["loss"] for e in other.logs()]
    assert _same_weights(plain.weights(), other.weights())


def _same_weights(one: Dict[str, torch.Tensor], other: Dict[str, torch.Tensor]) -> bool:
    assert one
    assert one.keys() == other.keys()
    return all(torch.equal(one[name], other[name]) for name in one)


def _assert_added(run: Outcome) -> None:
    """Every rank's loss is its L_LM plus what the log says was added, and alpha is frozen."""
    added = [
        float.fromhex(loss) - float.fromhex(lm_loss)
        for losses, lm_losses in zip(run.losses, run.lm_losses)
        for loss, lm_loss in zip(losses, lm_losses)
    ]
    assert min(added) >= 0
    assert max(added) > 0
    alphas = {entry["regap/alpha"] for entry in run.logs() if "regap/alpha" in entry}
    assert len(alphas) == 1
    assert math.isfinite(alphas.pop())
