import argparse
import random

import minigpt4.tasks as tasks
import torch
from minigpt4.common.config import Config
from minigpt4.common.dist_utils import get_rank, init_distributed_mode
from minigpt4.common.registry import registry
from minigpt4.runners import *  # noqa: F403


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--cfg-path", required=True)
    parser.add_argument("--options", nargs="+")
    cfg = Config(parser.parse_args())
    init_distributed_mode(cfg.run_cfg)
    random.seed(cfg.run_cfg.seed + get_rank())
    torch.manual_seed(cfg.run_cfg.seed + get_rank())
    cfg.pretty_print()
    task = tasks.setup_task(cfg)
    datasets = task.build_datasets(cfg)
    model = task.build_model(cfg)
    runner = registry.get_runner_class(cfg.run_cfg.get("runner", "runner_base"))
    runner(cfg=cfg, job_id="job", task=task, model=model, datasets=datasets).train()


if __name__ == "__main__":
    main()
