"""Gap losses between sets of tokens in real trainings of LLaVA: in bf16, through checkpoints."""

import pytest

torch = pytest.importorskip("torch", reason="the real trainer: pip install torch")
pytest.importorskip("llava", reason="the real trainer: pip install llava-torch --no-deps")

from upstream.cases import Case
from upstream.comparison import same_weights, trained
from upstream.harness import STEPS, Workspace

pytestmark = [
    pytest.mark.upstream,
    pytest.mark.filterwarnings("ignore:TypedStorage is deprecated:UserWarning"),
]

FLAGS = {"bf16": "True", "gradient_checkpointing": "True"}
NAMES = ("energy_distance", "frechet", "info_nce", "mmd", "sliced_wasserstein")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name == "frechet" else pytest.mark.matrix, id=name)
        for name in NAMES
    ],
)
def test_it_is_calibrated_added_and_trains_another_model(name: str, workspace: Workspace) -> None:
    case = Case("losses", flags=FLAGS)
    measured = trained(case, workspace, f"{name}-0", "--regap_weight", "0", "--regap_loss", name)
    run = trained(case, workspace, name, "--regap_weight", "1", "--regap_loss", name)
    assert f"loss             {name}" in run.output
    first, second, *rest = run.logs()
    assert len(rest) == STEPS - 2
    calibrated = (first["regap/lm_loss"] + second["regap/lm_loss"]) / (
        first["regap/gap"] + second["regap/gap"]
    )
    for entry in rest:
        assert entry["regap/alpha"] == pytest.approx(calibrated, rel=1e-5)
        assert entry["regap/weighted"] == pytest.approx(calibrated * entry["regap/gap"], rel=1e-5)
    assert not same_weights(measured.weights(), run.weights())
    last = [outcome.logs()[-1]["regap/gap"] for outcome in (measured, run)]
    assert last[1] < last[0], "with it the gap is smaller than without"


def test_drawing_lines_changes_nothing_at_weight_zero(workspace: Workspace) -> None:
    case = Case("losses", flags=FLAGS)
    plain = trained(case, workspace, "plain")
    flags = ("--regap_weight", "0", "--regap_loss", "sliced_wasserstein")
    measured = trained(case, workspace, "lines-0", *flags)
    assert measured.losses == plain.losses
    assert same_weights(plain.weights(), measured.weights())
    assert measured.random_states == plain.random_states
    gaps = [entry["regap/gap"] for entry in measured.logs()]
    assert len(gaps) == STEPS
    assert min(gaps) > 0
