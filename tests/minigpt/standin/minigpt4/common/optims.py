class LinearWarmupCosineLRScheduler:
    """Upstream's signature; the schedule is a constant here."""

    def __init__(
        self,
        optimizer,
        max_epoch,
        iters_per_epoch,
        min_lr,
        init_lr,
        warmup_steps=0,
        warmup_start_lr=-1,
        **kwargs,
    ):
        self.optimizer, self.init_lr = optimizer, init_lr
        self.max_epoch, self.iters_per_epoch = max_epoch, iters_per_epoch
        self.warmup_steps = warmup_steps

    def step(self, cur_epoch, cur_step):
        for group in self.optimizer.param_groups:
            group["lr"] = self.init_lr
