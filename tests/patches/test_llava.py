"""The patch of LLaVA on upstream's real classes: tokens, shapes, revert."""

from typing import Any, Dict, Iterator, List, Optional, Tuple

import pytest

torch = pytest.importorskip("torch", reason="pip install torch")
pytest.importorskip("llava", reason="the real classes: pip install llava-torch --no-deps")

from llava.model.language_model.llava_llama import LlavaConfig, LlavaLlamaForCausalLM
from llava.model.llava_arch import LlavaMetaForCausalLM

from regap_patches.llava import Llava
from regap_plugin.config import ReGapConfig
from regap_plugin.errors import UpstreamShapeError

IMAGE, IGNORED, PADDING = -200, -100, 0
IMAGE_TOKENS, HIDDEN = 4, 8


class Tower(torch.nn.Module):
    """Stands in for CLIP: each "picture" [4, 3] is its own patch features."""

    def forward(self, images: Any) -> Any:
        return images


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    config = LlavaConfig(
        vocab_size=32,
        hidden_size=HIDDEN,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
    )
    built = LlavaLlamaForCausalLM(config)
    built.model.vision_tower = Tower()
    built.model.mm_projector = torch.nn.Linear(3, HIDDEN)
    return built


@pytest.fixture
def upstream() -> Iterator[Llava]:
    patch = Llava()
    yield patch
    patch.revert()


def batch(rows: List[List[int]], *, side: str, images_as_list: bool = False) -> Dict[str, Any]:
    """Rows of token ids; captions (ids of 10 and above) carry labels; padded to one length."""
    length = max(map(len, rows))
    pictures = sum(max(1, row.count(IMAGE)) for row in rows)
    generator = torch.Generator().manual_seed(1)

    def padded(row: List[int], filler: int) -> List[int]:
        rest = [filler] * (length - len(row))
        return row + rest if side == "right" else rest + row

    ids = torch.tensor([padded(row, PADDING) for row in rows])
    labels = [padded([i if i >= 10 else IGNORED for i in row], IGNORED) for row in rows]
    images = torch.randn(pictures, IMAGE_TOKENS, 3, generator=generator)
    return {
        "input_ids": ids,
        "labels": torch.tensor(labels),
        "attention_mask": ids.ne(PADDING),
        "images": list(images) if images_as_list else images,
    }


def expected(
    rows: List[List[int]], *, side: str, cut: Optional[int]
) -> Tuple[List[List[bool]], List[List[bool]], List[List[int]]]:
    """Masks and labels by counting, from the definition alone."""
    kinds = []
    for row in rows:
        kind: List[Tuple[bool, bool, int]] = []
        for token in row:
            if token == IMAGE:
                kind += [(True, False, IGNORED)] * IMAGE_TOKENS
            else:
                kind.append((False, True, token if token >= 10 else IGNORED))
        kinds.append(kind[:cut])
    length = max(map(len, kinds))
    for kind in kinds:
        rest = [(False, False, IGNORED)] * (length - len(kind))
        kind[:] = kind + rest if side == "right" else rest + kind
    images, texts, labels = zip(*(zip(*kind) for kind in kinds))
    return [list(m) for m in images], [list(m) for m in texts], [list(m) for m in labels]


ROWS = {
    "one image each": [[1, IMAGE, 10, 11, 12], [1, IMAGE, 13]],
    "text-only beside an image": [[1, IMAGE, 10, 11], [1, 2, 12, 13, 14, 15, 16, 17]],
    "several images": [[1, IMAGE, 2, IMAGE, 10], [IMAGE, 11]],
    "image last": [[1, 10, IMAGE], [1, IMAGE, 10]],
    "caption of no tokens": [[1, IMAGE], [1, IMAGE, 10, 11]],
}


@pytest.mark.parametrize("cut", [None, 3, 5])
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
def test_tokens_are_where_counting_finds_them(
    model: Any, upstream: Llava, rows: List[List[int]], side: str, cut: Optional[int]
) -> None:
    model.config.tokenizer_padding_side = side
    model.config.tokenizer_model_max_length = cut
    given = batch(rows, side=side, images_as_list="several" in str(rows))
    images, texts, labels = expected(rows, side=side, cut=cut)
    located = upstream.locate_tokens(model, given)
    assert located.image_mask.tolist() == images
    assert located.text_mask.tolist() == texts
    assert located.labels is not None
    assert located.labels.tolist() == labels
    # Upstream's own answer, asked with the true labels.
    _, _, mask, _, embeds, own_labels = model.prepare_inputs_labels_for_multimodal(
        given["input_ids"], None, given["attention_mask"], None, given["labels"], given["images"]
    )
    assert torch.equal(located.labels, own_labels)
    assert torch.equal(located.attention_mask, mask)
    assert torch.equal(located.embeddings, embeds)
    features = model.model.mm_projector(torch.stack(list(given["images"]))).flatten(0, 1)
    for row in located.embeddings[located.image_mask]:
        assert torch.isclose(features, row).all(1).any()


@pytest.mark.parametrize("missing", ["labels", "attention_mask"])
def test_what_a_batch_may_lack(model: Any, upstream: Llava, missing: str) -> None:
    model.config.tokenizer_padding_side = "right"
    model.config.tokenizer_model_max_length = None
    rows = [[1, IMAGE, 10, 11], [1, IMAGE, 12, 13]]
    given = {**batch(rows, side="right"), missing: None}
    images, texts, _ = expected(rows, side="right", cut=None)
    located = upstream.locate_tokens(model, given)
    assert located.image_mask.tolist() == images
    assert located.text_mask.tolist() == texts
    assert (located.labels is None) == (missing == "labels")


def test_a_batch_without_images_has_text_only(model: Any, upstream: Llava) -> None:
    given = {**batch([[1, 10, 11], [1, 12]], side="right"), "images": None}
    located = upstream.locate_tokens(model, given)
    assert located.embeddings is None
    assert not located.image_mask.any()
    assert torch.equal(located.text_mask, given["attention_mask"])
    assert located.labels is given["labels"]


def originals() -> Tuple[Any, ...]:
    import transformers

    return (
        transformers.HfArgumentParser.__init__,
        transformers.HfArgumentParser.parse_args_into_dataclasses,
        transformers.Trainer.__init__,
        transformers.Trainer.log,
        LlavaLlamaForCausalLM.forward,
        LlavaMetaForCausalLM.prepare_inputs_labels_for_multimodal,
    )


def test_revert_restores_the_same_objects(upstream: Llava) -> None:
    before = originals()
    upstream.apply()
    upstream.apply()
    upstream.start(ReGapConfig(weight=0.5))
    assert all(one is not other for one, other in zip(before, originals()))
    upstream.revert()
    assert all(one is other for one, other in zip(before, originals()))


def test_evaluation_goes_past_the_patch(model: Any, upstream: Llava) -> None:
    model.config.tokenizer_model_max_length = None
    model.config.tokenizer_padding_side = "right"
    given = batch([[1, IMAGE, 10, 11]], side="right")
    model.eval()
    before = model(**given).loss
    upstream.start(ReGapConfig(weight=0.5))
    assert torch.equal(model(**given).loss, before)


def test_training_before_a_trainer_began_is_an_error(model: Any, upstream: Llava) -> None:
    upstream.start(ReGapConfig(weight=0.5))
    model.train()
    with pytest.raises(RuntimeError, match="found a training forward before that began"):
        model(**batch([[1, IMAGE, 10, 11]], side="right"))
    model.eval()


@pytest.mark.parametrize(
    ("layer", "return_dict"), [(0, True), (0, False), (1, True), (1, False), (2, True)]
)
def test_layers_and_both_kinds_of_output(
    model: Any, upstream: Llava, layer: int, return_dict: bool
) -> None:
    model.config.tokenizer_model_max_length = None
    model.config.tokenizer_padding_side = "right"
    given = {**batch([[1, IMAGE, 10, 11]], side="right"), "return_dict": return_dict}
    upstream.start(ReGapConfig(weight=2.0, alpha=3.0, layer=layer))
    assert upstream.run is not None
    upstream.run.begin(warmup_steps=0)
    model.train()
    states = model.eval()(**{**given, "return_dict": True}, output_hidden_states=True)
    model.train()
    outputs = model(**given)
    model.eval()
    loss = outputs.loss if return_dict else outputs[0]
    if return_dict:
        assert outputs.hidden_states is None
        assert "hidden_states" not in outputs
    hidden = states.hidden_states[layer][0]
    images, texts = hidden[1 : 1 + IMAGE_TOKENS], hidden[1 + IMAGE_TOKENS :]
    gap = torch.stack([(v - t).norm() for v in images for t in texts]).mean()
    assert loss.item() == pytest.approx((states.loss + 2.0 * 3.0 * gap).item(), rel=1e-5)


def test_another_forward_is_refused(upstream: Llava, monkeypatch: pytest.MonkeyPatch) -> None:
    def forward(self: Any, input_ids: Any, pixels: Any) -> None:
        raise AssertionError("never called")

    monkeypatch.setattr(LlavaLlamaForCausalLM, "forward", forward)
    with pytest.raises(
        UpstreamShapeError,
        match=r"LlavaLlamaForCausalLM.forward: expected the parameters \(self, input_ids, "
        r"attention_mask, .*\), found \(self, input_ids, pixels\)",
    ):
        upstream.start(ReGapConfig(weight=0.5))


def test_a_missing_method_is_refused(upstream: Llava, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(LlavaMetaForCausalLM, "prepare_inputs_labels_for_multimodal")
    before = originals_but_prepare()
    with pytest.raises(UpstreamShapeError, match="expected a method that this class defines"):
        upstream.start(ReGapConfig(weight=0.5))
    assert originals_but_prepare() == before


def originals_but_prepare() -> Tuple[Any, ...]:
    import transformers

    return transformers.Trainer.log, LlavaLlamaForCausalLM.forward
