"""Runs an upstream training script as `__main__`, seeded, and records what it did.

    python [-S] driver.py SCRIPT [ARGS]

The same driver runs plain upstream and upstream with the plugin, so that both draw the same
random numbers: upstream seeds only after its projector and LoRA weights are drawn. Under `-S` no
`.pth` file is read, so the plugin does not exist for that process; the site directories come from
`REGAP_TEST_SITE` then. What it needs to know comes as JSON in `REGAP_TEST_DRIVER`:

    record          directory; one JSON line per micro-batch, one file per rank
    dump            also save the tensors that enter the LLM, and in evaluation all hidden states
    gradients       also save the pictures, and after each backward the parameters' gradients
    use_reentrant   checkpoint gradients so; upstream's own flag for it takes no value it can parse
    deepspeed       initialise DeepSpeed for the CPU first: it would ask for nccl and CUDA
    no_attention    drop the attention implementation that LLaVA's train_mem.py asks for
    no_functions    {module: function}: put a module in the way whose function does nothing, for
                    the flash attention that ShareGPT4V's train_mem.py imports
    no_half         where upstream moves a module to float16, move it to float32
    fault           a function of faults.py, applied once upstream is imported
"""

import hashlib
import json
import os
import random
import runpy
import sys
import types


def main() -> None:
    if sys.flags.no_site:
        sys.path += os.environ["REGAP_TEST_SITE"].split(os.pathsep)
    options = json.loads(os.environ["REGAP_TEST_DRIVER"])
    script = sys.argv[1]
    sys.argv = sys.argv[1:]
    # The deepspeed launcher puts --local_rank=N before the script's own name.
    if script.startswith("--local_rank"):
        sys.argv = [sys.argv[1], script, *sys.argv[2:]]
        script = sys.argv[0]
    import faults  # beside this file, before the script's folder takes its place

    sys.path[0] = os.path.dirname(os.path.abspath(script))

    import numpy
    import torch

    random.seed(0)
    numpy.random.seed(0)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    if options.get("no_half") or not (torch.cuda.is_available() or _convolves_in_half(torch)):
        _keep_modules_off_half_precision(torch)
    if options.get("deepspeed"):
        import deepspeed

        # Else it compiles a shared-memory collective, for minutes, and waits for ever where an
        # interrupted build has left its lock.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        deepspeed.init_distributed("gloo")
        if not torch.cuda.is_available():
            torch.cuda.synchronize = lambda device=None: None  # upstream calls it before it saves
    import transformers

    record = _Record(options["record"], bool(options.get("dump")))
    _record_losses(transformers, torch, record)
    if options.get("gradients"):
        _record_gradients(transformers, torch, record)
    if "use_reentrant" in options:
        _checkpoint_so(transformers, options["use_reentrant"])
    if options.get("no_attention"):
        _drop_attention()
    for name, function in options.get("no_functions", {}).items():
        sys.modules[name] = types.ModuleType(name)
        setattr(sys.modules[name], function, lambda: None)
    if options.get("fault"):
        getattr(faults, options["fault"])()
    record.note(
        plugin_modules=sorted(name for name in sys.modules if name.startswith("regap_")),
        no_site=bool(sys.flags.no_site),
    )
    runpy.run_path(script, run_name="__main__")
    record.note(random_states=_random_states(numpy, torch))
    if options.get("deepspeed"):
        # Its threads now and then abort an interpreter that is shutting down, plain upstream's too.
        torch.distributed.destroy_process_group()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _random_states(numpy, torch):
    states = (random.getstate(), numpy.random.get_state(), torch.get_rng_state().tolist())
    return hashlib.sha256(repr(states).encode()).hexdigest()


class _Record:
    def __init__(self, directory, dump):
        rank = os.environ.get("RANK", "0")
        self.path = os.path.join(directory, f"rank{rank}.jsonl")
        self.dump = os.path.join(directory, f"rank{rank}_{{}}.pt") if dump else None
        self.gradients = os.path.join(directory, f"rank{rank}-gradients_{{}}.pt")
        self.measured = os.path.join(directory, f"rank{rank}-measured_{{}}.pt")
        self.count = self.measurements = 0
        self.batch = {}
        os.makedirs(directory, exist_ok=True)
        open(self.path, "w").close()

    def note(self, **values):
        with open(self.path, "a") as stream:
            stream.write(json.dumps(values) + "\n")

    def close_batch(self, torch, loss):
        batch, self.batch = self.batch, {}
        self.note(loss=float(loss).hex(), lm_loss=batch.pop("lm_loss", None))
        if self.dump:
            torch.save(batch, self.dump.format(self.count))
        self.count += 1


def _record_losses(transformers, torch, record):
    """Record below any upstream's forward: what its LLM is given, the cross entropy it makes."""
    trainer_class = transformers.Trainer
    compute_loss = trainer_class.compute_loss
    llm_forward = transformers.LlamaModel.forward
    cross_entropy = torch.nn.CrossEntropyLoss.forward

    def recorded_loss(self, model, inputs, *args, **kwargs):
        if record.dump:
            record.batch["input_ids"] = inputs["input_ids"].clone()
            record.batch["source_labels"] = inputs["labels"].clone()
        loss = compute_loss(self, model, inputs, *args, **kwargs)
        record.close_batch(torch, loss[0] if isinstance(loss, tuple) else loss)
        return loss

    def recorded_llm_forward(self, *args, **kwargs):
        if record.dump and kwargs.get("inputs_embeds") is not None:
            record.batch["inputs_embeds"] = kwargs["inputs_embeds"].detach().clone()
        outputs = llm_forward(self, *args, **kwargs)
        if record.dump and self.training and outputs.hidden_states is not None:
            record.batch["hidden_states"] = [
                each.detach().clone() for each in outputs.hidden_states
            ]
        if record.dump and not self.training and outputs.hidden_states is not None:
            torch.save(list(outputs.hidden_states), record.measured.format(record.measurements))
            record.measurements += 1
        return outputs

    def recorded_cross_entropy(self, *args, **kwargs):
        loss = cross_entropy(self, *args, **kwargs)
        record.batch["lm_loss"] = float(loss).hex()
        return loss

    recorded_llm_forward.__wrapped__ = llm_forward
    trainer_class.compute_loss = recorded_loss
    transformers.LlamaModel.forward = recorded_llm_forward
    torch.nn.CrossEntropyLoss.forward = recorded_cross_entropy


def _record_gradients(transformers, torch, record):
    training_step = transformers.Trainer.training_step

    def recorded_training_step(self, model, inputs, *args, **kwargs):
        record.batch["images"] = inputs["images"].clone()
        number = record.count
        loss = training_step(self, model, inputs, *args, **kwargs)
        named = model.named_parameters()
        found = {name: each.grad.clone() for name, each in named if each.grad is not None}
        torch.save(found, record.gradients.format(number))
        return loss

    transformers.Trainer.training_step = recorded_training_step


def _checkpoint_so(transformers, use_reentrant):
    enable = transformers.PreTrainedModel.gradient_checkpointing_enable

    def enable_so(self, gradient_checkpointing_kwargs=None):
        enable(self, {**(gradient_checkpointing_kwargs or {}), "use_reentrant": use_reentrant})

    transformers.PreTrainedModel.gradient_checkpointing_enable = enable_so


def _convolves_in_half(torch):
    """Upstream moves its tower to float16, which torch before 2.2 cannot convolve on a CPU."""
    try:
        torch.nn.functional.conv2d(torch.ones(1, 1, 1, 1).half(), torch.ones(1, 1, 1, 1).half())
    except RuntimeError:
        return False
    return True


def _keep_modules_off_half_precision(torch):
    to = torch.nn.Module.to

    def to_at_least_float32(self, *args, **kwargs):
        if kwargs.get("dtype") is torch.float16:
            kwargs["dtype"] = torch.float32
        return to(self, *args, **kwargs)

    torch.nn.Module.to = to_at_least_float32


def _drop_attention():
    import llava.train.train as module

    train = module.train
    module.train = lambda attn_implementation=None: train()


if __name__ == "__main__":
    main()
