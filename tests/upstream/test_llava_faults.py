"""Fail closed, bad data, launchers, reporters and third-party plugins, on the real trainer."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest

pytest.importorskip("llava", reason="the real trainer: pip install llava-torch --no-deps")

from upstream.cases import Case
from upstream.harness import STEPS, Outcome, Workspace, script_path, stage_flags, train

pytestmark = [
    pytest.mark.upstream,
    # torch 2.1 says it of its own torch.load.
    pytest.mark.filterwarnings("ignore:TypedStorage is deprecated:UserWarning"),
]

ON = ["--regap_weight", "0.5"]


def last_line(outcome: Outcome, start: str) -> str:
    lines = [line for line in outcome.output.splitlines() if start in line]
    assert lines, outcome.output[-3000:]
    return lines[-1]


@pytest.mark.parametrize(
    ("name", "stage", "flags", "regap", "expected"),
    [
        (
            "frozen projector",
            2,
            {"freeze_mm_mlp_adapter": "True"},
            ON,
            "expected a trained projector or vision tower, found both frozen",
        ),
        (
            "layer out of range",
            1,
            {},
            [*ON, "--regap_layer", "3"],
            "--regap_layer: expected 0 to 2, the layers of this LLM, found 3",
        ),
        (
            "calibration too long",
            1,
            {},
            [*ON, "--regap_warmup_steps", "6"],
            "alpha: expected a calibration shorter than the run, found 6 of 6 optimizer steps",
        ),
        ("typo", 1, {}, ["--regap_wieght", "0.5"], "Did you mean '--regap_weight'?"),
        (
            "unknown formula",
            1,
            {},
            [*ON, "--regap_loss", "pairwise"],
            "gap loss: expected one of centroid_l2, energy_distance, frechet, info_nce, mmd",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and " " not in value[:4] else None,
)
def test_refused_before_the_first_step(
    workspace: Workspace,
    name: str,
    stage: int,
    flags: Dict[str, str],
    regap: List[str],
    expected: str,
) -> None:
    outcome = train(workspace, Case(name, stage=stage, flags=flags), name.replace(" ", "-"), regap)
    assert outcome.returncode != 0
    assert expected in outcome.output, outcome.output[-3000:]
    assert not outcome.losses or not outcome.losses[0]


def test_an_upstream_of_another_shape_is_refused_before_training(workspace: Workspace) -> None:
    case = Case("shape", options={"fault": "change_the_shape_of_prepare"})
    outcome = train(workspace, case, "shape", ON)
    assert outcome.returncode != 0
    message = last_line(outcome, "UpstreamShapeError")
    assert "prepare_inputs_labels_for_multimodal: expected the parameters (self" in message
    assert "found (self, input_ids, pixel_values)" in message
    assert not outcome.losses[0]


def test_a_patched_forward_that_never_ran_ends_the_run_at_step_one(workspace: Workspace) -> None:
    case = Case("undone", options={"fault": "undo_the_patched_forward"})
    outcome = train(workspace, case, "undone", ON)
    assert outcome.returncode != 0
    message = last_line(outcome, "InactiveRegularizerError")
    assert "expected training forwards through the patched class, found none" in message
    assert len(outcome.losses[0]) == 1


def test_a_gap_that_is_not_finite_on_one_rank_stops_all_ranks(workspace: Workspace) -> None:
    case = Case(
        "nan", launcher="torchrun", options={"fault": "spoil_the_projector_on_the_last_rank"}
    )
    outcome = train(workspace, case, "nan", ON)
    assert outcome.returncode != 0
    assert "regap/gap: expected a finite number, found nan in optimizer step 3" in outcome.output
    # Neither rank went on to a fourth step.
    assert [len(rank) for rank in outcome.losses] == [3, 3]


def test_a_run_that_never_sees_an_image_is_an_error_at_its_first_save(
    workspace: Workspace,
) -> None:
    text_only = rewritten(
        workspace,
        "conversations/conversations.json",
        "text-only",
        lambda samples: [s for s in samples if "image" not in s],
    )
    case = Case("text", stage=2, flags={"data_path": text_only, "save_steps": "3"})
    outcome = train(workspace, case, "text", ON)
    assert outcome.returncode != 0
    assert "expected samples with an image and a caption, found none in 3" in outcome.output
    assert not list(outcome.folder.glob("checkpoint-*"))


def lose_image_tokens(samples: List[Any]) -> List[Any]:
    for sample in samples[::3]:
        turn = sample["conversations"][0]
        turn["value"] = turn["value"].replace("<image>\n", "").replace("\n<image>", "")
    return samples


def empty_answers(samples: List[Any]) -> List[Any]:
    for sample in samples[::3]:
        sample["conversations"] = sample["conversations"][:2]
        sample["conversations"][1]["value"] = ""
    return samples


def separate_modalities(samples: List[Any]) -> List[Any]:
    with_image = [s for s in samples if "image" in s]
    without = [s for s in samples if "image" not in s]
    return without[:4] + with_image[:2] + without[4:6] + with_image[2:] + without[6:]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("image-token-missing", lose_image_tokens),
        ("empty-answers", empty_answers),
        ("batches-without-image", separate_modalities),
    ],
)
def test_odd_data_trains_as_upstream_does(
    workspace: Workspace, name: str, change: Callable[[List[Any]], List[Any]]
) -> None:
    data = rewritten(workspace, "conversations/conversations.json", name, change)
    case = Case(name, stage=2, flags={"data_path": data, "per_device_train_batch_size": "2"})
    plain = train(workspace, case, f"{name}-plain", plain=True)
    assert plain.returncode == 0, plain.output[-3000:]
    measured = train(workspace, case, f"{name}-0", ["--regap_weight", "0"])
    assert measured.losses == plain.losses
    active = train(workspace, case, f"{name}-0.5", ON)
    assert active.returncode == 0, active.output[-3000:]
    assert any(entry.get("regap/weighted", 0) > 0 for entry in active.logs())


def test_an_unreadable_picture_is_upstreams_own_error(workspace: Workspace) -> None:
    def point_to_nothing(samples: List[Any]) -> List[Any]:
        samples[5]["image"] = "no-such-picture.png"
        return samples

    data = rewritten(workspace, "captions/captions.json", "unreadable", point_to_nothing)
    case = Case("unreadable", flags={"data_path": data, "max_steps": "12"})
    plain = train(workspace, case, "unreadable-plain", plain=True)
    active = train(workspace, case, "unreadable-0.5", ON)
    assert plain.returncode == active.returncode != 0
    error = last_line(plain, "Error")
    assert "no-such-picture.png" in error
    assert last_line(active, "Error") == error


@pytest.mark.parametrize(
    "regap",
    [
        ["--regap_loss", "pairwise_squared_l2"],
        ["--regap_loss", "centroid_l2", "--regap_alpha", "0.7"],
        ["--regap_text_tokens", "all", "--regap_layer", "1", "--regap_warmup_steps", "1"],
    ],
    ids=lambda regap: regap[1],
)
def test_settings_reach_the_training_and_its_checkpoint(
    workspace: Workspace, regap: List[str]
) -> None:
    name = f"settings-{regap[1]}"
    outcome = train(workspace, Case(name), name, [*ON, *regap])
    assert outcome.returncode == 0, outcome.output[-3000:]
    config = json.loads((outcome.folder / "config.json").read_text())["regap"]
    state = json.loads((outcome.folder / "regap_state.json").read_text())
    for flag, value in zip(regap[::2], regap[1::2]):
        assert str(state["config"][flag[len("--regap_") :]]) == value
        assert config[flag[len("--regap_") :]] == state["config"][flag[len("--regap_") :]]
    assert state["alpha"] == outcome.logs()[-1]["regap/alpha"] == config["alpha"]
    assert state["training"]["learning_rate"] == 1e-3
    assert f"loss             {state['config']['loss']}" in outcome.output
    inspected = subprocess.run(
        [sys.executable, "-m", "regap_plugin", "inspect", str(outcome.folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert inspected.returncode == 0, inspected.stderr
    assert "regularised with weight 0.5" in inspected.stdout


@pytest.mark.parametrize("launcher", ["python", "torchrun"])
def test_the_launcher_needs_no_pth(workspace: Workspace, launcher: str) -> None:
    """`regap train`: started without site processing, so that only the launcher can arm."""
    folder = workspace.folder / "runs" / f"launcher-{launcher}"
    shutil.rmtree(folder, ignore_errors=True)
    flags = {**stage_flags(1), "output_dir": str(folder.relative_to(workspace.folder))}
    arguments = [word for flag, value in flags.items() for word in (f"--{flag}", value)]
    site = os.pathsep.join(path for path in sys.path if path.endswith("site-packages"))
    python = [sys.executable, "-S", "-m", "regap_plugin", "train"]
    if launcher == "torchrun":
        start = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2"]
        python = [*start, "--master_port=29491", "--no_python", *python]
    done = subprocess.run(
        [*python, str(script_path("train.py")), *arguments, *ON],
        cwd=workspace.folder,
        env={**os.environ, "PYTHONPATH": site, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    state = json.loads((folder / "regap_state.json").read_text())
    assert state["step"] == STEPS
    assert state["alpha"] > 0


def test_tensorboard_shows_the_scalars(workspace: Workspace) -> None:
    pytest.importorskip("tensorboard", reason="pip install tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    case = Case("tensorboard", flags={"report_to": "tensorboard", "logging_dir": "boards"})
    outcome = train(workspace, case, "tensorboard", ON)
    assert outcome.returncode == 0, outcome.output[-3000:]
    events = EventAccumulator(str(workspace.folder / "boards")).Reload()
    shown = [event.value for event in events.Scalars("train/regap/gap")]
    assert shown == pytest.approx([entry["regap/gap"] for entry in outcome.logs()])


def test_a_third_partys_formula_and_term_train(workspace: Workspace, tmp_path: Path) -> None:
    """One small package, found by its entry point, as docs/hooks.md describes."""
    (tmp_path / "toy_terms.py").write_text(
        "from regap_plugin import LossTerm, hookimpl\n"
        "def mean_difference(embeddings):\n"
        "    def largest(v, t):\n"
        "        return (v.mean(0) - t.mean(0)).abs().max()\n"
        "    return embeddings.mean_over_samples(largest)\n"
        "@hookimpl\n"
        "def regap_register_gap_losses(register):\n"
        "    register('mean_difference', mean_difference)\n"
        "@hookimpl\n"
        "def regap_loss_terms(step):\n"
        "    norm = step.embeddings.image[step.embeddings.image_mask].float().norm(dim=1).mean()\n"
        "    return LossTerm('norm', norm, 0.01)\n"
    )
    metadata = tmp_path / "toy_terms-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-terms\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[regap]\ntoy_terms = toy_terms\n")
    case = Case("third party", environment={"PYTHONPATH": str(tmp_path)})
    outcome = train(workspace, case, "third-party", [*ON, "--regap_loss", "mean_difference"])
    assert outcome.returncode == 0, outcome.output[-3000:]
    assert "plugins          toy_terms" in outcome.output
    for entry in outcome.logs()[2:]:
        added = 0.5 * entry["regap/alpha"] * entry["regap/gap"] + 0.01 * entry["regap/norm"]
        assert entry["regap/weighted"] == pytest.approx(added, rel=1e-5)


def rewritten(
    workspace: Workspace, source: str, name: str, change: Callable[[List[Any]], List[Any]]
) -> str:
    """A changed copy of a data file, in the folder of the original; returns its path."""
    path = (workspace.folder / source).with_name(f"{name}.json")
    path.write_text(json.dumps(change(json.loads((workspace.folder / source).read_text()))))
    return str(path.relative_to(workspace.folder))
