"""The training script: `python train.py --model_name_or_path ... --vision_tower ...`."""

import json
import os
import pathlib
from dataclasses import dataclass, field
from typing import Dict, Optional, Sequence

import torch
import transformers
from PIL import Image
from share4v.constants import DEFAULT_IMAGE_TOKEN, IGNORE_INDEX, IMAGE_TOKEN_INDEX
from share4v.model import Share4VLlamaForCausalLM
from share4v.train.share4v_trainer import Share4VTrainer, _save_projector
from torch.utils.data import Dataset


@dataclass
class ModelArguments:
    model_name_or_path: Optional[str] = field(default="facebook/opt-125m")
    version: Optional[str] = field(default="v0")
    tune_mm_mlp_adapter: bool = field(default=False)
    vision_tower: Optional[str] = field(default=None)
    tune_vit_from_layer: Optional[int] = field(default=-1)
    tune_entire_model: bool = field(default=False)
    mm_vision_select_layer: Optional[int] = field(default=-1)
    pretrain_mm_mlp_adapter: Optional[str] = field(default=None)
    mm_projector_type: Optional[str] = field(default="linear")
    mm_use_im_start_end: bool = field(default=False)
    mm_use_im_patch_token: bool = field(default=True)


@dataclass
class DataArguments:
    data_path: str = field(default=None)
    lazy_preprocess: bool = False
    is_multimodal: bool = False
    image_folder: Optional[str] = field(default=None)
    image_aspect_ratio: str = "square"


@dataclass
class TrainingArguments(transformers.TrainingArguments):
    optim: str = field(default="adamw_torch")
    remove_unused_columns: bool = field(default=False)
    freeze_mm_mlp_adapter: bool = field(default=False)
    model_max_length: int = field(default=512)
    mm_projector_lr: Optional[float] = None
    vision_tower_lr: Optional[float] = None


class LazySupervisedDataset(Dataset):
    def __init__(
        self, data_path: str, tokenizer: transformers.PreTrainedTokenizer, data_args: DataArguments
    ):
        self.samples = json.loads(pathlib.Path(data_path).read_text())
        self.tokenizer = tokenizer
        self.data_args = data_args

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, i) -> Dict[str, torch.Tensor]:
        sample = self.samples[i]
        ids, labels = [self.tokenizer.bos_token_id], [IGNORE_INDEX]
        for turn in sample["conversations"]:
            asks = turn["from"] == "human"
            text = turn["value"]
            if DEFAULT_IMAGE_TOKEN in text:
                ids.append(IMAGE_TOKEN_INDEX)
                labels.append(IGNORE_INDEX)
                text = text.replace(DEFAULT_IMAGE_TOKEN, "").strip()
            if asks and self.data_args.version == "plain":
                continue
            pieces = self.tokenizer(text + "\n", add_special_tokens=False).input_ids
            ids += pieces
            labels += [IGNORE_INDEX] * len(pieces) if asks else pieces
        processor = self.data_args.image_processor
        if "image" in sample:
            path = os.path.join(self.data_args.image_folder, sample["image"])
            picture = Image.open(path).convert("RGB")
            pixels = processor.preprocess(picture, return_tensors="pt")["pixel_values"][0]
        else:
            pixels = torch.zeros(3, processor.crop_size["height"], processor.crop_size["width"])
        return {"input_ids": torch.tensor(ids), "labels": torch.tensor(labels), "image": pixels}


@dataclass
class DataCollatorForSupervisedDataset:
    tokenizer: transformers.PreTrainedTokenizer

    def __call__(self, instances: Sequence[Dict]) -> Dict[str, torch.Tensor]:
        pad = torch.nn.utils.rnn.pad_sequence
        padding = self.tokenizer.pad_token_id
        longest = self.tokenizer.model_max_length
        ids = pad([each["input_ids"] for each in instances], True, padding)[:, :longest]
        labels = pad([each["labels"] for each in instances], True, IGNORE_INDEX)[:, :longest]
        return {
            "input_ids": ids,
            "labels": labels,
            "attention_mask": ids.ne(padding),
            "images": torch.stack([each["image"] for each in instances]),
        }


def unlock_vit(training_args, model_args, vision_tower):
    marker = "vision_tower.vision_model.encoder.layers."
    for name, parameter in vision_tower.named_parameters():
        layer = int(name.split(marker)[1].split(".")[0]) if marker in name else -1
        parameter.requires_grad = layer >= model_args.tune_vit_from_layer


def train():
    parser = transformers.HfArgumentParser((ModelArguments, DataArguments, TrainingArguments))
    model_args, data_args, training_args = parser.parse_args_into_dataclasses()
    model = Share4VLlamaForCausalLM.from_pretrained(model_args.model_name_or_path)
    model.config.use_cache = False
    if training_args.gradient_checkpointing:
        model.enable_input_require_grads()
    tokenizer = transformers.AutoTokenizer.from_pretrained(
        model_args.model_name_or_path,
        model_max_length=training_args.model_max_length,
        padding_side="right",
        use_fast=False,
    )
    tokenizer.pad_token = tokenizer.unk_token
    model.get_model().initialize_vision_modules(model_args=model_args)
    tower = model.get_vision_tower()
    tower.to(
        dtype=torch.bfloat16 if training_args.bf16 else torch.float16, device=training_args.device
    )
    data_args.image_processor = tower.image_processor
    data_args.version = model_args.version
    training_args.tune_mm_mlp_adapter = model_args.tune_mm_mlp_adapter
    training_args.tune_entire_model = model_args.tune_entire_model
    if model_args.tune_mm_mlp_adapter:
        model.requires_grad_(False)
        model.get_model().mm_projector.requires_grad_(True)
    if model_args.tune_entire_model:
        model.requires_grad_(True)
        unlock_vit(training_args, model_args, tower)
    trainer = Share4VTrainer(
        model=model,
        tokenizer=tokenizer,
        args=training_args,
        train_dataset=LazySupervisedDataset(data_args.data_path, tokenizer, data_args),
        data_collator=DataCollatorForSupervisedDataset(tokenizer),
    )
    trainer.train(
        resume_from_checkpoint=any(pathlib.Path(training_args.output_dir).glob("checkpoint-*"))
    )
    trainer.save_state()
    if not model_args.tune_mm_mlp_adapter:
        trainer.save_model(training_args.output_dir)
    elif training_args.should_save:
        model.config.save_pretrained(training_args.output_dir)
        _save_projector(model, training_args.output_dir)


if __name__ == "__main__":
    train()
