"""Tiny checkpoints that LLaVA's trainer loads: a LLaMA, a CLIP vision tower, a projector.

Torch and transformers are imported by the functions that need them. The global random state is
left as it was found.
"""

import contextlib
import io
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Iterator, List, Optional, Sequence

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

UNKNOWN_ID, BOS_ID, EOS_ID = 0, 1, 2
_IGNORED_LABEL = -100
_TEXT_BATCH = 32
_TEXT_LEARNING_RATE = 3e-3


@dataclass(frozen=True)
class TinySizes:
    """Sizes of the miniature. `vocabulary` is an upper limit: little text has fewer pieces.

    A picture becomes `(image_side / patch_side) ** 2` tokens. The tower needs two layers or more,
    as LLaVA reads the output of the last but one.
    """

    vocabulary: int = 512
    hidden: int = 64
    layers: int = 2
    heads: int = 4
    positions: int = 512
    image_side: int = 64
    patch_side: int = 16
    vision_hidden: int = 32
    vision_layers: int = 3
    vision_heads: int = 2


@dataclass(frozen=True)
class MiniatureFiles:
    """Folders of the language model and the vision tower, and the projector's file."""

    language_model: Path
    vision_tower: Path
    projector: Path


def write_miniature(
    folder: Path,
    texts: Sequence[str],
    *,
    seed: int,
    sizes: Optional[TinySizes] = None,
    text_steps: int = 0,
) -> MiniatureFiles:
    """Write all three checkpoints under `folder`; see the functions below.

    Upstream takes a model for an MPT where its path contains "mpt", in any folder's name. Train
    with a relative path where that may be so, as in a folder called "attempt".
    """
    sizes = sizes or TinySizes()
    return MiniatureFiles(
        language_model=write_language_model(
            folder / "language-model", texts, seed=seed, sizes=sizes, text_steps=text_steps
        ),
        vision_tower=write_vision_tower(folder / "vision-tower", seed=seed + 1, sizes=sizes),
        projector=write_projector(folder / "mm_projector.bin", seed=seed + 2, sizes=sizes),
    )


def write_language_model(
    folder: Path,
    texts: Sequence[str],
    *,
    seed: int,
    sizes: Optional[TinySizes] = None,
    text_steps: int = 0,
) -> Path:
    """Write a LLaMA in float32 with a SentencePiece tokenizer trained on `texts`.

    The tokenizer is built as LLaMA's: byte-pair pieces with byte fallback, so every text comes back
    from its tokens, unknown 0, begin 1, end 2, no padding token (LLaVA pads with unknown).

    Args:
        folder: made if it is missing.
        texts: sentences for the tokenizer and for `text_steps`.
        seed: decides the weights and the order of the texts.
        sizes: of the model; the defaults of `TinySizes` when absent.
        text_steps: optimiser steps of next-token prediction on `texts`, 32 a step. 0 leaves the
            random weights.

    Returns:
        `folder`.

    Raises:
        ValueError: `texts` is empty.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    if not any(text.strip() for text in texts):
        raise ValueError(
            f"texts: expected sentences to train the tokenizer on, found {len(texts)} empty ones."
            " Pass the texts of the data set."
        )
    sizes = sizes or TinySizes()
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = write_tokenizer(folder, texts, sizes)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=sizes.hidden,
        intermediate_size=2 * sizes.hidden,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        num_key_value_heads=sizes.heads,
        max_position_embeddings=sizes.positions,
        bos_token_id=BOS_ID,
        eos_token_id=EOS_ID,
    )
    with seeded(seed):
        model = LlamaForCausalLM(config).to(torch.float32)
    if text_steps:
        _train_on_texts(model, _tokens_of(folder, texts), steps=text_steps, seed=seed)
    model.save_pretrained(folder)
    return folder


def write_vision_tower(folder: Path, *, seed: int, sizes: Optional[TinySizes] = None) -> Path:
    """Write a CLIP vision model with random float32 weights, and its image processor.

    Upstream takes any existing path for a CLIP tower. The processor resizes the short side and
    crops the centre to `image_side` pixels.

    Returns:
        `folder`.

    Raises:
        ValueError: a size does not fit another.
    """
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel

    sizes = sizes or TinySizes()
    if sizes.image_side % sizes.patch_side:
        raise ValueError(
            f"image_side: expected a multiple of patch_side {sizes.patch_side}, found"
            f" {sizes.image_side}. Change one of them."
        )
    if sizes.vision_layers < 2:
        raise ValueError(
            f"vision_layers: expected 2 or more, found {sizes.vision_layers}. LLaVA reads the last"
            " but one."
        )
    config = CLIPVisionConfig(
        hidden_size=sizes.vision_hidden,
        intermediate_size=2 * sizes.vision_hidden,
        num_hidden_layers=sizes.vision_layers,
        num_attention_heads=sizes.vision_heads,
        image_size=sizes.image_side,
        patch_size=sizes.patch_side,
        projection_dim=sizes.vision_hidden,
    )
    folder.mkdir(parents=True, exist_ok=True)
    with seeded(seed):
        CLIPVisionModel(config).save_pretrained(folder)
    CLIPImageProcessor(
        size={"shortest_edge": sizes.image_side},
        crop_size={"height": sizes.image_side, "width": sizes.image_side},
    ).save_pretrained(folder)
    return folder


def write_projector(file: Path, *, seed: int, sizes: Optional[TinySizes] = None) -> Path:
    """Write the initial weights of an `mlp2x_gelu` projector, for `--pretrain_mm_mlp_adapter`.

    Upstream draws its projector before it seeds, so two of its runs start apart without this file.
    Keys and layout are those of the `mm_projector.bin` that upstream saves:
    `model.mm_projector.{0,2}.{weight,bias}`, weights `[hidden, vision_hidden]` and
    `[hidden, hidden]`, float32.

    Returns:
        `file`.
    """
    import torch
    from torch import nn

    sizes = sizes or TinySizes()
    with seeded(seed):
        layers = nn.Sequential(
            nn.Linear(sizes.vision_hidden, sizes.hidden),
            nn.GELU(),
            nn.Linear(sizes.hidden, sizes.hidden),
        )
    file.parent.mkdir(parents=True, exist_ok=True)
    weights = {f"model.mm_projector.{key}": value for key, value in layers.state_dict().items()}
    torch.save(weights, file)
    return file


def largest_weight_difference(first: Path, second: Path) -> float:
    """Return the largest absolute difference of the weights in two `mm_projector.bin` files.

    0.0 means equal, bit for bit but for the sign of zero; a weight that is not a number makes the
    result infinite.

    Raises:
        ValueError: the files hold other names or shapes.
    """
    import torch

    left = torch.load(first, map_location="cpu", weights_only=True)
    right = torch.load(second, map_location="cpu", weights_only=True)
    shapes = [{key: tuple(value.shape) for key, value in side.items()} for side in (left, right)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"{second}: expected the weights of {first}, {shapes[0]}, found {shapes[1]}. Compare"
            " projectors of one kind."
        )
    largest = 0.0
    for key, value in left.items():
        difference = float((value.double() - right[key].double()).abs().max())
        largest = max(largest, difference if math.isfinite(difference) else math.inf)
    return largest


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from `seed` on the CPU, and put torch's random state back afterwards."""
    import torch

    # Everything is drawn on the CPU: `torch.manual_seed` would reseed accelerators as well.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def write_tokenizer(folder: Path, texts: Sequence[str], sizes: TinySizes) -> int:
    """Write a SentencePiece tokenizer in LLaMA's files, trained on `texts`; see the model's writer.

    Returns:
        the number of pieces, which may be less than `sizes.vocabulary`.
    """
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=model,
        vocab_size=sizes.vocabulary,
        hard_vocab_limit=False,
        model_type="bpe",
        byte_fallback=True,
        split_digits=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        character_coverage=1.0,
        unk_id=UNKNOWN_ID,
        bos_id=BOS_ID,
        eos_id=EOS_ID,
        pad_id=-1,
        minloglevel=2,
    )
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    # Written by hand: the class that writes these files differs between releases of transformers.
    special = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    settings = {
        **special,
        "tokenizer_class": "LlamaTokenizer",
        "add_bos_token": True,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "legacy": False,
        "model_max_length": sizes.positions,
    }
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=1) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1) + "\n")
    pieces = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    return int(pieces.get_piece_size())


def _tokens_of(folder: Path, texts: Sequence[str]) -> List[List[int]]:
    import sentencepiece

    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    return [[BOS_ID, *pieces.encode(text + "\n")] for text in texts]


def _train_on_texts(
    model: "LlamaForCausalLM", sequences: Sequence[List[int]], *, steps: int, seed: int
) -> None:
    import torch
    from torch.nn.utils.rnn import pad_sequence

    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=_TEXT_LEARNING_RATE, weight_decay=0.0)
    model.train()
    for _ in range(steps):
        chosen = torch.randint(len(sequences), (_TEXT_BATCH,), generator=generator)
        rows = [torch.tensor(sequences[i]) for i in chosen.tolist()]
        labels = pad_sequence(rows, batch_first=True, padding_value=_IGNORED_LABEL)
        mask = labels.ne(_IGNORED_LABEL)
        inputs = labels.masked_fill(~mask, UNKNOWN_ID)
        loss = model(input_ids=inputs, attention_mask=mask.long(), labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
