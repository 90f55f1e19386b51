"""`--regap_layer k` on real LLaVA: the loss and its gradient, through gradient checkpoints too."""

import json

import pytest

torch = pytest.importorskip("torch", reason="the real trainer: pip install torch")
pytest.importorskip("llava", reason="the real trainer: pip install llava-torch --no-deps")

from upstream import reference
from upstream.cases import Case
from upstream.comparison import IMAGE_TOKENS, as_parameters, same_weights, trained
from upstream.harness import STEPS, Workspace
from upstream.layer_reference import projector_gradients

from regap_plugin.cli import main

pytestmark = [
    pytest.mark.upstream,
    pytest.mark.filterwarnings("ignore:TypedStorage is deprecated:UserWarning"),
]

ALPHA, WEIGHT = 2.0, 0.5
CHECKPOINTED = {"gradient_checkpointing": "True"}
CASES = (
    Case("layer 1"),
    Case(
        "layer 1, reentrant",
        flags=CHECKPOINTED,
        options={"use_reentrant": True},
        representative=True,
    ),
    Case(
        "layer 1, not reentrant",
        flags=CHECKPOINTED,
        options={"use_reentrant": False},
        representative=True,
    ),
    Case("layer 2, reentrant", flags=CHECKPOINTED, options={"use_reentrant": True}),
)


@pytest.mark.parametrize("case", as_parameters(CASES))
def test_loss_and_gradient_are_those_of_the_recomputation(
    case: Case, workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    layer = int(case.name.split()[1].rstrip(","))
    dumping = Case(
        **{**case.__dict__, "options": {**case.options, "dump": True, "gradients": True}}
    )
    flags = ["--regap_weight", str(WEIGHT), "--regap_alpha", str(ALPHA), "--regap_layer"]
    run = trained(dumping, workspace, "recomputed", *flags, str(layer))

    batches = reference.read_batches(run.record)
    assert len(batches) == STEPS
    assert len({len(row) for batch in batches for row in batch["input_ids"]}) > 1, "padding differs"
    for number, batch in enumerate(batches):
        found = {
            at: reference.gap(batch, image_tokens=IMAGE_TOKENS, padding=0, cut=256, layer=at)
            for at in (0, 1, 2)
        }
        lm_loss = float.fromhex(run.lm_losses[0][number])
        expected = lm_loss + WEIGHT * ALPHA * found[layer]
        assert float.fromhex(run.losses[0][number]) == pytest.approx(expected, rel=1e-6)
        assert len({round(value, 4) for value in found.values()}) == 3, "the layers differ"

    gradients = torch.load(run.record / "rank0-gradients_0.pt", weights_only=True)
    wanted, without = (
        projector_gradients(
            workspace.folder, batches[0], layer=layer, factor=factor, image_tokens=IMAGE_TOKENS
        )
        for factor in (WEIGHT * ALPHA, 0.0)
    )
    assert set(gradients) == set(wanted)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, wanted[name], rtol=1e-4, atol=1e-6)
        share = (wanted[name] - without[name]).norm() / wanted[name].norm()
        assert share > 0.01, f"the gap has a part in the gradient of {name}"

    assert f"layer            {layer}" in run.output
    for file in ("regap_state.json", "config.json"):
        record = json.loads((run.folder / file).read_text())
        assert (record["config"] if file == "regap_state.json" else record["regap"])[
            "layer"
        ] == layer
    assert main(["inspect", str(run.folder)]) == 0
    assert f"loss pairwise_l2, at layer {layer}" in capsys.readouterr().out


def test_weight_zero_at_a_later_layer_is_upstream(workspace: Workspace) -> None:
    case = CASES[1]
    plain = trained(case, workspace, "plain")
    measured = trained(case, workspace, "zero", "--regap_weight", "0", "--regap_layer", "2")
    assert measured.losses == plain.losses
    assert same_weights(plain.weights(), measured.weights())
    assert all("regap/gap" in entry for entry in measured.logs())
