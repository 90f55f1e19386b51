"""What needs an NVIDIA GPU: LLaVA in bf16 and QLoRA (`--bits 4`, `--bits 8`), by its own train.py.

    pytest -m gpu tests/gpu

No bit-identity is asked for here: kernels may differ from run to run. The first loss, before any
weight has moved, has to agree; the rest within a tolerance.
"""

import pytest

torch = pytest.importorskip("torch", reason="pip install torch")
pytest.importorskip("llava", reason="the real trainer: pip install llava-torch --no-deps")

from upstream.cases import Case
from upstream.conftest import workspace  # noqa: F401 - a fixture
from upstream.harness import STEPS, Workspace, train

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]

_LORA = {"lora_enable": "True", "lora_r": "4", "lora_alpha": "8", "bf16": "True"}
CASES = (
    Case("stage 1, bf16", flags={"bf16": "True"}, device="cuda"),
    Case("stage 2, bf16", stage=2, flags={"bf16": "True"}, device="cuda"),
    Case("stage 2, QLoRA 4 bit", stage=2, flags={**_LORA, "bits": "4"}, device="cuda"),
    Case("stage 2, QLoRA 8 bit", stage=2, flags={**_LORA, "bits": "8"}, device="cuda"),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_weight_zero_measures_and_a_weight_adds(case: Case, workspace: Workspace) -> None:  # noqa: F811
    if "bits" in case.flags:
        pytest.importorskip("bitsandbytes", reason="QLoRA: pip install bitsandbytes")
    name = case.name.replace(" ", "-").replace(",", "")
    plain = train(workspace, case, f"gpu-{name}-plain", plain=True)
    assert plain.returncode == 0, plain.output[-3000:]
    measured = train(workspace, case, f"gpu-{name}-0", ["--regap_weight", "0"])
    assert measured.returncode == 0, measured.output[-3000:]
    losses = [[float.fromhex(loss) for loss in run.losses[0]] for run in (plain, measured)]
    assert losses[0][0] == losses[1][0]
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)
    active = train(workspace, case, f"gpu-{name}-0.5", ["--regap_weight", "0.5"])
    assert active.returncode == 0, active.output[-3000:]
    entries = active.logs()
    assert len(entries) == STEPS
    for entry in entries[2:]:
        expected = 0.5 * entry["regap/alpha"] * entry["regap/gap"]
        assert entry["regap/weighted"] == pytest.approx(expected, rel=1e-4)
