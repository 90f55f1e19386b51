"""A stand-in for Vision-CAIR/MiniGPT-4 with the contract that regap_patches.minigpt4 relies on.

Our own code, a few hundred lines instead of a checkout, so that the tests run anywhere. The
contract: every module, class, function and parameter here is also in upstream, under the same name
and in the same order (test_contract.py compares them where upstream's checkout is). What upstream
does and the plugin leans on:

- `tasks.base_task.BaseTask.build_model(cfg)` makes the model; `cfg.run_cfg` is the section `run`.
- `BaseTask._train_inner_loop(...)` calls `optimizer.zero_grad()` once per optimizer step, where
  `(i + 1) % accum_grad_iters == 0`, then `MetricLogger.update(loss=...)` in every iteration.
- `models.minigpt_base.MiniGPTBase.forward(samples, reduction)` passes pictures through
  `prompt_wrap`, puts BOS before and the answer behind, and calls
  `modeling_llama.LlamaForCausalLM` with keywords; the loss is `outputs["loss"]`.
- `runners.runner_base.RunnerBase.train` loads by `_load_checkpoint`, saves by `_save_checkpoint`,
  with `config.to_dict()` in the saved object.
"""

import os

from minigpt4.common.registry import registry
from minigpt4.models import *  # noqa: F403
from minigpt4.tasks import *  # noqa: F403

registry.register_path("library_root", os.path.dirname(os.path.abspath(__file__)))
