"""`regap-bench align` on tiny models: what it writes, and `regap-bench gap` sees it."""

import importlib.util
import json
from pathlib import Path

import pytest

from regap_benchmarks import cli
from regap_benchmarks.gap import huggingface_states, llava_states
from regap_benchmarks.runners import huggingface

torch = pytest.importorskip("torch", reason="pip install torch")
transformers = pytest.importorskip("transformers", reason="pip install transformers")
Image = pytest.importorskip("PIL.Image", reason="pip install pillow")
for package in ("matplotlib", "tabulate"):
    pytest.importorskip(package, reason='pip install "regap-plugin[eval]"')
pytestmark = pytest.mark.filterwarnings("ignore")

needs_llava = pytest.mark.skipif(
    importlib.util.find_spec("llava") is None,
    reason="the real LLaVA: pip install --no-deps llava-torch==1.2.2.post1",
)
needs_transformers_5 = pytest.mark.skipif(
    int(transformers.__version__.split(".")[0]) < huggingface.FIRST_TRANSFORMERS,
    reason="needs transformers 5",
)
WORDS = ("a", "red", "square", "two", "blue", "circles", "above", "the", "green", "triangle", "in")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Sixteen pictures of different content with a text each."""
    folder = tmp_path_factory.mktemp("pairs")
    images = folder / "images"
    images.mkdir()
    entries = []
    for number in range(16):
        generator = torch.Generator().manual_seed(number)
        pixels = torch.randint(256, (3 * 20 * 20,), generator=generator)
        Image.frombytes("RGB", (20, 20), bytes(pixels.tolist())).save(images / f"{number}.png")
        said = [WORDS[(number * 5 + 3 * i) % len(WORDS)] for i in range(6 + number % 4)]
        entries.append({"image": f"{number}.png", "text": " ".join(said)})
    (folder / "texts.json").write_text(json.dumps(entries))
    return ["--images", str(images), "--texts", str(folder / "texts.json"), "--samples", "16"]


@pytest.fixture(scope="module")
def huggingface_checkpoint(tmp_path_factory):
    from tiny_models.image_text import write_llava

    return write_llava(tmp_path_factory.mktemp("tiny") / "llava")


@pytest.fixture(scope="module")
def llava_checkpoints(tmp_path_factory):
    from tiny_models.llava import write_checkpoints

    return write_checkpoints(tmp_path_factory.mktemp("tiny"))


def _align(model, files, output, *extra):
    command = ["align", "--model", model, *files, "--dtype", "float32", "--device", "cpu"]
    return cli.main([*command, "--output", str(output), *extra])


def _input_terms(models, files, output, *extra):
    """What `regap-bench gap` says of layer 0, by checkpoint: the Frechet distance of its tokens."""
    chosen = [word for model in models for word in ("--model", model)]
    settings = ["--protocol", "pairs", "--resamples", "0", "--dtype", "float32", "--device", "cpu"]
    assert cli.main(["gap", *chosen, *files, *settings, *extra, "--output", str(output)]) == 0
    found = json.loads((output / "gap.json").read_text())["models"]
    return {name: model["layer_0_term"] for name, model in found.items()}


def _record(folder):
    return json.loads((folder / "regap_alignment.json").read_text())


@needs_transformers_5
def test_the_gap_of_an_aligned_checkpoint_falls(huggingface_checkpoint, files, tmp_path, capsys):
    kind, aligned = "huggingface", {}
    for name, words in {
        "half": ["--strength", "0.5"],
        "mean": [],
        "both": ["--match", "mean+covariance"],
    }.items():
        aligned[name] = tmp_path / name
        assert _align(f"{kind}:{huggingface_checkpoint}", files, aligned[name], *words) == 0
    assert "Frechet distance at the input" in capsys.readouterr().out
    models = [f"{kind}:{path}" for path in (huggingface_checkpoint, *aligned.values())]
    terms = _input_terms(models, files, tmp_path / "gap")
    assert terms["llava"] > terms["half"] > terms["mean"] > terms["both"] > 0
    assert terms["both"] < 0.5 * terms["llava"]
    record = _record(aligned["both"])
    assert record["match"] == "mean+covariance"
    assert record["layer"].endswith("multi_modal_projector.linear_2.weight")
    assert record["tokens"]["image"] == 16 * 4
    assert 0 < record["shrinkage"]["text"] <= 1
    assert len(record["pairs_sha256"]) == 64
    gap = json.loads((tmp_path / "gap" / "gap.json").read_text())
    assert gap["pairs_sha256"] == record["pairs_sha256"]
    distances = record["frechet_distance_at_input"]
    assert distances["after"] < 0.5 * distances["before"]
    assert _record(aligned["half"])["shrinkage"] == {"image": None, "text": None}


@needs_transformers_5
def test_the_mean_of_the_written_checkpoint_is_the_texts(huggingface_checkpoint, files, tmp_path):
    from regap_benchmarks.alignment.token_moments import collect_moments
    from regap_benchmarks.gap.pairs import read_pairs
    from regap_benchmarks.runners.runner import ModelOptions

    assert _align(f"huggingface:{huggingface_checkpoint}", files, tmp_path / "mean") == 0
    options = ModelOptions(str(tmp_path / "mean"), dtype="float32")
    source = huggingface_states.HUGGINGFACE_STATES.load(options)
    pairs = read_pairs(Path(files[1]), Path(files[3]), limit=16)
    found = collect_moments(source, pairs, "pairs", batch_size=5)
    difference = (found.image.mean - found.text.mean).norm()
    assert difference < 1e-5 * found.image.covariance.trace().sqrt()


@needs_transformers_5
def test_an_aligned_checkpoint_can_be_aligned_again_and_says_so(
    huggingface_checkpoint, files, tmp_path
):
    first, second = tmp_path / "first", tmp_path / "second"
    assert _align(f"huggingface:{huggingface_checkpoint}", files, first) == 0
    assert _align(f"huggingface:{first}", files, second, "--match", "mean+covariance") == 0
    record = _record(second)
    assert record["source"]["alignment"] == _record(first)
    assert record["source"]["fingerprint"] != _record(first)["source"]["fingerprint"]
    before = record["frechet_distance_at_input"]["before"]
    after = _record(first)["frechet_distance_at_input"]["after"]
    assert before == pytest.approx(after, rel=1e-4)


@needs_llava
@pytest.mark.parametrize(
    ("kind", "file"),
    [
        ("stage_1", "mm_projector.bin"),
        ("full", "model.safetensors"),
        ("lora", "non_lora_trainables.bin"),
    ],
)
def test_llavas_three_shapes_keep_their_shape(llava_checkpoints, files, tmp_path, kind, file):
    source, output = getattr(llava_checkpoints, kind), tmp_path / "aligned"
    base = [] if kind == "full" else ["--model-base", str(llava_checkpoints.base)]
    match = ["--match", "mean+covariance"]
    assert _align(f"llava:{source}", files, output, *base, *match) == 0
    written = {each.name for each in output.iterdir()}
    assert written == {each.name for each in source.iterdir()} | {"regap_alignment.json"}
    assert _record(output)["files"] == [file]
    assert (output / "config.json").read_bytes() == (source / "config.json").read_bytes()
    models = [f"llava:{source}", f"llava:{output}"]
    terms = _input_terms(models, files, tmp_path / "gap", *base)
    assert terms["aligned"] < 0.5 * terms[source.name]


# ---- refused


@pytest.fixture
def no_model(monkeypatch):
    """Loading a model fails the test."""

    def load(self, options):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(huggingface_states.HuggingFaceStates, "__init__", load)
    monkeypatch.setattr(llava_states.LlavaStates, "__init__", load)


@needs_transformers_5
@pytest.mark.parametrize(
    ("extra", "status", "message"),
    [
        (["--strength", "2"], 2, "--strength: expected a number from 0 to 1, found 2.0"),
        (["--shrinkage", "-1"], 2, "--shrinkage: expected a number from 0 to 1, found -1.0"),
        (["--batch-size", "0"], 2, "--batch-size: expected 1 or more, found 0"),
        (["--samples", "99"], 1, "expected 99 pairs of picture and text, found 16"),
    ],
)
def test_bad_settings_are_refused_before_a_model_is_loaded(
    huggingface_checkpoint, files, tmp_path, no_model, capsys, extra, status, message
):
    model = f"huggingface:{huggingface_checkpoint}"
    assert _align(model, files, tmp_path / "out", *extra) == status
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@needs_transformers_5
def test_an_output_that_is_there_and_a_source_without_files_are_refused(
    huggingface_checkpoint, files, tmp_path, no_model, capsys
):
    assert _align(f"huggingface:{huggingface_checkpoint}", files, tmp_path) == 1
    assert "expected a folder that is not there yet" in capsys.readouterr().err
    assert _align("fake:2.5", files, tmp_path / "out") == 1
    assert "2.5: expected the folder of a checkpoint, found none" in capsys.readouterr().err


@needs_transformers_5
def test_a_model_whose_tokens_do_not_follow_the_map_is_not_written(
    huggingface_checkpoint, files, tmp_path, monkeypatch, capsys
):
    from regap_benchmarks.alignment import projector_files

    def unchanged(last, fold):
        return dict(last.tensors), 0.0

    monkeypatch.setattr(projector_files, "folded_tensors", unchanged)
    assert _align(f"huggingface:{huggingface_checkpoint}", files, tmp_path / "out") == 1
    assert "expected image tokens of the first pair where the map puts them" in (
        capsys.readouterr().err
    )
    assert not list(tmp_path.iterdir()), "neither a checkpoint nor a part of one"
