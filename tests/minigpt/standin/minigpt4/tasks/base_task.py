import torch
import wandb

from minigpt4.common.logger import MetricLogger, SmoothedValue
from minigpt4.common.registry import registry


class BaseTask:
    def __init__(self, **kwargs):
        self.cfg = ""

    @classmethod
    def setup_task(cls, **kwargs):
        return cls()

    def build_model(self, cfg):
        self.cfg = cfg
        return registry.get_model_class(cfg.model_cfg.arch).from_config(cfg.model_cfg)

    def build_datasets(self, cfg):
        import standin_data

        return {name: standin_data.read(name, cfg.datasets_cfg[name]) for name in cfg.datasets_cfg}

    def train_step(self, model, samples):
        return model(samples)["loss"]

    def train_epoch(
        self,
        epoch,
        model,
        data_loader,
        optimizer,
        lr_scheduler,
        scaler=None,
        cuda_enabled=False,
        log_freq=50,
        accum_grad_iters=1,
    ):
        return self._train_inner_loop(
            epoch=epoch,
            iters_per_epoch=lr_scheduler.iters_per_epoch,
            model=model,
            data_loader=data_loader,
            optimizer=optimizer,
            scaler=scaler,
            lr_scheduler=lr_scheduler,
            log_freq=log_freq,
            cuda_enabled=cuda_enabled,
            accum_grad_iters=accum_grad_iters,
        )

    def _train_inner_loop(
        self,
        epoch,
        iters_per_epoch,
        model,
        data_loader,
        optimizer,
        lr_scheduler,
        scaler=None,
        start_iters=None,
        log_freq=50,
        cuda_enabled=False,
        accum_grad_iters=1,
    ):
        meters = MetricLogger(delimiter="  ")
        meters.add_meter("lr", SmoothedValue(window_size=1))
        meters.add_meter("loss", SmoothedValue(window_size=1))
        for i in meters.log_every(range(iters_per_epoch), log_freq, f"epoch {epoch}"):
            samples = next(data_loader)
            lr_scheduler.step(cur_epoch=epoch, cur_step=i)
            with torch.cuda.amp.autocast(enabled=scaler is not None):
                loss = self.train_step(model=model, samples=samples)
            (loss if scaler is None else scaler.scale(loss)).backward()
            if (i + 1) % accum_grad_iters == 0:
                if scaler is None:
                    optimizer.step()
                else:
                    scaler.step(optimizer)
                    scaler.update()
                optimizer.zero_grad()
                if self.cfg.run_cfg.wandb_log:
                    wandb.log({"epoch": epoch, "loss": loss})
            meters.update(loss=loss.item())
            meters.update(lr=optimizer.param_groups[0]["lr"])
        meters.synchronize_between_processes()
        return {name: f"{meter.global_avg:.3f}" for name, meter in meters.meters.items()}
