"""LLaVA's checkpoints for transformers and back: weights, logits, token ids and pixels."""

import json

import pytest

torch = pytest.importorskip("torch", reason="pip install torch")
transformers = pytest.importorskip("transformers", minversion="5", reason="transformers 5")
pytest.importorskip("PIL", reason="pip install pillow")
pytest.importorskip("sentencepiece", reason="pip install sentencepiece")

from PIL import Image
from tiny_models.huggingface_llava import SIZES, write_upstream_forms

from regap_benchmarks import cli
from regap_benchmarks.conversion.huggingface_to_llava import convert_huggingface_to_llava
from regap_benchmarks.conversion.llava_to_huggingface import convert_llava_to_huggingface
from regap_benchmarks.conversion.weight_files import read_weights
from regap_benchmarks.conversion.weight_names import to_huggingface, to_upstream

# What transformers says of its own deprecations and of its slower picture processor.
pytestmark = pytest.mark.filterwarnings("ignore")
QUESTION = "How many red circles are there?\nAnswer the question using a single word or phrase."
PROMPT = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives"
    " helpful, detailed, and polite answers to the user's questions. USER: <image>\n"
    + QUESTION
    + " ASSISTANT:"
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Upstream's forms without upstream: a projector with its language model, and all in one."""
    return write_upstream_forms(tmp_path_factory.mktemp("llava"))


def _reference_logits(files, ids, pixels):
    """Upstream's forward written out: features of the layer before the last, without the class."""
    tower = transformers.CLIPVisionModel.from_pretrained(files.vision_tower)
    language = transformers.LlamaForCausalLM.from_pretrained(files.language_model)
    weights = torch.load(files.projector, weights_only=True)
    first, second = (
        (weights[f"model.mm_projector.{n}.weight"], weights[f"model.mm_projector.{n}.bias"])
        for n in (0, 2)
    )
    with torch.inference_mode():
        states = tower(pixels, output_hidden_states=True).hidden_states[-2][:, 1:]
        hidden = torch.nn.functional.gelu(torch.nn.functional.linear(states, *first))
        features = torch.nn.functional.linear(hidden, *second)[0]
        table = language.get_input_embeddings().weight
        rows = [features if number is None else table[number][None] for number in ids]
        return language(inputs_embeds=torch.cat(rows)[None]).logits[0]


def _upstream_ids(folder, prompt):
    """`tokenizer_image_token`: each part is tokenized as a text of its own; None is the picture."""
    from sentencepiece import SentencePieceProcessor

    pieces = SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    before, after = (pieces.encode(part) for part in prompt.split("<image>"))
    return [pieces.bos_id(), *before, None, *after]


def _model_inputs(folder, picture):
    processor = transformers.AutoProcessor.from_pretrained(folder)
    content = [{"type": "image"}, {"type": "text", "text": QUESTION}]
    messages = [{"role": "user", "content": content}]
    text = processor.apply_chat_template(messages, add_generation_prompt=True)
    return processor(images=[picture], text=[text], return_tensors="pt")


def _padded(picture, fill):
    """`expand2square`: in the middle of a square of the processor's mean."""
    side = max(picture.size)
    square = Image.new("RGB", (side, side), fill)
    square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return square


@pytest.mark.parametrize("form", ["stage 1", "full"])
def test_token_ids_pixels_and_logits_are_upstreams(made, form, tmp_path):
    files, stage_1, full = made
    output = tmp_path / "hf"
    if form == "full":
        convert_llava_to_huggingface(full, output)
    else:
        convert_llava_to_huggingface(stage_1, output, base=files.language_model)
    picture = Image.effect_mandelbrot((40, 24), (-3, -2.5, 2, 2.5), 100).convert("RGB")
    inputs = _model_inputs(output, picture)
    processor = transformers.CLIPImageProcessor.from_pretrained(files.vision_tower)
    fill = tuple(int(255 * mean) for mean in processor.image_mean)
    pixels = processor(_padded(picture, fill), return_tensors="pt")["pixel_values"]
    assert (inputs["pixel_values"] - pixels).abs().max() < 1e-4

    model, loading = transformers.LlavaForConditionalGeneration.from_pretrained(
        output, output_loading_info=True
    )
    assert not any(loading[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    patches = (SIZES.image_side // SIZES.patch_side) ** 2
    ids = _upstream_ids(files.language_model, PROMPT)
    image = model.config.image_token_index
    expanded = []
    for number in ids:
        expanded += [image] * patches if number is None else [number]
    assert inputs["input_ids"][0].tolist() == expanded

    with torch.inference_mode():
        logits = model(**{**inputs, "pixel_values": pixels}).logits[0]
    expected = _reference_logits(files, ids, pixels)
    assert logits.shape[1] == expected.shape[1] + 1
    assert (logits[:, :-1] - expected).abs().max() < 1e-4
    # The added token is never the greedy choice.
    assert bool((logits[:, -1] < expected.max(1).values).all())
    assert json.loads((output / "config.json").read_text())["regap"] == {"weight": 0.5}


def test_there_and_back_gives_the_same_weights(made, tmp_path):
    files, _, full = made
    convert_llava_to_huggingface(full, tmp_path / "hf")
    convert_huggingface_to_llava(tmp_path / "hf", tmp_path / "llava-back")
    before, after = read_weights(full), read_weights(tmp_path / "llava-back")
    assert set(before) == set(after)
    for name, weight in before.items():
        assert torch.equal(after[name][: len(weight)], weight), name
    first, second = (
        transformers.CLIPVisionModel.from_pretrained(folder).state_dict()
        for folder in (files.vision_tower, tmp_path / "llava-back" / "vision_tower")
    )
    assert all(torch.equal(first[name], second[name]) for name in first)
    was, now = (
        json.loads((folder / "config.json").read_text())
        for folder in (full, tmp_path / "llava-back")
    )
    kept = [key for key in was if key.startswith(("mm_", "image_", "num_", "rope", "regap"))]
    changed = {key for key in kept if was[key] != now.get(key)}
    assert changed == {"mm_vision_tower"}
    # A second time there is nothing to add.
    convert_llava_to_huggingface(tmp_path / "llava-back", tmp_path / "again")
    first, second = read_weights(tmp_path / "hf"), read_weights(tmp_path / "again")
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert set(first) == set(second)


def test_by_command(made, tmp_path, capsys):
    _, stage_1, _ = made
    command = ["convert", "--model", f"llava:{stage_1}", "--output", str(tmp_path / "hf")]
    assert cli.main(command) == 1
    assert "expected weights in model.safetensors or pytorch_model.bin" in capsys.readouterr().err
    base = made[0].language_model
    assert cli.main([*command, "--model-base", str(base)]) == 0
    assert cli.main([*command, "--model-base", str(base)]) == 1
    assert "expected a new or empty folder" in capsys.readouterr().err
    back = ["convert", "--model", f"huggingface:{tmp_path / 'hf'}", "--output"]
    assert cli.main([*back, str(tmp_path / "other")]) == 1
    assert "expected a name with 'llava'" in capsys.readouterr().err
    assert cli.main([*back, str(tmp_path / "llava")]) == 0
    assert cli.main(["convert", "--model", "llava", "--output", str(tmp_path / "x")]) == 2


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("mm_projector_type", "linear"),
        ("model_type", "llava_mpt"),
        ("mm_use_im_start_end", True),
        ("mm_patch_merge_type", "spatial_unpad"),
    ],
)
def test_models_without_a_counterpart_are_refused(made, key, value, tmp_path):
    _, _, full = made
    copy = tmp_path / "llava"
    copy.mkdir()
    config = {**json.loads((full / "config.json").read_text()), key: value}
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=f"expected {key} .*, found {value!r}"):
        convert_llava_to_huggingface(copy, tmp_path / "hf")
    assert not (tmp_path / "hf").exists()


@pytest.mark.parametrize(
    ("rename", "name"),
    [
        (to_huggingface, "model.image_newline"),
        (to_huggingface, "model.mm_projector.4.weight"),
        (to_upstream, "image_newline"),
        (to_upstream, "multi_modal_projector.linear_3.weight"),
    ],
)
def test_a_weight_without_a_place_is_refused(rename, name):
    with pytest.raises(ValueError, match=f"Weight '{name}'"):
        rename({name: 0})


def test_a_shard_that_is_missing_is_named(tmp_path):
    index = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(FileNotFoundError, match="expected 2 shards beside it, found"):
        read_weights(tmp_path)
