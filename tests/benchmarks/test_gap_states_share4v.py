"""Hidden states of ShareGPT4V: those of the real checkout's own forward, pair by pair.

REGAP_SHARE4V_SRC=path/to/ShareGPT4V pytest tests/benchmarks/test_gap_states_share4v.py
"""

import importlib.util
import json
import shutil

import pytest

from regap_benchmarks import cli
from regap_benchmarks.gap import _llava_family
from regap_benchmarks.gap.share4v_states import SHARE4V_STATES
from regap_benchmarks.gap.states import PROTOCOLS
from regap_benchmarks.quantization import FourBit
from regap_benchmarks.runners import share4v_checkpoint
from regap_benchmarks.runners.runner import MissingRequirementError, ModelOptions

torch = pytest.importorskip("torch", reason="pip install torch")
transformers = pytest.importorskip("transformers", reason="pip install transformers")
pytest.importorskip("PIL", reason="pip install pillow")

from stand_ins.shown_pairs import (
    TEXTS,
    assert_close,
    assert_independent_of_batches,
    assert_measured,
    assert_states,
    shown_pairs,
    write_pairs,
)
from upstream import share4v_source

# What upstream and its transformers warn of under a newer torch is theirs.
pytestmark = pytest.mark.filterwarnings("ignore")
needs_share4v = pytest.mark.skipif(
    share4v_source.REAL is None or not transformers.__version__.startswith("4.31."),
    reason="the real ShareGPT4V by REGAP_SHARE4V_SRC, with transformers 4.31: the stand-in has no"
    " builder and no conversations",
)
IMAGE_TOKENS = (16 // 8) ** 2
SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives"
    " helpful, detailed, and polite answers to the user's questions."
)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    share4v_source.make_importable()
    from tiny_models.share4v import write_checkpoints

    return write_checkpoints(tmp_path_factory.mktemp("share"))


@pytest.fixture(scope="module")
def loaded(checkpoints):
    return {
        "full": _load(checkpoints.full),
        "whole": _load(checkpoints.whole),
        "projector": _load(checkpoints.projector, base=str(checkpoints.base)),
    }


def _load(path, **options):
    options = ModelOptions(str(path), **{"dtype": "float32", **options})
    SHARE4V_STATES.check(options)
    return SHARE4V_STATES.load(options)


def _text(text, protocol):
    """The templates written out."""
    if protocol == "pairs":
        return f"<image>{text}\n"
    return f"{SYSTEM} USER: <image>\n ASSISTANT: {text}</s>"


@needs_share4v
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("kind", ["full", "whole", "projector"])
def test_it_gives_the_states_of_upstreams_own_forward(loaded, kind, protocol):
    from share4v.mm_utils import process_images

    source = loaded[kind]
    model, tokenizer = source._loaded.model, source._loaded.tokenizer
    pairs = shown_pairs()
    found = source.states(pairs, protocol, range(source.layers + 1))
    for pair, states in zip(pairs, found):
        before, after = _text(pair.text, protocol).split("<image>")
        before, after = tokenizer(before).input_ids, tokenizer(after).input_ids[1:]
        ids = torch.tensor([[*before, -200, *after]])
        pixels = process_images([pair.image], source._loaded.image_processor, model.config)
        with torch.inference_mode():
            own = model(
                ids,
                attention_mask=torch.ones_like(ids, dtype=torch.bool),
                images=pixels,
                output_hidden_states=True,
                return_dict=True,
            ).hidden_states
        first = len(before)
        image_rows = list(range(first, first + IMAGE_TOKENS))
        text_rows = list(range(first + IMAGE_TOKENS, first + IMAGE_TOKENS + len(after)))
        assert own[0].shape[1] == text_rows[-1] + 1
        assert_states(states, [each[0] for each in own], image_rows, text_rows)


@needs_share4v
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_it_is_independent_of_the_batch_and_its_padding(loaded, protocol):
    assert_independent_of_batches(loaded["full"], protocol)


@needs_share4v
def test_the_text_is_all_after_the_picture_or_the_caption(loaded):
    source = loaded["full"]
    table = source._loaded.model.get_input_embeddings().weight
    (pair,) = shown_pairs(TEXTS[1:2])
    for protocol, expected in (
        ("official", f"\n ASSISTANT: {pair.text}</s>"),
        ("pairs", f"{pair.text}\n"),
    ):
        (found,) = source.states([pair], protocol, [0])
        ids = source._loaded.tokenizer(expected).input_ids[1:]
        assert torch.equal(found.text[0], table[ids])
        assert len(found.image[0]) == IMAGE_TOKENS


@needs_share4v
def test_pairs_are_samples_of_upstreams_own_pretraining(loaded):
    """The ids and labels that upstream's train.py makes of the same pair."""
    from share4v import conversation
    from share4v.train import train

    source = loaded["full"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conversation, "default_conversation", conversation.conv_templates["plain"])
        for pair in shown_pairs():
            turns = [{"value": "<image>\nWhat?"}, {"value": pair.text}]
            made = train.preprocess_plain([turns], source._loaded.tokenizer)
            ids, first = source._row(pair.text, "pairs")
            assert ids == made["input_ids"][0].tolist()
            labels = [-100] * first + ids[first:]
            assert labels == made["labels"][0].tolist()


@needs_share4v
def test_the_trained_tower_beside_a_whole_model_is_the_one_that_is_measured(checkpoints, loaded):
    """Upstream's builder would take the one that the training began from."""
    weights = torch.load(checkpoints.whole / "vision_tower" / "pytorch_model.bin")
    held = loaded["whole"]._loaded.model.get_vision_tower().vision_tower
    for name, parameter in held.named_parameters():
        assert torch.equal(parameter, weights[name])
    (pair,) = shown_pairs(TEXTS[:1])
    (trained,), (plain,) = (loaded[kind].states([pair], "pairs", [0]) for kind in ("whole", "full"))
    assert not torch.equal(trained.image[0], plain.image[0])
    assert torch.equal(trained.text[0], plain.text[0])
    towers = [loaded[kind].describe()["vision_tower_fingerprint"] for kind in ("whole", "full")]
    assert None not in towers
    assert towers[0] != towers[1]


@needs_share4v
def test_a_trained_tower_that_is_not_whole_is_refused(checkpoints, tmp_path):
    folder = shutil.copytree(checkpoints.whole, tmp_path / "whole")
    file = folder / "vision_tower" / "pytorch_model.bin"
    weights = torch.load(file)
    torch.save(dict(list(weights.items())[1:]), file)
    with pytest.raises(ValueError, match="expected all weights of the vision tower, found none"):
        _load(folder)


@needs_share4v
def test_the_projector_is_that_of_its_file(checkpoints, loaded):
    saved = torch.load(checkpoints.projector / "mm_projector.bin")
    held = loaded["projector"]._loaded.model.get_model().mm_projector.state_dict()
    assert held
    for name, weight in held.items():
        assert torch.equal(weight, saved[f"model.mm_projector.{name}"])


@needs_share4v
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_every_weight_is_in_the_dtype_that_was_asked_for(checkpoints, dtype):
    source = _load(checkpoints.full, dtype=dtype)
    found = {each.dtype for each in source._loaded.model.parameters()}
    assert found == {getattr(torch, dtype)}
    (states,) = source.states(shown_pairs(TEXTS[:1]), "pairs", [source.layers])
    assert states.image[source.layers].dtype == getattr(torch, dtype)
    assert torch.isfinite(states.image[source.layers]).all()


@needs_share4v
def test_the_aspect_is_the_checkpoints_or_the_users(checkpoints, loaded):
    cropping = _load(checkpoints.full, image_aspect="crop")
    assert cropping.describe()["image_aspect_ratio"] == "square"
    assert loaded["full"].describe()["image_aspect_ratio"] == "pad"
    pairs = shown_pairs()
    (first,), (second,) = (
        each.states(pairs[3:], "pairs", [0]) for each in (cropping, loaded["full"])
    )
    assert not torch.equal(first.image[0], second.image[0])
    with pytest.raises(ValueError, match="--image-aspect: expected pad or crop, found 'round'"):
        _load(checkpoints.full, image_aspect="round")


@needs_share4v
def test_the_description_is_json_and_of_the_checkpoint_alone(checkpoints, loaded):
    described = json.dumps(loaded["full"].describe())
    assert str(checkpoints.full.parent) not in described
    assert json.loads(described)["conversation"] == "vicuna_v1"
    json.dumps(loaded["full"].environment())


@needs_share4v
def test_what_cannot_be_loaded_is_said(checkpoints, tmp_path):
    with pytest.raises(ValueError, match="expected a folder, found none"):
        _load(tmp_path / "nothing")
    with pytest.raises(ValueError, match="expected --model-base with the language model"):
        _load(checkpoints.projector)
    with pytest.raises(ValueError, match="expected no --model-base for a checkpoint of the kind"):
        _load(checkpoints.full, base=str(checkpoints.base))
    with pytest.raises(ValueError, match=r"expected the model_type 'share4v' in config\.json, fou"):
        _load(checkpoints.base)
    with pytest.raises(ValueError, match=r"--conversation: expected one of .*, found 'v9'"):
        _load(checkpoints.full, conversation="v9")
    with pytest.raises(ValueError, match="--quantization: expected none with share4v"):
        _load(checkpoints.full, quantization=FourBit())
    folder = shutil.copytree(checkpoints.projector, tmp_path / "partial")
    saved = torch.load(folder / "mm_projector.bin")
    torch.save(dict(list(saved.items())[1:]), folder / "mm_projector.bin")
    with pytest.raises(ValueError, match="expected all weights of the projector, found none for"):
        _load(folder, base=str(checkpoints.base))


@needs_share4v
def test_the_test_would_see_other_positions(loaded, monkeypatch):
    source = loaded["full"]
    monkeypatch.setattr(
        _llava_family, "positions_of", lambda mask: mask.sum() - mask.long().cumsum(1)
    )
    pairs = shown_pairs()
    (changed,) = source.states(pairs[:1], "pairs", [source.layers])
    monkeypatch.undo()
    (right,) = source.states(pairs[:1], "pairs", [source.layers])
    with pytest.raises(AssertionError):
        assert_close(changed.text[source.layers], right.text[source.layers])


@pytest.mark.parametrize(
    ("found", "has_package"), [("4.37.2", True), ("4.31.0", False), ("4.310", True)]
)
def test_another_environment_is_told_what_it_needs(monkeypatch, found, has_package):
    monkeypatch.setattr(share4v_checkpoint, "version", lambda package: found)
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name: (object() if has_package else None) if name == "share4v" else real(name),
    )
    word = "a" if has_package else "no"
    message = (
        r"share4v: expected a checkout of ShareGPT4Omni/ShareGPT4V .* with transformers 4\.31\.0,"
        rf" found transformers {found} and {word} share4v\. Install them: .* or measure in an"
    )
    with pytest.raises(MissingRequirementError, match=message):
        SHARE4V_STATES.check(ModelOptions("x"))


@needs_share4v
@pytest.mark.parametrize("kind", ["full", "projector"])
def test_the_command_measures_a_checkpoint_end_to_end(checkpoints, kind, tmp_path):
    pytest.importorskip("tabulate", reason="pip install tabulate")
    pytest.importorskip("matplotlib", reason="pip install matplotlib")
    images, texts = write_pairs(tmp_path)
    command = ["gap", "--model", f"share4v:{getattr(checkpoints, kind)}", "--dtype", "float32"]
    if kind == "projector":
        command += ["--model-base", str(checkpoints.base)]
    command += [
        "--images",
        str(images),
        "--texts",
        str(texts),
        "--resamples",
        "3",
        "--samples",
        "4",
    ]
    assert cli.main([*command, "--output", str(tmp_path / "gap")]) == 0
    assert_measured(tmp_path / "gap", image_tokens=IMAGE_TOKENS)
