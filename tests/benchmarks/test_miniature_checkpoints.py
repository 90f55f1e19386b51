"""The tiny checkpoints load, are decided by the seed, and leave the random state alone."""

import pytest

from regap_benchmarks.miniature.checkpoints import (
    BOS_ID,
    EOS_ID,
    UNKNOWN_ID,
    TinySizes,
    largest_weight_difference,
    write_language_model,
    write_miniature,
    write_projector,
    write_vision_tower,
)

torch = pytest.importorskip("torch", reason="the checkpoints need it: pip install torch")
transformers = pytest.importorskip(
    "transformers", reason="the checkpoints need it: pip install transformers"
)
pytest.importorskip("sentencepiece", reason="the tokenizer needs it: pip install sentencepiece")

# These come from libraries of many versions, not from this project.
pytestmark = pytest.mark.filterwarnings("ignore")

TEXTS = ["two red circles above a blue square on a white background", "the face of a tabby cat"]


@pytest.fixture(scope="module")
def miniature(tmp_path_factory):
    return write_miniature(tmp_path_factory.mktemp("tiny"), TEXTS, seed=0, text_steps=2)


def test_every_text_comes_back_from_its_tokens(miniature):
    tokenizer = transformers.AutoTokenizer.from_pretrained(miniature.language_model, use_fast=False)
    assert (tokenizer.unk_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (
        UNKNOWN_ID,
        BOS_ID,
        EOS_ID,
    )
    for text in [*TEXTS, "USER: unseen words, ASSISTANT: 42 \u00fcber\n"]:
        ids = tokenizer(text).input_ids
        assert ids[0] == BOS_ID
        assert UNKNOWN_ID not in ids
        assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_the_language_model_has_the_size_of_its_tokenizer(miniature):
    model = transformers.LlamaForCausalLM.from_pretrained(miniature.language_model)
    tokenizer = transformers.AutoTokenizer.from_pretrained(miniature.language_model, use_fast=False)
    assert model.config.vocab_size == len(tokenizer) <= TinySizes().vocabulary
    assert model.get_input_embeddings().weight.shape == (len(tokenizer), TinySizes().hidden)
    assert model.get_input_embeddings().weight.dtype == torch.float32


def test_the_tower_gives_as_many_tokens_as_the_sizes_say(miniature):
    from PIL import Image

    tower = transformers.CLIPVisionModel.from_pretrained(miniature.vision_tower)
    processor = transformers.CLIPImageProcessor.from_pretrained(miniature.vision_tower)
    picture = Image.new("RGB", (100, 70), (255, 0, 0))
    pixels = processor(picture, return_tensors="pt")["pixel_values"]
    assert pixels.shape == (1, 3, 64, 64)
    states = tower(pixels, output_hidden_states=True).hidden_states
    assert states[-2].shape == (1, 1 + 16, TinySizes().vision_hidden)


def test_the_projector_has_the_keys_that_upstream_loads(miniature):
    weights = torch.load(miniature.projector, weights_only=True)
    shapes = {key: tuple(value.shape) for key, value in weights.items()}
    assert shapes == {
        "model.mm_projector.0.weight": (64, 32),
        "model.mm_projector.0.bias": (64,),
        "model.mm_projector.2.weight": (64, 64),
        "model.mm_projector.2.bias": (64,),
    }


def test_a_seed_decides_the_weights(miniature, tmp_path):
    again = write_miniature(tmp_path / "again", TEXTS, seed=0, text_steps=2)
    for name in ("language_model", "vision_tower"):
        folder, repeated = getattr(miniature, name), getattr(again, name)
        files = sorted(path.name for path in folder.iterdir())
        assert files == sorted(path.name for path in repeated.iterdir())
        for file in files:
            assert (folder / file).read_bytes() == (repeated / file).read_bytes(), file
    assert largest_weight_difference(miniature.projector, again.projector) == 0.0
    other = write_projector(tmp_path / "other.bin", seed=1)
    assert largest_weight_difference(miniature.projector, other) > 0.0


def test_the_global_random_state_stays(tmp_path):
    before = torch.get_rng_state()
    write_miniature(tmp_path, TEXTS, seed=7, text_steps=1)
    assert torch.equal(torch.get_rng_state(), before)


def test_training_on_the_texts_lowers_their_loss(tmp_path):
    losses = []
    for steps in (0, 20):
        folder = write_language_model(tmp_path / str(steps), TEXTS, seed=0, text_steps=steps)
        model = transformers.LlamaForCausalLM.from_pretrained(folder)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, use_fast=False)
        ids = torch.tensor([tokenizer(TEXTS[0]).input_ids])
        losses.append(model(input_ids=ids, labels=ids).loss.item())
    assert losses[1] < 0.8 * losses[0]


def test_other_sizes_reach_the_files(tmp_path):
    sizes = TinySizes(hidden=32, layers=1, heads=2, image_side=32, vision_layers=4)
    files = write_miniature(tmp_path, TEXTS, seed=0, sizes=sizes)
    model = transformers.AutoConfig.from_pretrained(files.language_model)
    assert (model.hidden_size, model.num_hidden_layers) == (32, 1)
    tower = transformers.CLIPVisionConfig.from_pretrained(files.vision_tower)
    assert (tower.image_size, tower.num_hidden_layers) == (32, 4)
    with pytest.raises(ValueError, match="expected the weights of"):
        largest_weight_difference(files.projector, write_projector(tmp_path / "p.bin", seed=0))


def test_weights_that_are_not_numbers_differ_infinitely(tmp_path):
    file = write_projector(tmp_path / "good.bin", seed=0)
    weights = torch.load(file, weights_only=True)
    weights["model.mm_projector.0.bias"][0] = float("nan")
    torch.save(weights, tmp_path / "bad.bin")
    assert largest_weight_difference(file, tmp_path / "bad.bin") == float("inf")


def test_sizes_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(ValueError, match="image_side: expected a multiple of patch_side 16"):
        write_vision_tower(tmp_path, seed=0, sizes=TinySizes(image_side=50))
    with pytest.raises(ValueError, match="vision_layers: expected 2 or more, found 1"):
        write_vision_tower(tmp_path, seed=0, sizes=TinySizes(vision_layers=1))
    with pytest.raises(ValueError, match="texts: expected sentences"):
        write_language_model(tmp_path, [" "], seed=0)
