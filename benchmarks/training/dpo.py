"""Direct preference optimisation of a checkpoint that transformers loads, by TRL.

DPO: Rafailov et al., 2023, arXiv 2305.18290; `trl.DPOTrainer` does the work.
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional, Sequence

from regap_benchmarks.environment import environment
from regap_benchmarks.official.check import sha256_of
from regap_benchmarks.training.preference_pairs import read_preference_pairs

RECORD = "regap_dpo.json"


@dataclass(frozen=True)
class DpoSettings:
    """What decides the training.

    Attributes:
        beta: weight of the distance to the starting model; larger stays closer.
        learning_rate: of AdamW, cosine schedule.
        epochs: over the pairs.
        batch_size: pairs on a device in one step.
        accumulation: steps whose gradients are summed.
        warmup_ratio: share of the steps.
        lora_rank: of adapters on all linear layers of the language model; 0 trains all of it.
        seed: of the order and of the adapters.
        max_steps: fewer steps than the epochs have; None for all of them.
        bf16: train in bfloat16 autocast.
    """

    beta: float = 0.1
    learning_rate: float = 1e-6
    epochs: float = 1.0
    batch_size: int = 1
    accumulation: int = 8
    warmup_ratio: float = 0.03
    lora_rank: int = 0
    seed: int = 0
    max_steps: Optional[int] = None
    bf16: bool = False


def train_dpo(
    model: Path,
    pairs: Sequence[Path],
    output: Path,
    settings: DpoSettings,
    *,
    images: Optional[Path] = None,
) -> None:
    """Train, and write the checkpoint with its processor and what it was made of.

    The vision tower and the projector stay as they are, so that what changes is the language
    model's behaviour. Started again, the same command goes on after the last saved step.

    Args:
        model: a folder of transformers' form; `regap-bench convert` makes one of upstream's.
        pairs: see `read_preference_pairs`.
        output: a folder; adapters are merged into the model that is written there.
        settings: all of them are recorded.
        images: folder of the pictures.

    Raises:
        ValueError, FileNotFoundError: of the pairs; a folder of another training.
    """
    record = {
        "model": str(model),
        "pairs": {path.name: sha256_of(path) for path in pairs},
        "settings": dataclasses.asdict(settings),
    }
    _check_output(output, record)
    dataset = read_preference_pairs(pairs, images=images)
    from transformers import AutoModelForImageTextToText, AutoProcessor
    from trl import DPOTrainer

    processor = AutoProcessor.from_pretrained(model)
    processor.tokenizer.padding_side = "left"
    policy = AutoModelForImageTextToText.from_pretrained(model, dtype="auto")
    for name, parameter in policy.named_parameters():
        if "vision_tower" in name or "multi_modal_projector" in name:
            parameter.requires_grad_(False)
    output.mkdir(parents=True, exist_ok=True)
    steps = output / "steps"
    (output / RECORD).write_text(
        json.dumps({**record, "environment": environment()}, indent=2) + "\n", encoding="utf-8"
    )
    trainer = DPOTrainer(
        model=policy,
        args=_arguments(steps, settings),
        train_dataset=dataset,
        processing_class=processor,
        peft_config=_adapters(settings),
    )
    trainer.train(resume_from_checkpoint=any(steps.glob("checkpoint-*")) or None)
    trained = trainer.model
    if settings.lora_rank:
        trained = trained.merge_and_unload()
    trained.save_pretrained(output)
    processor.save_pretrained(output)
    trainer.state.save_to_json(str(output / "trainer_state.json"))


def _arguments(folder: Path, settings: DpoSettings) -> Any:
    import torch
    from trl import DPOConfig

    return DPOConfig(
        output_dir=str(folder),
        beta=settings.beta,
        learning_rate=settings.learning_rate,
        num_train_epochs=settings.epochs,
        max_steps=settings.max_steps or -1,
        per_device_train_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.accumulation,
        lr_scheduler_type="cosine",
        warmup_steps=settings.warmup_ratio,
        bf16=settings.bf16,
        seed=settings.seed,
        max_length=None,  # the tokens of a picture must not be cut
        logging_steps=1,
        save_steps=50,
        save_total_limit=1,
        report_to="none",
        use_cpu=not torch.cuda.is_available(),
    )


def _adapters(settings: DpoSettings) -> Any:
    if not settings.lora_rank:
        return None
    from peft import LoraConfig

    return LoraConfig(
        r=settings.lora_rank,
        lora_alpha=2 * settings.lora_rank,
        target_modules=r".*language_model.*\.(q|k|v|o|gate|up|down)_proj",
        task_type="CAUSAL_LM",
    )


def _check_output(output: Path, record: Any) -> None:
    path = output / RECORD
    if not path.is_file():
        if output.exists() and any(output.iterdir()):
            raise ValueError(
                f"{output}: expected a new folder or one of this training, found other files."
                " Name another."
            )
        return
    found = json.loads(path.read_text(encoding="utf-8"))
    differing = [key for key in record if found.get(key) != record[key]]
    if differing:
        raise ValueError(
            f"{output}: expected the training that it holds, found another {', '.join(differing)}."
            " Name another folder, or the same settings to go on."
        )
