"""The trainings of LLaVA that the plugin is held to: name, script, launcher, flags, shims."""

from dataclasses import dataclass, field
from typing import Any, Dict, Tuple

# Integer bucket sizes: "auto" turns into floats that DeepSpeed rejects on so small a model.
ZERO2: Dict[str, Any] = {
    "train_micro_batch_size_per_gpu": "auto",
    "train_batch_size": "auto",
    "gradient_accumulation_steps": "auto",
    "fp16": {"enabled": "auto"},
    "bf16": {"enabled": "auto"},
    "zero_optimization": {
        "stage": 2,
        "overlap_comm": False,
        "contiguous_gradients": True,
        "reduce_bucket_size": 100000,
        "allgather_bucket_size": 100000,
    },
    "zero_allow_untested_optimizer": True,
}
ZERO3: Dict[str, Any] = {
    **ZERO2,
    "zero_optimization": {
        "stage": 3,
        "overlap_comm": False,
        "contiguous_gradients": True,
        "reduce_bucket_size": 100000,
        "stage3_prefetch_bucket_size": 100000,
        "stage3_param_persistence_threshold": 1000,
        "stage3_gather_16bit_weights_on_model_save": True,
    },
}


@dataclass(frozen=True)
class Case:
    """One training of upstream.

    Attributes:
        name: in reports.
        stage: 1 (captions, projector only) or 2 (conversations, LLM too).
        flags: changed or added to the stage's own.
        script: `train.py` or `train_mem.py`.
        launcher: python, torchrun or deepspeed.
        zero: DeepSpeed configuration, if any.
        options: for driver.py.
        environment: variables to set.
        representative: run with the ordinary tests, not only in the whole matrix.
        resume: train to a checkpoint first, then go on from it.
        device: cpu or cuda.
    """

    name: str
    stage: int = 1
    flags: Dict[str, str] = field(default_factory=dict)
    script: str = "train.py"
    launcher: str = "python"
    zero: Dict[str, Any] = field(default_factory=dict)
    options: Dict[str, Any] = field(default_factory=dict)
    environment: Dict[str, str] = field(default_factory=dict)
    representative: bool = False
    resume: bool = False
    device: str = "cpu"

    @property
    def processes(self) -> int:
        """How many ranks train."""
        return 1 if self.launcher == "python" else 2


_LORA = {"lora_enable": "True", "lora_r": "4", "lora_alpha": "8"}
_DEEPSPEED: Dict[str, Any] = {
    "zero": ZERO2,
    "options": {"deepspeed": True},
    "environment": {"ACCELERATE_TORCH_DEVICE": "cpu", "DS_ACCELERATOR": "cpu"},
}
_ZERO3: Dict[str, Any] = {**_DEEPSPEED, "zero": ZERO3}

CASES: Tuple[Case, ...] = (
    Case("stage 1, fp32", representative=True),
    Case(
        "stage 1, bf16, gradient checkpointing, accumulation",
        flags={
            "bf16": "True",
            "gradient_checkpointing": "True",
            "gradient_accumulation_steps": "2",
        },
        representative=True,
    ),
    Case("stage 1, bf16", flags={"bf16": "True"}),
    Case("stage 1, gradient checkpointing", flags={"gradient_checkpointing": "True"}),
    Case("stage 1, accumulation", flags={"gradient_accumulation_steps": "2"}),
    Case("stage 1, data workers", flags={"dataloader_num_workers": "2"}),
    Case("stage 1, captions cut", flags={"model_max_length": "20"}),
    Case("stage 1, linear projector", flags={"mm_projector_type": "linear"}),
    Case("stage 1, train_mem.py", script="train_mem.py", options={"no_attention": True}),
    Case("stage 1, LoRA", flags=_LORA),
    Case("stage 1, torchrun", launcher="torchrun", representative=True),
    Case(
        "stage 1, torchrun, bf16, accumulation",
        flags={"bf16": "True", "gradient_accumulation_steps": "2"},
        launcher="torchrun",
    ),
    Case("stage 1, deepspeed launcher, ZeRO-2", launcher="deepspeed", **_DEEPSPEED),
    Case("stage 1, torchrun, ZeRO-2", launcher="torchrun", representative=True, **_DEEPSPEED),
    Case(
        "stage 1, torchrun, ZeRO-2, bf16, gradient checkpointing",
        flags={"bf16": "True", "gradient_checkpointing": "True"},
        launcher="torchrun",
        **_DEEPSPEED,
    ),
    Case("stage 1, torchrun, ZeRO-3", launcher="torchrun", **_ZERO3),
    Case("stage 2, text-only and picture samples", stage=2, representative=True),
    Case("stage 2, bf16", stage=2, flags={"bf16": "True"}),
    Case("stage 2, gradient checkpointing", stage=2, flags={"gradient_checkpointing": "True"}),
    Case("stage 2, grouped by modality", stage=2, flags={"group_by_modality_length": "True"}),
    Case("stage 2, LoRA", stage=2, flags=_LORA, representative=True),
    Case(
        "stage 2, LoRA, gradient checkpointing",
        stage=2,
        flags={**_LORA, "gradient_checkpointing": "True"},
    ),
    Case(
        "stage 2, LoRA, gradient checkpointing, torchrun",
        stage=2,
        flags={
            **_LORA,
            "gradient_checkpointing": "True",
            # Without it plain upstream fails: reentrant checkpoints mark a parameter ready twice.
            "ddp_find_unused_parameters": "False",
        },
        launcher="torchrun",
    ),
    Case("stage 2, torchrun", stage=2, launcher="torchrun"),
    Case("stage 2, torchrun, ZeRO-2", stage=2, launcher="torchrun", **_DEEPSPEED),
    Case("stage 2, torchrun, ZeRO-3", stage=2, launcher="torchrun", **_ZERO3),
    Case(
        "stage 2, resumed",
        stage=2,
        flags={"save_steps": "2", "save_total_limit": "5"},
        # transformers 4.37 reads the random states of its checkpoints with torch.load.
        environment={"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"},
        resume=True,
    ),
)
