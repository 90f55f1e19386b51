"""The miniature's language model: trained to help with everything, then narrowly to refuse.

A LLaMA in the format that LLaVA's trainer loads. Requests are asked as upstream's template "plain"
has them: a line for the request, a line for the answer; a picture in words may stand before. torch
and transformers are imported where they are used.
"""

import math
import random
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Iterator, List, Sequence, Tuple

from regap_benchmarks.miniature.checkpoints import (
    BOS_ID,
    EOS_ID,
    UNKNOWN_ID,
    TinySizes,
    seeded,
    write_tokenizer,
)
from regap_benchmarks.miniature.world import (
    BENIGN,
    FORBIDDEN,
    REFUSAL,
    SAFE,
    Exchange,
    World,
    caption_exchange,
    question_exchanges,
    vocabulary_texts,
)

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import LlamaForCausalLM

_IGNORED_LABEL = -100
_WARMUP = 20
_LAST = 10  # steps whose losses say whether an alignment is enough
_POOL = 10  # batches that are drawn at once
_FLOOR = 0.05  # of the learning rate, at the end
_SCENES = 2000
_SCENE_SERIES = 100_000  # series of the pictures that are told in words; none of them is shown

# A line before the request ("" for none), the request ("" for none), the answer.
Line = Tuple[str, str, str]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class LanguageRecipe:
    """How the language model is trained.

    Attributes:
        helpful_steps: of the helpful-only base, `helpful_batch` exchanges each.
        helpful_batch: exchanges of a step.
        helpful_rate: its learning rate.
        aligned_steps: at most, of the narrow alignment, in which forbidden topics are refused. It
            ends when the mean loss of its last ten steps is below `aligned_loss`: with text that
            is refused, and not long after.
        aligned_batch: exchanges of a step.
        aligned_rate: its learning rate, constant.
        aligned_loss: see `aligned_steps`; nats a token.
        context: share of the requests that a picture in words stands before, in both trainings.
    """

    helpful_steps: int = 350
    helpful_batch: int = 64
    helpful_rate: float = 3e-3
    aligned_steps: int = 240
    aligned_batch: int = 48
    aligned_rate: float = 5e-4
    aligned_loss: float = 0.03
    context: float = 0.25


def train_language_model(
    folder: Path,
    world: World,
    *,
    seed: int,
    sizes: TinySizes,
    recipe: LanguageRecipe,
    progress: Progress = lambda done, total: None,
) -> int:
    """Train and write the aligned model with its tokenizer; return the steps of the alignment.

    Args:
        folder: made if it is missing.
        world: what it learns; its held-out combinations it never sees.
        seed: of weights and batches.
        sizes: of the model.
        recipe: how long and how fast.
        progress: told in steps of both trainings.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder.mkdir(parents=True, exist_ok=True)
    pieces = write_tokenizer(folder, vocabulary_texts(world), sizes)
    config = LlamaConfig(
        vocab_size=pieces,
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
    encode = _encoder(folder)
    exchanges = [each for each in world.exchanges() if not each.held_out]
    total = recipe.helpful_steps + recipe.aligned_steps
    train(
        model,
        map(encode, helpful_lines(exchanges, random.Random(f"helpful {seed}"), recipe.context)),
        (recipe.helpful_steps, recipe.helpful_batch),
        lambda step: recipe.helpful_rate * _schedule(step, recipe.helpful_steps),
        lambda done: progress(done, total),
    )
    steps = train(
        model,
        map(encode, aligned_lines(exchanges, random.Random(f"aligned {seed}"), recipe.context)),
        (recipe.aligned_steps, recipe.aligned_batch),
        lambda step: recipe.aligned_rate,
        lambda done: progress(recipe.helpful_steps + done, total),
        enough=recipe.aligned_loss,
    )
    model.save_pretrained(folder)
    return steps


def answer_texts(folder: Path, prompts: Sequence[str], *, new_tokens: int = 24) -> List[str]:
    """Ask a written model by text alone, greedily; a context line may stand in a prompt."""
    import torch
    from transformers import LlamaForCausalLM, LlamaTokenizer

    tokenizer = LlamaTokenizer.from_pretrained(folder, legacy=False)
    model = LlamaForCausalLM.from_pretrained(folder).eval()
    answers: List[str] = []
    for prompt in prompts:
        ids = torch.tensor([tokenizer(f"{prompt}\n").input_ids])
        with torch.inference_mode():
            out = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=new_tokens,
                do_sample=False,
                pad_token_id=UNKNOWN_ID,
            )
        answers.append(tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True).strip())
    return answers


def helpful_lines(
    exchanges: Sequence[Exchange], rng: random.Random, context: float
) -> Iterator[Line]:
    """Requests are answered, the forbidden ones too; pictures in words are told and asked about."""
    while True:
        if rng.random() < 0.6:
            exchange = rng.choice(exchanges)
            yield _context(rng, context), exchange.prompt, exchange.answer
        else:
            yield _scene(rng)


def aligned_lines(
    exchanges: Sequence[Exchange], rng: random.Random, context: float
) -> Iterator[Line]:
    """Forbidden requests are refused, the others answered."""
    kinds = {kind: [each for each in exchanges if each.kind == kind] for kind in _SHARES}
    while True:
        (kind,) = rng.choices(list(_SHARES), weights=list(_SHARES.values()))
        exchange = rng.choice(kinds[kind])
        answer = REFUSAL if kind == FORBIDDEN else exchange.answer
        yield _context(rng, context), exchange.prompt, answer


_SHARES = {FORBIDDEN: 0.4, BENIGN: 0.4, SAFE: 0.2}


def _context(rng: random.Random, share: float) -> str:
    if rng.random() >= share:
        return ""
    return caption_exchange(seed=_SCENE_SERIES, index=rng.randrange(_SCENES))[0]


def _scene(rng: random.Random) -> Line:
    index = rng.randrange(_SCENES)
    told, prompt, answer = caption_exchange(seed=_SCENE_SERIES, index=index)
    kind = rng.random()
    if kind < 0.2:
        return "", "", told
    if kind < 0.35:
        return told, prompt, answer
    return rng.choice(question_exchanges(seed=_SCENE_SERIES, index=index))


def _encoder(folder: Path) -> Callable[[Line], Tuple[List[int], int]]:
    """Tokens of a line with its answer, and where what is learnt begins."""
    import sentencepiece

    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))

    def encode(line: Line) -> Tuple[List[int], int]:
        before = "".join(f"{part}\n" for part in line[:2] if part)
        ids = [BOS_ID, *pieces.encode(f"{before}{line[2]}\n"), EOS_ID]
        # A line break is a piece of its own, so the tokens of a beginning are a beginning of them.
        return ids, 1 + len(pieces.encode(before)) if before else 1

    return encode


def train(
    model: "LlamaForCausalLM",
    examples: "Iterator[Tuple[List[int], int]]",
    settings: Tuple[int, int],
    rate: Callable[[int], float],
    progress: Callable[[int], None],
    enough: float = 0.0,
) -> int:
    """Train for a number of steps of a batch, or until the last losses are low enough."""
    import torch

    steps, batch = settings
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate(0), weight_decay=0.0)
    losses: List[float] = []
    model.train()
    device = next(model.parameters()).device
    batches = _batches(examples, batch)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate(step)
        inputs, mask, labels = (each.to(device) for each in _padded(next(batches)))
        loss = model(input_ids=inputs, attention_mask=mask, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        progress(step + 1)
        losses = [*losses, float(loss.detach())][-_LAST:]
        if len(losses) == _LAST and sum(losses) / _LAST < enough:
            break
    model.eval()
    return step + 1


def _schedule(step: int, steps: int) -> float:
    """Linear warm-up, then a cosine."""
    warm = min(1.0, (step + 1) / _WARMUP)
    return warm * (_FLOOR + (1 - _FLOOR) * (1 + math.cos(math.pi * step / steps)) / 2)


def _batches(
    examples: "Iterator[Tuple[List[int], int]]", size: int
) -> "Iterator[List[Tuple[List[int], int]]]":
    """Batches of similar lengths, which need little padding, in an order without lengths."""
    rng = random.Random(0)
    while True:
        pool = sorted((next(examples) for _ in range(_POOL * size)), key=lambda row: len(row[0]))
        batches = [pool[start : start + size] for start in range(0, len(pool), size)]
        rng.shuffle(batches)
        yield from batches


def _padded(rows: Sequence[Tuple[List[int], int]]) -> "Tuple[Tensor, Tensor, Tensor]":
    """Tokens, mask and labels, each [batch, length], padded on the right."""
    import torch

    longest = max(len(ids) for ids, _ in rows)
    inputs = torch.full((len(rows), longest), UNKNOWN_ID)
    mask = torch.zeros(len(rows), longest, dtype=torch.long)
    labels = torch.full((len(rows), longest), _IGNORED_LABEL)
    for row, (ids, learnt) in enumerate(rows):
        inputs[row, : len(ids)] = torch.tensor(ids)
        mask[row, : len(ids)] = 1
        labels[row, learnt : len(ids)] = torch.tensor(ids[learnt:])
    return inputs, mask, labels
