"""Off means off, weight 0 means off, weight 0.5 means L_LM + 0.5 * alpha * L_gap: on real LLaVA."""

import pytest

pytest.importorskip("llava", reason="the real trainer: pip install llava-torch --no-deps")

from upstream.cases import CASES, Case
from upstream.comparison import (
    as_parameters,
    check_off_and_on,
    check_recomputation,
    require_deepspeed,
)
from upstream.harness import Workspace
from upstream.outcomes import OutcomeFile

pytestmark = [
    pytest.mark.upstream,
    # torch 2.1 says it of its own torch.load.
    pytest.mark.filterwarnings("ignore:TypedStorage is deprecated:UserWarning"),
]


@pytest.mark.parametrize("case", as_parameters(CASES))
def test_off_is_upstream_and_on_is_not(
    case: Case, workspace: Workspace, outcomes: OutcomeFile
) -> None:
    require_deepspeed(case)
    check_off_and_on(case, workspace, outcomes.start("llava", case.name))


@pytest.mark.parametrize("bf16", ["False", "True"])
def test_loss_equals_the_independent_recomputation(
    bf16: str, workspace: Workspace, outcomes: OutcomeFile
) -> None:
    name = f"recomputed from dumped tensors, bf16 {bf16}"
    case = Case(name, flags={"bf16": bf16}, options={"dump": True})
    check_recomputation(case, workspace, outcomes.start("llava", name), cut=256)
