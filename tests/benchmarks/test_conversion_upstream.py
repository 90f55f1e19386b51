"""Logits of upstream's own LLaVA against transformers' LLaVA with the same weights, renamed."""

import json
import shutil

import pytest

torch = pytest.importorskip("torch", reason="pip install torch")
pytest.importorskip("llava", reason="the real model: pip install llava-torch --no-deps")
transformers = pytest.importorskip("transformers", minversion="4.37", reason="has LLaVA")

from tiny_models.llava import SIZES, write_checkpoints

from regap_benchmarks.conversion.huggingface_to_llava import convert_huggingface_to_llava
from regap_benchmarks.conversion.weight_files import read_weights
from regap_benchmarks.conversion.weight_names import to_huggingface
from regap_benchmarks.runners.llava_checkpoint import find_files, load_llava
from regap_benchmarks.runners.runner import ModelOptions

# What upstream and its transformers warn of under a newer torch is theirs.
pytestmark = pytest.mark.filterwarnings("ignore")
PICTURE = -200  # IMAGE_TOKEN_INDEX of llava/constants.py


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return write_checkpoints(tmp_path_factory.mktemp("llava"))


@pytest.fixture(scope="module")
def huggingface(made):
    """transformers' own class with the weights of the whole checkpoint under their new names."""
    config = json.loads((made.full / "config.json").read_text())
    tower = transformers.CLIPVisionModel.from_pretrained(config["mm_vision_tower"])
    text = transformers.LlamaConfig.from_pretrained(made.base)
    text.vocab_size += 1
    model = transformers.LlavaForConditionalGeneration(
        transformers.LlavaConfig(
            vision_config=tower.config.to_dict(),
            text_config=text.to_dict(),
            image_token_index=text.vocab_size - 1,
            pad_token_id=0,
        )
    )
    weights = to_huggingface(read_weights(made.full))
    weights.update({f"vision_tower.{name}": each for name, each in tower.state_dict().items()})
    for name in ("model.embed_tokens", "lm_head"):
        name = f"language_model.{name}.weight"
        weights[name] = torch.cat([weights[name], torch.zeros_like(weights[name][:1])])
    model.load_state_dict(weights, strict=True)
    return model.eval()


def _upstream(folder):
    options = ModelOptions(str(folder), dtype="float32")
    return load_llava(find_files(options), options, torch.float32).model.eval()


def _inputs(seed):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, SIZES.vocabulary, (1, 12), generator=generator)
    side = SIZES.image_side
    return ids, torch.randn(1, 3, side, side, generator=generator)


@pytest.mark.parametrize("seed", [0, 1])
def test_logits_of_the_renamed_weights(made, huggingface, seed):
    ids, pixels = _inputs(seed)
    ids[0, 4] = PICTURE
    with torch.inference_mode():
        expected = _upstream(made.full)(input_ids=ids, images=pixels).logits
        ids[0, 4] = huggingface.config.image_token_index
        found = huggingface(
            input_ids=ids, pixel_values=pixels, attention_mask=torch.ones_like(ids)
        ).logits
    assert found.shape[1] == expected.shape[1] == 11 + (SIZES.image_side // SIZES.patch_side) ** 2
    assert (found[..., :-1] - expected).abs().max() < 1e-4


def test_upstream_loads_the_way_back(made, huggingface, tmp_path):
    folder, back = tmp_path / "hf", tmp_path / "llava-back"
    huggingface.save_pretrained(folder)
    tower = json.loads((made.full / "config.json").read_text())["mm_vision_tower"]
    transformers.CLIPImageProcessor.from_pretrained(tower).save_pretrained(folder)
    for path in made.base.glob("tokenizer*"):
        shutil.copy(path, folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, use_fast=False)
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    tokenizer.save_pretrained(folder)
    convert_huggingface_to_llava(folder, back)
    ids, pixels = _inputs(2)
    ids[0, 0] = PICTURE
    with torch.inference_mode():
        expected = _upstream(made.full)(input_ids=ids, images=pixels).logits
        found = _upstream(back)(input_ids=ids, images=pixels).logits
    assert found.shape[-1] == expected.shape[-1] + 1
    assert torch.equal(found[..., :-1], expected)
