"""Checkpoint files: which layer is the projector's last, and what a copy changes."""

import json
import os

import pytest

torch = pytest.importorskip("torch", reason="pip install torch")
save_file = pytest.importorskip("safetensors.torch", reason="pip install safetensors").save_file

from regap_benchmarks.alignment import projector_files
from regap_benchmarks.alignment.affine_map import AffineMap
from regap_benchmarks.alignment.projector_files import (
    find_last_linear,
    folded_tensors,
    write_copy,
)

D, M = 6, 4


def _random(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def _mlp(prefix, dtype=torch.float32):
    """As `mlp2x_gelu` is saved: two linear layers around an activation."""
    return {
        f"{prefix}.0.weight": _random(D, M, seed=1, dtype=dtype),
        f"{prefix}.0.bias": _random(D, seed=2, dtype=dtype),
        f"{prefix}.2.weight": _random(D, D, seed=3, dtype=dtype),
        f"{prefix}.2.bias": _random(D, seed=4, dtype=dtype),
    }


MAP = AffineMap(_random(D, D, seed=8).double(), _random(D, seed=9).double())


def _load(file):
    if file.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(file)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    ("file", "prefix"),
    [
        ("mm_projector.bin", "model.mm_projector"),
        ("non_lora_trainables.bin", "base_model.model.model.mm_projector"),
        ("pytorch_model.bin", "model.mm_projector"),
        ("model.safetensors", "model.mm_projector"),
    ],
)
def test_the_last_layer_is_found_and_it_alone_changes(tmp_path, file, prefix, dtype):
    source, output = tmp_path / "a", tmp_path / "b"
    source.mkdir()
    weights = {**_mlp(prefix, dtype), "model.layers.0.weight": _random(3, 3, dtype=dtype)}
    (save_file if file.endswith("safetensors") else torch.save)(weights, source / file)
    (source / "config.json").write_text("{}")
    last = find_last_linear(source, D)
    assert (last.weight, last.bias) == (f"{prefix}.2.weight", f"{prefix}.2.bias")
    assert last.files == (file,)
    tensors, rounding = folded_tensors(last, MAP)
    assert rounding < {torch.float32: 1e-7, torch.bfloat16: 4e-3, torch.float16: 5e-4}[dtype]
    write_copy(last, tensors, output)
    assert {each.name for each in output.iterdir()} == {file, "config.json"}
    found = _load(output / file)
    assert list(found) == sorted(weights) or list(found) == list(weights)
    for name, before in weights.items():
        assert found[name].dtype is dtype
        if name not in (last.weight, last.bias):
            assert torch.equal(found[name], before)
    inputs = _random(5, D, seed=5).double()
    outputs = inputs @ weights[last.weight].double().T + weights[last.bias].double()
    folded = inputs @ found[last.weight].double().T + found[last.bias].double()
    error = (folded - MAP.apply(outputs)).norm() / folded.norm()
    assert error < {torch.float32: 1e-6, torch.bfloat16: 1e-2, torch.float16: 1e-3}[dtype]
    assert _load(source / file)[last.bias].equal(weights[last.bias]), "the original stays"


def test_shards_are_rewritten_only_where_the_layer_lies(tmp_path):
    source, output = tmp_path / "a", tmp_path / "b"
    source.mkdir()
    mlp = _mlp("model.mm_projector")
    shards = {
        "model-00001-of-00003.safetensors": {"model.embed_tokens.weight": _random(9, D)},
        "model-00002-of-00003.safetensors": {
            name: each for name, each in mlp.items() if name.endswith("weight")
        },
        "model-00003-of-00003.safetensors": {
            **{name: each for name, each in mlp.items() if name.endswith("bias")},
            "model.image_newline": _random(D, seed=6),
        },
    }
    for name, tensors in shards.items():
        save_file(tensors, source / name, metadata={"format": "pt"})
    index = {"weight_map": {key: name for name, held in shards.items() for key in held}}
    (source / "model.safetensors.index.json").write_text(json.dumps(index))
    last = find_last_linear(source, D)
    assert last.files == tuple(shards)[1:]
    assert last.newlines == ("model.image_newline",)
    tensors, _ = folded_tensors(last, MAP)
    write_copy(last, tensors, output)
    first, second, third = (output / name for name in shards)
    assert first.read_bytes() == (source / first.name).read_bytes()
    assert not _load(second)[last.weight].equal(mlp[last.weight])
    newline = _load(third)["model.image_newline"].double()
    wanted = MAP.apply(shards[third.name]["model.image_newline"][None])[0]
    torch.testing.assert_close(newline, wanted, rtol=1e-6, atol=1e-6)
    from safetensors import safe_open

    with safe_open(second, framework="pt") as held:
        assert held.metadata() == {"format": "pt"}, "transformers asks for it"


def test_the_projector_of_transformers_and_a_linear_one(tmp_path):
    for prefix, wanted in (
        ("multi_modal_projector.linear", "multi_modal_projector.linear_2.weight"),
        ("model.multi_modal_projector.linear", "model.multi_modal_projector.linear_2.weight"),
    ):
        mlp = {
            f"{prefix}_{number}.{kind}": _random(*((D, D) if kind == "weight" else (D,)))
            for number in (1, 2)
            for kind in ("weight", "bias")
        }
        save_file(mlp, tmp_path / "model.safetensors")
        assert find_last_linear(tmp_path).weight == wanted
    (tmp_path / "model.safetensors").unlink()
    linear = {"model.mm_projector.weight": _random(D, M), "model.mm_projector.bias": _random(D)}
    torch.save(linear, tmp_path / "mm_projector.bin")
    assert find_last_linear(tmp_path).weight == "model.mm_projector.weight"
    deep = {**_mlp("model.mm_projector"), "model.mm_projector.10.weight": _random(D, D)}
    torch.save({**deep, "model.mm_projector.10.bias": _random(D)}, tmp_path / "mm_projector.bin")
    assert find_last_linear(tmp_path).weight == "model.mm_projector.10.weight", "by number"


def test_what_a_training_leaves_is_not_copied_and_links_are_followed(tmp_path):
    source, output = tmp_path / "a", tmp_path / "b"
    source.mkdir()
    torch.save(_mlp("model.mm_projector"), source / "mm_projector.bin")
    for name in ("optimizer.pt", "rng_state_0.pth", "trainer_state.json", "training_args.bin"):
        (source / name).write_bytes(b"x")
    for name in ("checkpoint-2", "mm_projector", ".cache", "vision_tower"):
        (source / name).mkdir()
        (source / name / "pytorch_model.bin").write_bytes(b"x")
    (tmp_path / "blob").write_text("{}")
    os.symlink(tmp_path / "blob", source / "config.json")
    last = find_last_linear(source)
    write_copy(last, folded_tensors(last, MAP)[0], output)
    kept = {"mm_projector.bin", "config.json", "vision_tower"}
    assert {each.name for each in output.iterdir()} == kept
    assert (output / "vision_tower" / "pytorch_model.bin").is_file()
    assert not (output / "config.json").is_symlink()


def test_copies_that_differ_are_refused(tmp_path):
    mlp = _mlp("model.mm_projector")
    torch.save(mlp, tmp_path / "mm_projector.bin")
    save_file(mlp, tmp_path / "model.safetensors")
    assert len(find_last_linear(tmp_path).files) == 2
    save_file({**mlp, "model.mm_projector.2.bias": _random(D)}, tmp_path / "model.safetensors")
    with pytest.raises(
        ValueError, match=r"expected the same .*2.bias as in the other weight files"
    ):
        find_last_linear(tmp_path)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"model.layers.0.weight": _random(2, 2)}, "expected a linear layer under mm_projector"),
        ({"model.mm_projector.0.weight": _random(D, M)}, "expected a bias beside model.mm_proj"),
        (
            {
                "model.mm_projector.0.weight": torch.zeros(D, M, dtype=torch.uint8),
                "model.mm_projector.0.bias": _random(D),
            },
            "as a matrix of floating point .* found torch.uint8",
        ),
        (
            {"model.mm_projector.0.weight": _random(D), "model.mm_projector.0.bias": _random(D)},
            r"found torch.float32 \[6\] and \[6\]",
        ),
        (
            {"model.mm_projector.0.weight": _random(9, M), "model.mm_projector.0.bias": _random(9)},
            "expected 6 rows in model.mm_projector.0.weight, .* found 9",
        ),
    ],
)
def test_what_cannot_be_folded_into_is_refused(tmp_path, weights, message):
    torch.save(weights, tmp_path / "mm_projector.bin")
    with pytest.raises(ValueError, match=message):
        find_last_linear(tmp_path, D)


def test_damaged_files_and_missing_folders_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected the folder of a checkpoint"):
        find_last_linear(tmp_path / "none")
    (tmp_path / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ValueError, match=r"model.safetensors: expected weights, found"):
        find_last_linear(tmp_path)


def test_a_full_disk_is_said_before_copying(tmp_path, monkeypatch):
    torch.save(_mlp("model.mm_projector"), tmp_path / "mm_projector.bin")
    last = find_last_linear(tmp_path)
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr(projector_files.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(OSError, match=r"of free space for the copy, found 0\.0 GB"):
        write_copy(last, folded_tensors(last, MAP)[0], tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())
