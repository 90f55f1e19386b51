"""Safety fine-tuning through upstream's own train.py, on VLGuard's form with harmless stand-ins."""

import json

import pytest

pytest.importorskip("llava", reason="the real trainer: pip install llava-torch --no-deps")

from upstream.cases import Case
from upstream.harness import Workspace, train

from regap_benchmarks import cli
from regap_benchmarks.runners.llava_checkpoint import find_files, load_llava
from regap_benchmarks.runners.runner import ModelOptions

pytestmark = [
    pytest.mark.upstream,
    # torch and bitsandbytes of upstream's versions, in the process that loads what came out.
    pytest.mark.filterwarnings("ignore"),
]


def _write_vlguard(workspace: Workspace) -> str:
    """A training set of VLGuard's form over the pictures at hand; returns the converted file."""
    folder = workspace.folder / "data" / "vlguard" / "data"
    folder.mkdir(parents=True, exist_ok=True)
    pictures = sorted((workspace.folder / "conversations" / "images").iterdir())
    records = []
    for number, picture in enumerate(pictures[:16]):
        pairs = [{"instruction": "a square?", "response": "a square is no square."}]
        if number % 2:
            pairs = [
                {"safe_instruction": "count.", "response": "two."},
                {"unsafe_instruction": "a circle?", "response": "a circle is no circle."},
            ]
        records.append(
            {
                "id": str(number),
                "image": picture.name,
                "safe": bool(number % 2),
                "instr-resp": pairs,
            }
        )
    (folder / "train.json").write_text(json.dumps(records), encoding="utf-8")
    output = workspace.folder / "data" / "train_llava.json"
    command = ["data", "convert", "vlguard", "--data", str(workspace.folder / "data")]
    assert cli.main([*command, "--output", str(output)]) == 0
    return str(output.relative_to(workspace.folder))


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("LoRA", {"lora_enable": "True", "lora_r": "4", "lora_alpha": "8"}),
        pytest.param("full", {}, marks=pytest.mark.matrix),
    ],
)
def test_upstreams_own_script_trains_on_it(name: str, flags, workspace: Workspace) -> None:
    import torch

    changes = {**flags, "data_path": _write_vlguard(workspace)}
    case = Case(f"safety, {name}", stage=2)
    output = f"llava-safety-{name}" + ("-lora" if flags else "")
    outcome = train(workspace, case, output, changes=changes)
    assert outcome.returncode == 0, outcome.output
    assert len(outcome.logs()) == 6
    again = train(workspace, case, f"{output}-other", changes=flags)
    assert outcome.losses != again.losses  # it was these conversations that were trained on
    base = str(workspace.folder / "language-model") if flags else None
    options = ModelOptions(str(outcome.folder), base=base, dtype="float32")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(workspace.folder)  # the config names the tower by a relative path
        loaded = load_llava(find_files(options), options, torch.float32)
    assert loaded.kind == ("lora" if flags else "full")
