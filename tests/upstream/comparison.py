"""What every upstream is held to: off is upstream, weight 0 too, weight 0.5 is what it says."""

import contextlib
import io
import math
from importlib.metadata import version
from typing import Any, Dict, Sequence

import pytest
import torch
from upstream import reference
from upstream.cases import Case
from upstream.harness import STEPS, Outcome, Workspace, train

from regap_plugin import cli

IMAGE_TOKENS = 16
WARMUP = 2


def as_parameters(cases: Sequence[Case]) -> Any:
    """The cases for `parametrize`; all but the representative ones are of the matrix."""
    return [
        pytest.param(case, id=case.name, marks=() if case.representative else pytest.mark.matrix)
        for case in cases
    ]


def require_deepspeed(case: Case) -> None:
    """Skip a case of DeepSpeed where it is not installed or cannot run."""
    if not case.zero:
        return
    pytest.importorskip("deepspeed", reason="ZeRO: DS_BUILD_OPS=0 pip install deepspeed")
    release = tuple(int(part) for part in version("deepspeed").split(".")[:2])
    if release < (0, 14) and not torch.cuda.is_available():
        pytest.importorskip(
            "intel_extension_for_pytorch",
            reason="DeepSpeed before 0.14 needs it, or a GPU: pip install a newer deepspeed",
        )


def check_off_and_on(case: Case, workspace: Workspace, result: Dict[str, str]) -> None:
    """Plain upstream against the plugin without its flag, with weight 0 and with weight 0.5.

    Args:
        case: the training.
        workspace: checkpoints and data.
        result: filled column by column; what stays unfilled failed.
    """
    plain = trained(case, workspace, "plain")
    assert plain.notes[0]["no_site"]
    idle = trained(case, workspace, "idle")
    assert idle.notes[0]["plugin_modules"] in ([], ["regap_plugin", "regap_plugin.activation"])
    _assert_same_training(plain, idle)
    _assert_inspected(idle, 1, "carries no record of ReGap")
    result["no flag"] = "bit-identical"

    measured = trained(case, workspace, "weight-0", "--regap_weight", "0")
    _assert_same_training(plain, measured)
    assert any("regap/gap" in entry for entry in measured.logs())
    _assert_inspected(measured, 0, "the gap was measured, not added")
    result["weight 0"] = "bit-identical"

    active = trained(case, workspace, "weight-0.5", "--regap_weight", "0.5")
    assert active.losses != plain.losses
    assert not same_weights(plain.weights(), active.weights())
    _assert_added(active)
    _assert_inspected(active, 0, "regularised with weight 0.5 and alpha")
    result["weight 0.5"] = "differs"


def check_recomputation(
    case: Case, workspace: Workspace, result: Dict[str, str], *, cut: int, layer: int = 0
) -> None:
    """Every loss of a run against L_LM + 0.5 * alpha * L_gap by plain loops in float64.

    Args:
        case: the training, one process, of `WARMUP` warm-up steps; its driver dumps.
        workspace: checkpoints and data.
        result: its last column is filled.
        cut: tokens at which upstream truncates the merged sequence.
        layer: of the LLM, where the gap is; at 0 no flag is given.
    """
    flags = ["--regap_weight", "0.5", *(["--regap_layer", str(layer)] if layer else [])]
    run = train(workspace, case, _folder(case, "dumped"), flags)
    assert run.returncode == 0, run.output
    batches = reference.read_batches(run.record)
    assert len(batches) == STEPS
    if not layer:
        assert not any("hidden_states" in batch for batch in batches), "layer 0 asks for none"
    gaps = [
        reference.gap(batch, image_tokens=IMAGE_TOKENS, padding=0, cut=cut, layer=layer)
        for batch in batches
    ]
    lm_losses = [float.fromhex(value) for value in run.lm_losses[0]]
    losses = [float.fromhex(value) for value in run.losses[0]]
    alpha = sum(lm_losses[:WARMUP]) / sum(gaps[:WARMUP])
    largest = 0.0
    for step, (loss, lm_loss, gap) in enumerate(zip(losses, lm_losses, gaps)):
        adds = step >= WARMUP and not math.isnan(gap)  # NaN: no sample with an image and labels
        expected = lm_loss + 0.5 * alpha * gap if adds else lm_loss
        largest = max(largest, abs(loss - expected) / expected)
        assert loss == pytest.approx(expected, rel=1e-6), f"step {step}"
    for entry, gap in zip(run.logs(), gaps):
        assert entry.get("regap/gap", math.nan) == pytest.approx(gap, rel=1e-6, nan_ok=True)
    assert run.logs()[-1]["regap/alpha"] == pytest.approx(alpha, rel=1e-6)
    result["weight 0.5"] = f"equal, largest relative difference {largest:.1e}"


def same_weights(one: Dict[str, torch.Tensor], other: Dict[str, torch.Tensor]) -> bool:
    """Whether all tensors are equal bit for bit; the names must be."""
    assert one
    assert one.keys() == other.keys()
    return all(torch.equal(one[name], other[name]) for name in one)


def trained(case: Case, workspace: Workspace, variant: str, *regap: str) -> Outcome:
    """Run a case to its end, through its interruption where it is resumed, and check its shape.

    Args:
        case: the training.
        workspace: checkpoints and data.
        variant: of the folder's name; "plain" is without the plugin.
        regap: the plugin's flags.
    """
    name = _folder(case, variant)
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
    assert all(math.isfinite(float.fromhex(loss)) for rank in outcome.losses for loss in rank)
    return outcome


def _folder(case: Case, variant: str) -> str:
    return f"{case.name.replace(' ', '-').replace(',', '')}-{variant}"


def _assert_same_training(plain: Outcome, other: Outcome) -> None:
    assert plain.losses == other.losses
    assert [e["loss"] for e in plain.logs()] == [e["loss"] for e in other.logs()]
    assert same_weights(plain.weights(), other.weights())


def _assert_inspected(run: Outcome, code: int, words: str) -> None:
    """`regap inspect` says so of what upstream saved."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert cli.main(["inspect", str(run.folder)]) == code
    assert words in out.getvalue()


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
