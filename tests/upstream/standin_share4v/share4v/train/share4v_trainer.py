"""Saves the projector alone where only that is trained."""

import os
from typing import Optional

import torch
from transformers import Trainer


class Share4VTrainer(Trainer):
    def _save_checkpoint(self, model, trial, metrics=None):
        if not self.args.tune_mm_mlp_adapter:
            super()._save_checkpoint(model, trial, metrics)
            return
        folder = os.path.join(self.args.output_dir, f"checkpoint-{self.state.global_step}")
        if self.args.should_save:
            self.model.config.save_pretrained(folder)
            _save_projector(self.model, folder)

    def _save(self, output_dir: Optional[str] = None, state_dict=None):
        if not self.args.tune_mm_mlp_adapter:
            super()._save(output_dir, state_dict)


def _save_projector(model, folder):
    weights = {k: w.detach().cpu() for k, w in model.named_parameters() if "mm_projector" in k}
    torch.save(weights, os.path.join(folder, "mm_projector.bin"))
