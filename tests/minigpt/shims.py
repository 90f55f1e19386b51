"""What lets the real MiniGPT-4 train at a tiny size on a CPU; the plugin never sees it.

Each shim takes away a download, a GPU or a draw from the clock; none touches what the plugin does.
"""

import random
from types import SimpleNamespace

IMAGE_FEATURES, PATCHES, PATCH_SIDE = 24, 16, 14


def before_import():
    """Let `import minigpt4` pass: its torchvision may be a CUDA build beside a CPU torch."""
    import torch

    library = torch.library.Library("torchvision", "DEF")
    for schema in (
        "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
        "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    ):
        try:
            library.define(schema)
        except RuntimeError:  # a torchvision that has its operators
            break
    before_import.library = library  # the definitions last as long as it does


def after_import():
    """Replace what needs the network, a GPU or the clock."""
    import torch
    from minigpt4.common import logger
    from minigpt4.datasets.datasets import dataloader_utils
    from minigpt4.models import base_model, minigpt4
    from minigpt4.models.Qformer import BertConfig
    from minigpt4.runners import runner_base

    base_model.create_eva_vit_g = lambda *args, **kwargs: _TinyEncoder(torch)
    minigpt4.BertConfig = SimpleNamespace(
        from_pretrained=lambda name: BertConfig(
            vocab_size=32,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=16,
        )
    )
    load = base_model.LlamaForCausalLM.from_pretrained
    base_model.LlamaForCausalLM.from_pretrained = lambda path, **kwargs: load(
        path, torch_dtype=torch.float32
    )
    runner_base.PrefetchLoader = lambda loader: loader  # a CUDA stream
    dataloader_utils.time = SimpleNamespace(sleep=lambda seconds: None)
    wrap = runner_base.DDP
    runner_base.DDP = lambda model, device_ids, **kwargs: wrap(model, **kwargs)
    logger.SmoothedValue.synchronize_between_processes = _synchronize
    torch.cuda.set_device = lambda device: None
    start = torch.distributed.init_process_group
    torch.distributed.init_process_group = lambda backend, **kwargs: start(backend="gloo", **kwargs)
    # No location for torch.load is called "cpu:0", which stands for the GPU here.
    read = torch.load
    torch.load = lambda path, map_location=None, **kwargs: read(path, map_location="cpu", **kwargs)
    _stop_the_clock_of_webdataset()


def real_amp():
    """Make `run.amp` mean something on a CPU: bf16 autocast and a GradScaler that scales."""
    import torch

    class Autocast(torch.autocast):
        def __init__(self, enabled=True, dtype=torch.bfloat16, **kwargs):
            super().__init__("cpu", dtype=torch.bfloat16, enabled=enabled)

    torch.cuda.amp.autocast = Autocast
    torch.cuda.amp.GradScaler = lambda: torch.amp.GradScaler("cpu", init_scale=2.0**10)


def _synchronize(self):
    import torch
    import torch.distributed as dist

    if dist.is_initialized():
        totals = torch.tensor([self.count, self.total], dtype=torch.float64)
        dist.barrier()
        dist.all_reduce(totals)
        self.count, self.total = int(totals[0]), float(totals[1])


def _stop_the_clock_of_webdataset():
    import webdataset

    class Shards(webdataset.ResampledShards):
        def __init__(self, urls):
            super().__init__(urls, deterministic=True)

    shuffle = webdataset.shuffle
    webdataset.ResampledShards = Shards
    webdataset.shuffle = lambda size, **kwargs: shuffle(8, rng=random.Random(0), **kwargs)


def _TinyEncoder(torch):  # noqa: N802 - makes what a class would
    class TinyEncoder(torch.nn.Module):
        """Patches of the picture through one matrix, a class token before them."""

        num_features = IMAGE_FEATURES

        def __init__(self):
            super().__init__()
            self.patches = torch.nn.Conv2d(3, IMAGE_FEATURES, PATCH_SIDE, PATCH_SIDE)

        def forward(self, image):
            rows = self.patches(image.float()).flatten(2).transpose(1, 2)
            return torch.cat([rows.mean(1, keepdim=True), rows], dim=1)

    return TinyEncoder()
