"""Off means off, weight 0.5 means L_LM + 0.5 * alpha * L_gap: on ShareGPT4V or its stand-in.

REGAP_SHARE4V_SRC=path/to/ShareGPT4V pytest tests/upstream/test_share4v.py
"""

import json
from dataclasses import replace
from typing import Dict

import pytest

pytest.importorskip("torch", reason="pip install torch")

import torch
from upstream import share4v_source
from upstream.cases import Case
from upstream.comparison import (
    as_parameters,
    check_off_and_on,
    check_recomputation,
    require_deepspeed,
)
from upstream.harness import Workspace, train
from upstream.outcomes import OutcomeFile
from upstream.share4v_cases import CASES, REAL_CASES, WHOLE
from upstream.watching import check_the_number, check_watching

pytestmark = pytest.mark.upstream

NO_CUT = 10**6  # upstream does not truncate what it has merged
TABLE = "model.embed_tokens.weight"


def result_of(case: str, outcomes: OutcomeFile) -> Dict[str, str]:
    """Only runs of the real code are recorded."""
    if share4v_source.REAL is None:
        return {}
    return outcomes.start("share4v", case, share4v_source.commit())


@pytest.mark.parametrize("case", as_parameters(CASES))
def test_off_is_upstream_and_on_is_not(
    case: Case, share4v_workspace: Workspace, outcomes: OutcomeFile
) -> None:
    require_deepspeed(case)
    check_off_and_on(case, share4v_workspace, result_of(case.name, outcomes))


@pytest.mark.skipif(share4v_source.REAL is None, reason="the stand-in has no part in it")
@pytest.mark.parametrize("case", as_parameters(REAL_CASES))
def test_off_is_upstream_and_on_is_not_where_the_stand_in_is_silent(
    case: Case, share4v_workspace: Workspace, outcomes: OutcomeFile
) -> None:
    require_deepspeed(case)
    check_off_and_on(case, share4v_workspace, result_of(case.name, outcomes))


@pytest.mark.parametrize(
    ("name", "stage", "flags"),
    [
        pytest.param("projector, fp32", 1, {}, marks=pytest.mark.matrix),
        pytest.param("whole model, fp32", 1, {**WHOLE, "bf16": "False"}, marks=pytest.mark.matrix),
        ("whole model, bf16", 1, WHOLE),
        ("stage 2, bf16", 2, {"bf16": "True"}),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_loss_equals_the_independent_recomputation(
    name: str,
    stage: int,
    flags: Dict[str, str],
    share4v_workspace: Workspace,
    outcomes: OutcomeFile,
) -> None:
    name = f"recomputed from dumped tensors, {name}"
    # A float16 tower that is trained becomes NaN: see share4v_cases.py.
    options = {"dump": True, "no_half": "tune_entire_model" in flags}
    case = Case(name, stage=stage, flags=flags, options=options, package="share4v")
    check_recomputation(case, share4v_workspace, result_of(name, outcomes), cut=NO_CUT)


def test_a_later_layer_is_recomputed_through_gradient_checkpoints(
    share4v_workspace: Workspace,
) -> None:
    case = Case(
        "layer 1, gradient checkpointing",
        flags={"gradient_checkpointing": "True"},
        options={"dump": True},
        package="share4v",
    )
    check_recomputation(case, share4v_workspace, {}, cut=NO_CUT, layer=1)


def test_the_gradient_reaches_the_embedding_table_only_when_asked(
    share4v_workspace: Workspace,
) -> None:
    on = ["--regap_weight", "0.5", "--regap_alpha", "1.0"]
    case = Case("detach", flags={**WHOLE, "warmup_steps": "0"}, package="share4v")
    runs = {
        detach: train(
            share4v_workspace, case, f"detach-{detach}", [*on, "--regap_detach_text", detach]
        )
        for detach in ("True", "False")
    }
    for detach, run in runs.items():
        assert run.returncode == 0, run.output
        state = json.loads((run.folder / "regap_state.json").read_text())
        assert str(state["config"]["detach_text"]) == detach
        assert state["training"]["tune_entire_model"] is True
    # The loss of the first step is of the same weights; only its gradient differs.
    assert runs["True"].losses[0][0] == runs["False"].losses[0][0]
    assert runs["True"].losses[0][1:] != runs["False"].losses[0][1:]
    tables = [
        next(tensor for name, tensor in run.weights().items() if name.endswith(TABLE))
        for run in runs.values()
    ]
    assert not torch.equal(*tables)
    assert "with gradient" in runs["False"].output
    # What it does: the table moves towards the image tokens as well.
    gaps = {detach: run.logs()[-1]["regap/gap"] for detach, run in runs.items()}
    assert gaps["False"] < gaps["True"]


@pytest.mark.matrix
def test_a_frozen_embedding_table_is_not_reached(share4v_workspace: Workspace) -> None:
    on = ["--regap_weight", "0.5", "--regap_detach_text"]
    case = Case("frozen", package="share4v")
    runs = [train(share4v_workspace, case, f"frozen-{d}", [*on, d]) for d in ("True", "False")]
    assert all(run.returncode == 0 for run in runs), runs[0].output + runs[1].output
    assert runs[0].losses == runs[1].losses


@pytest.mark.parametrize(
    "case",
    as_parameters(
        [
            replace(case, representative=case.name == "stage 1, projector, torchrun")
            for case in CASES
            if case.name
            in (
                "stage 1, projector, torchrun",
                "stage 1, whole model, ZeRO-2, gradient checkpointing",
                "stage 1, whole model, float32, ZeRO-3",
                "stage 2, text-only and picture samples",
            )
        ]
    ),
)
def test_a_watched_training_is_the_same(case: Case, share4v_workspace: Workspace) -> None:
    check_watching(case, share4v_workspace)


def test_the_watched_number_is_that_of_the_definition(share4v_workspace: Workspace) -> None:
    case = Case("measured from dumped states", options={"dump": True}, package="share4v")
    check_the_number(case, share4v_workspace, cut=NO_CUT)
