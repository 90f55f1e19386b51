"""The patch of ShareGPT4V on the classes of the real checkout, or of its stand-in.

REGAP_SHARE4V_SRC=path/to/ShareGPT4V pytest tests/patches/test_share4v.py
"""

from typing import Any, Dict, Iterator, List, Tuple

import pytest

torch = pytest.importorskip("torch", reason="pip install torch")
transformers = pytest.importorskip("transformers", reason="pip install transformers")
pytest.importorskip("accelerate", reason="Trainer needs it: pip install accelerate")

from upstream import share4v_source

share4v_source.make_importable()

from share4v.model.language_model.share4v_llama import Share4VConfig, Share4VLlamaForCausalLM
from share4v.model.share4v_arch import Share4VMetaForCausalLM

from regap_patches.sharegpt4v import ShareGPT4V
from regap_plugin.config import ReGapConfig
from regap_plugin.errors import InactiveRegularizerError, UpstreamShapeError

IMAGE, IGNORED, PADDING = -200, -100, 0
IMAGE_TOKENS, HIDDEN = 4, 8


class Tower(torch.nn.Module):
    """Stands in for CLIP: each "picture" [4, 3] is its own patch features."""

    def forward(self, images: Any) -> Any:
        return images


@pytest.fixture
def model() -> Any:
    torch.manual_seed(0)
    config = Share4VConfig(
        vocab_size=32,
        hidden_size=HIDDEN,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        pad_token_id=None,
    )
    built = Share4VLlamaForCausalLM(config)
    built.model.vision_tower = Tower()
    built.model.mm_projector = torch.nn.Linear(3, HIDDEN)
    return built.eval()


@pytest.fixture
def upstream() -> Iterator[ShareGPT4V]:
    patch = ShareGPT4V()
    yield patch
    patch.revert()


def batch(rows: List[List[int]], *, side: str = "right") -> Dict[str, Any]:
    """Rows of token ids; captions (ids of 10 and above) carry labels; padded to one length."""
    length = max(map(len, rows))
    pictures = sum(max(1, row.count(IMAGE)) for row in rows)
    generator = torch.Generator().manual_seed(1)

    def padded(row: List[int], filler: int) -> List[int]:
        rest = [filler] * (length - len(row))
        return row + rest if side == "right" else rest + row

    ids = torch.tensor([padded(row, PADDING) for row in rows])
    labels = [padded([i if i >= 10 else IGNORED for i in row], IGNORED) for row in rows]
    return {
        "input_ids": ids,
        "labels": torch.tensor(labels),
        "attention_mask": ids.ne(PADDING),
        "images": torch.randn(pictures, IMAGE_TOKENS, 3, generator=generator),
    }


def expected(
    rows: List[List[int]],
) -> Tuple[List[List[bool]], List[List[bool]], List[List[int]]]:
    """Masks and labels by counting, from the definition alone.

    Padding tokens keep their places; rows that are still shorter are filled up on the right.
    """
    length = max(map(len, rows))
    kinds = []
    for row in rows:
        kind: List[Tuple[bool, bool, int]] = []
        for token in row:
            if token == IMAGE:
                kind += [(True, False, IGNORED)] * IMAGE_TOKENS
            else:
                kind.append((False, True, token if token >= 10 else IGNORED))
        kinds.append(kind + [(False, False, IGNORED)] * (length - len(row)))
    longest = max(map(len, kinds))
    for kind in kinds:
        kind += [(False, False, IGNORED)] * (longest - len(kind))
    images, texts, labels = zip(*(zip(*kind) for kind in kinds))
    return [list(m) for m in images], [list(m) for m in texts], [list(m) for m in labels]


ROWS = {
    "one image each": [[1, IMAGE, 10, 11, 12], [1, IMAGE, 13]],
    "equal lengths": [[1, IMAGE, 10, 11], [1, IMAGE, 12, 13]],
    "image first": [[IMAGE, 10, 11], [IMAGE, 12, 13, 14, 15, 16, 17]],
    "image last": [[1, 10, IMAGE], [1, IMAGE, 10, 11, 12, 13]],
    "text-only beside an image": [[1, IMAGE, 10, 11], [1, 2, 12, 13, 14, 15, 16, 17]],
    "short text-only beside an image": [[1, IMAGE, 10, 11, 12, 13], [1, 14]],
    "text-only first, then images": [[1, 10], [1, IMAGE, 11], [2, 12, 13], [1, IMAGE, 14, 15]],
    "no image at all": [[1, 10, 11], [1, 12]],
    "several images": [[1, IMAGE, 2, IMAGE, 10], [1, IMAGE, 11]],
    "two images side by side": [[1, IMAGE, IMAGE, 10], [1, 2, 3, 4, 5, 11]],
    "caption of no tokens": [[1, IMAGE], [1, IMAGE, 10, 11]],
}


@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
def test_tokens_are_where_counting_finds_them(
    model: Any, upstream: ShareGPT4V, rows: List[List[int]]
) -> None:
    given = batch(rows)
    images, texts, labels = expected(rows)
    located = upstream.locate_tokens(model, given)
    assert located.image_mask.tolist() == images
    assert located.text_mask.tolist() == texts
    assert located.labels is not None
    assert located.labels.tolist() == labels
    # Upstream's own answer, asked with the true labels.
    _, mask, _, embeds, own_labels = model.prepare_inputs_labels_for_multimodal(
        given["input_ids"], given["attention_mask"], None, given["labels"], given["images"]
    )
    assert torch.equal(located.labels, own_labels)
    assert torch.equal(located.attention_mask, mask)
    assert torch.equal(located.embeddings, embeds)
    features = model.model.mm_projector(given["images"]).flatten(0, 1)
    for row in located.embeddings[located.image_mask]:
        assert torch.isclose(features, row).all(1).any()
    table = model.get_input_embeddings().weight
    for row in located.embeddings[located.text_mask]:
        assert torch.isclose(table, row).all(1).any()


def test_padding_stays_as_embeddings_and_belongs_to_neither(
    model: Any, upstream: ShareGPT4V
) -> None:
    located = upstream.locate_tokens(model, batch([[1, IMAGE, 10, 11, 12], [1, IMAGE, 13]]))
    assert located.embeddings is not None
    padding = located.embeddings[1, -2:]
    assert torch.equal(padding, model.get_input_embeddings().weight[PADDING].expand(2, -1))
    assert not (located.image_mask | located.text_mask | located.attention_mask)[1, -2:].any()


def test_a_list_of_image_groups(model: Any, upstream: ShareGPT4V) -> None:
    """Two pictures as one placeholder's rows, as upstream flattens 5-dimensional images."""
    given = batch([[1, IMAGE, 10], [1, IMAGE, 11]])
    pictures = torch.randn(3, IMAGE_TOKENS, 3)
    given["images"] = [pictures[:2], pictures[2:]]
    located = upstream.locate_tokens(model, given)
    assert located.image_mask.sum(1).tolist() == [2 * IMAGE_TOKENS, IMAGE_TOKENS]
    assert located.text_mask.sum(1).tolist() == [2, 2]
    features = model.model.mm_projector(pictures).flatten(0, 1)
    assert torch.equal(located.embeddings[located.image_mask], features)


def test_start_and_end_markers_are_text(model: Any, upstream: ShareGPT4V) -> None:
    """The branch of `--mm_use_im_start_end` with a frozen LLM places the same tokens."""
    model.config.tune_mm_mlp_adapter = True
    model.config.mm_use_im_start_end = True
    rows = [[1, 8, IMAGE, 9, 10, 11], [1, 8, IMAGE, 9, 8, IMAGE, 9, 12]]
    images, texts, labels = expected(rows)
    located = upstream.locate_tokens(model, batch(rows))
    assert located.image_mask.tolist() == images
    assert located.text_mask.tolist() == texts
    assert located.labels is not None
    assert located.labels.tolist() == labels


def test_padding_on_the_left_is_refused(model: Any, upstream: ShareGPT4V) -> None:
    """Upstream's own mask is off there by the image's tokens; its collator pads on the right."""
    given = batch([[1, IMAGE, 10, 11, 12], [1, IMAGE, 13]], side="left")
    with pytest.raises(ValueError, match="expected a merged attention mask that is true where"):
        upstream.locate_tokens(model, given)


@pytest.mark.parametrize("missing", ["labels", "attention_mask"])
def test_what_a_batch_may_lack(model: Any, upstream: ShareGPT4V, missing: str) -> None:
    rows = [[1, IMAGE, 10, 11], [1, IMAGE, 12, 13]]
    given = {**batch(rows), missing: None}
    images, texts, _ = expected(rows)
    located = upstream.locate_tokens(model, given)
    assert located.image_mask.tolist() == images
    assert located.text_mask.tolist() == texts
    assert (located.labels is None) == (missing == "labels")


def test_a_batch_without_images_has_text_only(model: Any, upstream: ShareGPT4V) -> None:
    given = {**batch([[1, 10, 11], [1, 12]]), "images": None}
    located = upstream.locate_tokens(model, given)
    assert located.embeddings is None
    assert not located.image_mask.any()
    assert torch.equal(located.text_mask, given["attention_mask"])
    assert located.labels is given["labels"]


def started(upstream: ShareGPT4V, **settings: Any) -> Any:
    upstream.start(ReGapConfig(**{"weight": 2.0, "alpha": 3.0, **settings}))
    assert upstream.run is not None
    upstream.run.begin(warmup_steps=0)
    return upstream.run


@pytest.mark.parametrize("text_tokens", ["labels", "all"])
@pytest.mark.parametrize("layer", [0, 1, 2])
def test_the_loss_is_lm_plus_the_gap_by_loops(
    model: Any, upstream: ShareGPT4V, layer: int, text_tokens: str
) -> None:
    given = batch([[1, IMAGE, 10, 11, 12], [1, IMAGE, 13]])
    plain = model(**given, output_hidden_states=True)
    started(upstream, layer=layer, text_tokens=text_tokens)
    model.train()
    outputs = model(**given)
    assert outputs.hidden_states is None
    states, first = plain.hidden_states[layer], 1 + IMAGE_TOKENS
    gaps = []
    for row, captions in ((states[0], 3), (states[1], 1)):  # behind them stands padding
        texts = [*row[first : first + captions], *(row[:1] if text_tokens == "all" else ())]
        distances = [(image - text).norm() for image in row[1:first] for text in texts]
        gaps.append(torch.stack(distances).mean())
    expected_loss = plain.loss + 2.0 * 3.0 * torch.stack(gaps).mean()
    assert outputs.loss.item() == pytest.approx(expected_loss.item(), rel=1e-5)


@pytest.mark.parametrize("detach", [True, False])
def test_the_gradient_reaches_the_embedding_table_only_when_asked(
    model: Any, upstream: ShareGPT4V, detach: bool
) -> None:
    """The gap's own gradient: that of the whole loss less that of L_LM."""
    given = batch([[1, IMAGE, 10, 11, 12], [1, IMAGE, 13]])
    model.train()
    table, projector = model.get_input_embeddings().weight, model.model.mm_projector.weight
    before = torch.autograd.grad(model(**given).loss, [table, projector])
    # What it should be, from the definition, with gradients to both sides.
    located = upstream.locate_tokens(model, given)
    gaps = []
    for row, captions in ((located.embeddings[0], 3), (located.embeddings[1], 1)):
        first = 1 + IMAGE_TOKENS
        texts = row[first : first + captions]
        gaps.append(torch.stack([(i - t).norm() for i in row[1:first] for t in texts]).mean())
    wanted = torch.autograd.grad(6.0 * torch.stack(gaps).mean(), [table, projector])
    started(upstream, detach_text=detach)
    after = torch.autograd.grad(model(**given).loss, [table, projector])
    by_gap = [one - other for one, other in zip(after, before)]
    torch.testing.assert_close(by_gap[1], wanted[1], rtol=1e-4, atol=1e-5)
    if detach:
        assert not by_gap[0].any()
    else:
        torch.testing.assert_close(by_gap[0], wanted[0], rtol=1e-4, atol=1e-5)
        assert by_gap[0][10:14].any(1).all()  # the captions, of both samples
        assert not by_gap[0][PADDING].any()


@pytest.mark.parametrize(
    ("trained", "refused"),
    [("mm_projector", False), ("vision_tower", False), ("embed_tokens", True), ("lm_head", True)],
)
def test_what_must_be_trained(
    model: Any, upstream: ShareGPT4V, trained: str, refused: bool
) -> None:
    model.model.vision_tower.layers = torch.nn.Linear(2, 2)
    for name, parameter in model.named_parameters():
        parameter.requires_grad = trained in name
    started(upstream)
    if refused:
        with pytest.raises(InactiveRegularizerError, match="trained projector or vision tower"):
            upstream._check_model(model)
    else:
        upstream._check_model(model)


def originals() -> Tuple[Any, ...]:
    return (
        transformers.HfArgumentParser.__init__,
        transformers.HfArgumentParser.parse_args_into_dataclasses,
        transformers.Trainer.__init__,
        transformers.Trainer.log,
        Share4VLlamaForCausalLM.forward,
        Share4VMetaForCausalLM.prepare_inputs_labels_for_multimodal,
    )


def test_revert_restores_the_same_objects(upstream: ShareGPT4V) -> None:
    before = originals()
    upstream.apply()
    upstream.apply()
    upstream.start(ReGapConfig(weight=0.5))
    assert all(one is not other for one, other in zip(before, originals()))
    upstream.revert()
    assert all(one is other for one, other in zip(before, originals()))


def test_evaluation_goes_past_the_patch(model: Any, upstream: ShareGPT4V) -> None:
    given = batch([[1, IMAGE, 10, 11]])
    before = model(**given).loss
    started(upstream)
    assert torch.equal(model(**given).loss, before)


def test_the_training_sees_what_upstream_made(model: Any, upstream: ShareGPT4V) -> None:
    """At weight 0 the loss is the very number, for rows of unequal length as well."""
    given = batch(ROWS["text-only first, then images"])
    before = model(**given).loss
    started(upstream, weight=0.0)
    model.train()
    assert torch.equal(model(**given).loss, before)


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (Share4VLlamaForCausalLM, "forward"),
        (Share4VMetaForCausalLM, "prepare_inputs_labels_for_multimodal"),
    ],
)
def test_another_shape_is_refused(
    upstream: ShareGPT4V, monkeypatch: pytest.MonkeyPatch, owner: type, name: str
) -> None:
    def changed(self: Any, input_ids: Any, pixels: Any) -> None:
        raise AssertionError("never called")

    monkeypatch.setattr(owner, name, changed)
    before = originals()
    with pytest.raises(
        UpstreamShapeError,
        match=rf"{owner.__name__}.{name}: expected the parameters \(self, input_ids, "
        r"attention_mask, .*\), found \(self, input_ids, pixels\)",
    ):
        upstream.start(ReGapConfig(weight=0.5))
    assert originals() == before
