"""A tiny LLaVA of transformers' form, converted from upstream's form without upstream."""

import json
import shutil

from regap_benchmarks.conversion.llava_to_huggingface import convert_llava_to_huggingface
from regap_benchmarks.conversion.weight_files import read_weights, write_weights
from regap_benchmarks.miniature.checkpoints import TinySizes, write_miniature

TEXTS = ("two red circles above a blue square", "USER: what is in the picture? ASSISTANT: a cat")
SIZES = TinySizes(vocabulary=400, hidden=32, positions=512, image_side=16, patch_side=8)


def write_upstream_forms(folder):
    """Upstream's forms: the files of the parts, a projector's folder, and all in one folder."""
    import torch

    files = write_miniature(folder, TEXTS, seed=0, sizes=SIZES)
    stage_1, full = folder / "llava-stage-1", folder / "llava-full"
    config = json.loads((files.language_model / "config.json").read_text())
    config.pop("rope_parameters", None)
    config.update(
        model_type="llava_llama",
        architectures=["LlavaLlamaForCausalLM"],
        rope_theta=10000.0,
        mm_vision_tower=str(files.vision_tower),
        mm_hidden_size=SIZES.vision_hidden,
        mm_projector_type="mlp2x_gelu",
        mm_vision_select_layer=-2,
        mm_vision_select_feature="patch",
        mm_use_im_start_end=False,
        image_aspect_ratio="pad",
        regap={"weight": 0.5},
    )
    for each in (stage_1, full):
        each.mkdir()
        (each / "config.json").write_text(json.dumps(config))
    shutil.copy(files.projector, stage_1 / "mm_projector.bin")
    projector = torch.load(files.projector, weights_only=True)
    write_weights({**read_weights(files.language_model), **projector}, full)
    for path in files.language_model.glob("*token*"):
        shutil.copy(path, full)
    return files, stage_1, full


def write_checkpoint(folder):
    """The folder of transformers' form."""
    _, _, full = write_upstream_forms(folder)
    convert_llava_to_huggingface(full, folder / "huggingface")
    return folder / "huggingface"
