from minigpt4.common.registry import registry
from minigpt4.tasks.base_task import BaseTask


def setup_task(cfg):
    return registry.get_task_class(cfg.run_cfg.task).setup_task(cfg=cfg)


registry.register_task("image_text_pretrain")(BaseTask)

__all__ = ["BaseTask"]
