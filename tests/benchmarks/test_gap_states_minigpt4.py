"""Hidden states of MiniGPT-4 and v2: those of upstream's own way to answer, pair by pair.

REGAP_MINIGPT4_SRC=path/to/MiniGPT-4 pytest tests/benchmarks/test_gap_states_minigpt4.py
"""

import importlib.util
import json
import os
import random
from pathlib import Path

import pytest

from regap_benchmarks import cli
from regap_benchmarks.gap.minigpt4_states import MINIGPT4_STATES
from regap_benchmarks.gap.states import PROTOCOLS
from regap_benchmarks.quantization import FourBit
from regap_benchmarks.runners import minigpt4_checkpoint
from regap_benchmarks.runners.runner import MissingRequirementError, ModelOptions

torch = pytest.importorskip("torch", reason="pip install torch")
pytest.importorskip("PIL", reason="pip install pillow")

from stand_ins.shown_pairs import (
    TEXTS,
    assert_independent_of_batches,
    assert_measured,
    assert_states,
    shown_pairs,
    write_pairs,
)

# What upstream and its libraries warn of under a newer torch is theirs.
pytestmark = pytest.mark.filterwarnings("ignore")
SOURCE = os.environ.get("REGAP_MINIGPT4_SRC")
needs_minigpt4 = pytest.mark.skipif(
    not SOURCE or any(importlib.util.find_spec(name) is None for name in ("timm", "omegaconf")),
    reason="the real MiniGPT-4 by REGAP_MINIGPT4_SRC, with timm and omegaconf: the stand-in has no"
    " processors and no conversations",
)
KINDS = ("qformer", "no_qformer", "stage_2", "v2")
# Of a picture of 56 pixels in patches of 14: four in one without a Q-Former.
PATCHES = (56 // 14) ** 2
INTRODUCTION = (
    "Give the following image: <Img>ImageContent</Img>. You will be able to see the image once I"
    " provide it to you. Please answer my questions."
)
PICTURE = "<Img><ImageHere></Img>"
PROMPTS = {
    "minigpt4": f"{INTRODUCTION}###Human: {PICTURE}###Assistant: ",
    "minigpt_v2": f"<s>[INST] {PICTURE} [/INST]",
}


@pytest.fixture(scope="module")
def yamls(tmp_path_factory):
    from tiny_models import minigpt4 as tiny

    root = Path(SOURCE).absolute()
    with pytest.MonkeyPatch.context() as patch:
        tiny.make_importable(root, patch)
        yield tiny.write_checkpoints(tmp_path_factory.mktemp("mini"), root)


@pytest.fixture(scope="module")
def loaded(yamls):
    return {kind: _load(yamls[kind]) for kind in KINDS}


def _load(path, **options):
    options = ModelOptions(str(path), **{"dtype": "float32", **options})
    MINIGPT4_STATES.check(options)
    return MINIGPT4_STATES.load(options)


def _changed(yaml, folder, **settings):
    """A copy of a YAML with other settings of the model."""
    content = json.loads(yaml.read_text())
    content["model"].update(settings)
    path = folder / "changed.yaml"
    path.write_text(json.dumps(content))
    return path


def _answer(source, text, protocol):
    """Ids of the answer, by hand."""
    model = source._model
    if protocol == "pairs":
        text = text.lower().replace(".", " ").replace(":", " ").strip()
        text = " ".join(text.split())
    ids = model.llama_tokenizer(text + model.end_sym, add_special_tokens=False).input_ids
    return ids[: model.max_txt_len] if protocol == "pairs" else ids


@needs_minigpt4
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("kind", KINDS)
def test_it_gives_the_states_of_upstreams_own_way_to_answer(loaded, kind, protocol):
    """`get_context_emb`, by which upstream's demo asks, instead of the forward of its training."""
    from tiny_models.minigpt4 import QUERIES

    source = loaded[kind]
    model = source._model
    prompt = PROMPTS[source.describe()["arch"]] if protocol == "official" else "<ImageHere>"
    image_tokens = QUERIES if kind == "qformer" else PATCHES // 4
    pairs = shown_pairs()
    for pair, states in zip(pairs, source.states(pairs, protocol, range(source.layers + 1))):
        answer = _answer(source, pair.text, protocol)
        with torch.inference_mode():
            picture, _ = model.encode_img(source._loaded.preprocess(pair.image)[None])
            if protocol == "official":
                context = model.get_context_emb(prompt, [picture])
            else:  # of a prompt without text it would make no ids
                begin = torch.tensor([[model.llama_tokenizer.bos_token_id]])
                context = torch.cat([model.embed_tokens(begin), picture], dim=1)
            ids = model.embed_tokens(torch.tensor([answer]))
            own = model.llama_model(
                inputs_embeds=torch.cat([context, ids], dim=1), output_hidden_states=True
            ).hidden_states
        before, after = prompt.split("<ImageHere>")
        first = len(model.llama_tokenizer(before).input_ids)
        last = first + image_tokens
        behind = len(model.llama_tokenizer(after, add_special_tokens=False).input_ids)
        assert own[0].shape[1] == last + behind + len(answer)
        image_rows = list(range(first, last))
        assert_states(
            states, [each[0] for each in own], image_rows, list(range(last, own[0].shape[1]))
        )


@needs_minigpt4
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_independent_of_the_batch_and_its_padding(loaded, kind, protocol):
    assert_independent_of_batches(loaded[kind], protocol)


@needs_minigpt4
@pytest.mark.parametrize("kind", ["qformer", "v2"])
def test_the_text_is_all_after_the_picture_or_the_caption(loaded, kind):
    source = loaded[kind]
    model, tokenizer = source._model, source._model.llama_tokenizer
    (pair,) = shown_pairs(TEXTS[2:3])
    behind = PROMPTS[source.describe()["arch"]].split("<ImageHere>")[1]
    ids = {
        "official": tokenizer(behind, add_special_tokens=False).input_ids
        + tokenizer(f"Count.{model.end_sym}", add_special_tokens=False).input_ids,
        # By upstream's blip_caption: lower case, without the full stop.
        "pairs": tokenizer(f"count{model.end_sym}", add_special_tokens=False).input_ids,
    }
    for protocol in PROTOCOLS:
        (found,) = source.states([pair], protocol, [0])
        assert torch.equal(found.text[0], model.embed_tokens(torch.tensor(ids[protocol])))


@needs_minigpt4
def test_a_long_caption_is_cut_as_in_pretraining_and_a_long_answer_is_not(loaded):
    source = loaded["qformer"]
    (pair,) = shown_pairs(("a x" * 40,))
    assert source._model.max_txt_len == 32
    (found,) = source.states([pair], "pairs", [0])
    assert len(found.text[0]) == 32
    (found,) = source.states([pair], "official", [0])
    behind = source._model.llama_tokenizer("</Img>###Assistant: ", add_special_tokens=False)
    answer = _answer(source, pair.text, "official")
    assert len(answer) > 32
    assert len(found.text[0]) == len(behind.input_ids) + len(answer)
    assert source._model.max_txt_len == 32


@needs_minigpt4
def test_the_model_is_left_as_it_was_and_nothing_is_drawn(loaded):
    for kind in ("stage_2", "v2"):
        model = loaded[kind]._model
        names = ("prompt_list", "chat_template", "max_txt_len")
        before = {name: vars(model).get(name, "absent") for name in names}
        state = random.getstate(), torch.get_rng_state()
        for protocol in PROTOCOLS:
            loaded[kind].states(shown_pairs(), protocol, [0])
        assert {name: vars(model).get(name, "absent") for name in names} == before
        assert random.getstate() == state[0]
        assert torch.equal(torch.get_rng_state(), state[1])
    assert loaded["stage_2"]._model.prompt_list


@needs_minigpt4
@pytest.mark.parametrize("kind", ["qformer", "v2"])
def test_what_was_trained_is_that_of_the_checkpoint(yamls, loaded, kind):
    saved = torch.load(yamls[kind].with_suffix(".pth"))["model"]
    held = loaded[kind]._model.state_dict()
    assert any("lora_" in name for name in saved) == (kind == "v2")
    for name, weight in saved.items():
        assert torch.equal(held[name], weight)


@needs_minigpt4
def test_loaded_twice_it_gives_the_same(yamls, loaded):
    again = _load(yamls["v2"]).states(shown_pairs(), "official", [2])
    for first, second in zip(again, loaded["v2"].states(shown_pairs(), "official", [2])):
        assert torch.equal(first.text[2], second.text[2])


@needs_minigpt4
def test_the_description_is_json_and_of_the_checkpoint_alone(yamls, loaded):
    described = json.dumps(loaded["v2"].describe())
    assert str(yamls["v2"].parent) not in described
    assert json.loads(described)["conversation"] == "CONV_VISION_minigptv2"
    assert json.loads(described)["lora_r"] == 4
    assert loaded["v2"].describe()["fingerprint"] != loaded["stage_2"].describe()["fingerprint"]
    json.dumps(loaded["v2"].environment())


@needs_minigpt4
@pytest.mark.parametrize("missing", ["llama_proj.bias", "lora_B"])
def test_a_checkpoint_that_lacks_weights_is_refused(yamls, tmp_path, missing):
    saved = torch.load(yamls["v2"].with_suffix(".pth"))
    saved["model"] = {name: each for name, each in saved["model"].items() if missing not in name}
    torch.save(saved, tmp_path / "v2.pth")
    path = _changed(yamls["v2"], tmp_path, ckpt=str(tmp_path / "v2.pth"))
    with pytest.raises(ValueError, match="expected all weights of llama_proj and of LoRA, found"):
        _load(path)


@needs_minigpt4
@pytest.mark.parametrize("checkpoint", ["", "please set this value to the path of the checkpoint"])
def test_a_yaml_without_a_checkpoint_is_refused(yamls, tmp_path, checkpoint):
    path = _changed(yamls["qformer"], tmp_path, ckpt=checkpoint)
    with pytest.raises(ValueError, match=r"expected a checkpoint's file at model\.ckpt, found"):
        _load(path)


@needs_minigpt4
def test_what_cannot_be_loaded_is_said(yamls, tmp_path):
    with pytest.raises(ValueError, match="expected a YAML of upstream, found no such file"):
        _load(tmp_path / "nothing.yaml")
    with pytest.raises(ValueError, match="--quantization: expected none with minigpt4"):
        _load(yamls["v2"], quantization=FourBit())
    with pytest.raises(ValueError, match="--model-base: expected none with minigpt4"):
        _load(yamls["v2"], base="x")
    with pytest.raises(ValueError, match="--dtype: expected float32, or float16 on a GPU"):
        _load(yamls["v2"], dtype="float16")
    with pytest.raises(ValueError, match="expected low_resource: False without a GPU"):
        _load(_changed(yamls["v2"], tmp_path, low_resource=True))
    with pytest.raises(ValueError, match="expected a YAML of MiniGPT-4 whose model upstream loads"):
        _load(_changed(yamls["v2"], tmp_path, arch="minigpt_5"))


@needs_minigpt4
@pytest.mark.parametrize(
    ("text", "protocol", "message"),
    [
        ("see <ImageHere>", "official", "Pair 'first': .*found the placeholder '<ImageHere>'"),
        ("a x" * 900, "official", r"Pair 'first': expected at most \d+ positions"),
        ("...", "pairs", "Pair 'first': expected words for upstream's text processor"),
    ],
)
def test_a_text_that_cannot_be_measured_is_refused(loaded, text, protocol, message):
    with pytest.raises(ValueError, match=message):
        loaded["qformer"].check_text("first", text, protocol)
    loaded["qformer"].check_text("first", "a cat", protocol)


@pytest.mark.parametrize(
    ("found", "lacks", "said"),
    [
        ("4.30.0", "minigpt4", r"transformers 4\.30\.0, no minigpt4\."),
        ("4.30.0", "timm", r"transformers 4\.30\.0, no timm\."),
        ("5.23.0", None, r"transformers 5\.23\.0\."),
    ],
)
def test_another_environment_is_told_what_it_needs(monkeypatch, found, lacks, said):
    monkeypatch.setattr(minigpt4_checkpoint, "version", lambda package: found)
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == lacks else object()
    )
    message = rf"minigpt4: expected a checkout of Vision-CAIR/MiniGPT-4 .* found {said} Install"
    with pytest.raises(MissingRequirementError, match=message):
        MINIGPT4_STATES.check(ModelOptions("x"))


@needs_minigpt4
@pytest.mark.parametrize("kind", KINDS)
def test_the_command_measures_a_checkpoint_end_to_end(yamls, kind, tmp_path):
    pytest.importorskip("tabulate", reason="pip install tabulate")
    pytest.importorskip("matplotlib", reason="pip install matplotlib")
    from tiny_models.minigpt4 import QUERIES

    images, texts = write_pairs(tmp_path)
    command = ["gap", "--model", f"minigpt4:{yamls[kind]}", "--dtype", "float32"]
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
    image_tokens = QUERIES if kind == "qformer" else PATCHES // 4
    assert_measured(tmp_path / "gap", image_tokens=image_tokens)
