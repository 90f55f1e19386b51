"""`regap-bench align` on ShareGPT4V's checkpoints, loaded by the real checkout before and after.

REGAP_SHARE4V_SRC=path/to/ShareGPT4V pytest tests/benchmarks/test_align_share4v.py
"""

import json

import pytest

from regap_benchmarks import cli

torch = pytest.importorskip("torch", reason="pip install torch")
transformers = pytest.importorskip("transformers", reason="pip install transformers")
Image = pytest.importorskip("PIL.Image", reason="pip install pillow")

from upstream import share4v_source

pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(
        share4v_source.REAL is None or not transformers.__version__.startswith("4.31."),
        reason="the real ShareGPT4V by REGAP_SHARE4V_SRC, with transformers 4.31",
    ),
]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    share4v_source.make_importable()
    from tiny_models.share4v import write_checkpoints

    return write_checkpoints(tmp_path_factory.mktemp("share"))


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    for number in range(12):
        generator = torch.Generator().manual_seed(number)
        pixels = torch.randint(256, (3 * 20 * 20,), generator=generator)
        Image.frombytes("RGB", (20, 20), bytes(pixels.tolist())).save(folder / f"{number:02}.png")
    words = ("red", "circles", "above", "a", "cat", "square", "in", "the", "picture")
    lines = [" ".join(words[(3 * n + i) % 9] for i in range(4 + n % 4)) for n in range(12)]
    (folder / "texts.txt").write_text("\n".join(lines))
    return ["--images", str(folder), "--texts", str(folder / "texts.txt"), "--samples", "12"]


@pytest.mark.parametrize("kind", ["full", "whole", "projector"])
def test_each_shape_keeps_its_shape_and_loses_its_gap(checkpoints, pairs, tmp_path, kind):
    source, output = getattr(checkpoints, kind), tmp_path / "aligned"
    rest = ["--dtype", "float32", "--device", "cpu", *pairs]
    if kind == "projector":
        rest += ["--model-base", str(checkpoints.base)]
    command = ["align", "--model", f"share4v:{source}", "--match", "mean+covariance", *rest]
    assert cli.main([*command, "--output", str(output)]) == 0
    written = {each.name for each in output.iterdir()}
    kept = {each.name for each in source.iterdir()}  # with the folder of a trained tower
    assert written == kept | {"regap_alignment.json"}
    # What was written is shown the same pairs again.
    again = ["align", "--model", f"share4v:{output}", *rest, "--output", str(tmp_path / "again")]
    assert cli.main(again) == 0
    first, second = (
        json.loads((folder / "regap_alignment.json").read_text())["frechet_distance_at_input"]
        for folder in (output, tmp_path / "again")
    )
    assert second["before"] == pytest.approx(first["after"], rel=1e-3)
    assert second["before"] < 0.5 * first["before"]
