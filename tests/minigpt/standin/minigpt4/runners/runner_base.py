import json
import os
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from minigpt4.common.dist_utils import get_rank, is_main_process, main_process
from minigpt4.common.optims import LinearWarmupCosineLRScheduler
from minigpt4.common.registry import registry


@registry.register_runner("runner_base")
class RunnerBase:
    def __init__(self, cfg, task, model, datasets, job_id):
        import standin_data

        self.config, self.task, self._model = cfg, task, model
        run = cfg.run_cfg
        self._wrapped_model = (
            DistributedDataParallel(model, find_unused_parameters=True)
            if run.distributed
            else model
        )
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=run.init_lr, weight_decay=run.weight_decay)
        self.scaler = torch.cuda.amp.GradScaler() if run.get("amp", False) else None
        self.lr_scheduler = LinearWarmupCosineLRScheduler(
            self.optimizer,
            run.max_epoch,
            run.iters_per_epoch,
            run.min_lr,
            run.init_lr,
            warmup_steps=run.get("warmup_steps", 0),
        )
        sizes = {name: cfg.datasets_cfg[name].batch_size for name in datasets}
        self.train_loader = standin_data.batches(datasets, sizes, seed=run.seed + get_rank())
        self.start_epoch = 0
        self.output_dir = Path(registry.get_path("library_root")) / run.output_dir / job_id
        self.output_dir.mkdir(parents=True, exist_ok=True)

    @property
    def model(self):
        return self._wrapped_model

    def train(self):
        run = self.config.run_cfg
        self.log_config()
        if not run.evaluate and run.get("resume_ckpt_path") is not None:
            self._load_checkpoint(run.resume_ckpt_path)
        for cur_epoch in range(self.start_epoch, run.max_epoch):
            if run.evaluate:
                break
            self.log_stats(split_name="train", stats=self.train_epoch(cur_epoch))
            self._save_checkpoint(cur_epoch, is_best=False)
            if run.distributed:
                dist.barrier()

    def train_epoch(self, epoch):
        self.model.train()
        return self.task.train_epoch(
            epoch=epoch,
            model=self.model,
            data_loader=self.train_loader,
            optimizer=self.optimizer,
            scaler=self.scaler,
            lr_scheduler=self.lr_scheduler,
            accum_grad_iters=self.config.run_cfg.get("accum_grad_iters", 1),
        )

    def unwrap_dist_model(self, model):
        return model.module if self.config.run_cfg.distributed else model

    @main_process
    def _save_checkpoint(self, cur_epoch, is_best=False):
        model = self.unwrap_dist_model(self.model)
        trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        weights = {name: value for name, value in model.state_dict().items() if name in trained}
        content = {
            "model": weights,
            "optimizer": self.optimizer.state_dict(),
            "config": self.config.to_dict(),
            "scaler": self.scaler.state_dict() if self.scaler else None,
            "epoch": cur_epoch,
        }
        name = "best" if is_best else cur_epoch
        torch.save(content, os.path.join(self.output_dir, f"checkpoint_{name}.pth"))

    def _load_checkpoint(self, url_or_filename):
        content = torch.load(url_or_filename, map_location="cpu")
        self.unwrap_dist_model(self.model).load_state_dict(content["model"], strict=False)
        self.optimizer.load_state_dict(content["optimizer"])
        if self.scaler:
            self.scaler.load_state_dict(content["scaler"])
        self.start_epoch = content["epoch"] + 1

    @main_process
    def log_stats(self, stats, split_name):
        self._append(json.dumps({f"{split_name}_{name}": value for name, value in stats.items()}))

    @main_process
    def log_config(self):
        self._append(json.dumps(self.config.to_dict(), indent=4))

    def _append(self, line):
        assert is_main_process()
        with open(os.path.join(self.output_dir, "log.txt"), "a") as stream:
            stream.write(line + "\n")
