"""The projector's gradient at a layer of the LLM, by autograd through upstream's own plain model.

No plugin, no gradient checkpointing, no patch: upstream's forward with the hidden states that it
gives, and the gap as a plain expression of them.
"""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, List

from upstream.reference import token_positions


def projector_gradients(
    workspace: Path, batch: Dict[str, Any], *, layer: int, factor: float, image_tokens: int
) -> Dict[str, Any]:
    """d (L_LM + factor * L_gap) / d projector, at the projector that every training starts from.

    Args:
        workspace: folder of the checkpoints.
        batch: a dumped micro-batch with its pictures.
        layer: whose hidden states.
        factor: lambda * alpha.
        image_tokens: of a picture.

    Returns:
        Gradients by the parameter's name.
    """
    import torch

    model = _upstream_model(workspace)
    inputs = {"input_ids": batch["input_ids"], "labels": batch["source_labels"]}
    outputs = model(
        **inputs,
        attention_mask=batch["input_ids"].ne(0),
        images=batch["images"],
        output_hidden_states=True,
        return_dict=True,
    )
    gaps = []
    for row, (ids, labels) in enumerate(zip(batch["input_ids"], batch["source_labels"])):
        images, texts = token_positions(
            ids.tolist(), labels.tolist(), image_tokens=image_tokens, padding=0, cut=256
        )
        states = outputs.hidden_states[layer][row]
        pairs = states[images][:, None] - states[texts].detach()[None]
        gaps.append(pairs.norm(dim=-1).mean())
    (outputs.loss + factor * torch.stack(gaps).mean()).backward()
    found: List[Any] = [(n, p) for n, p in model.named_parameters() if "mm_projector" in n]
    return {name: parameter.grad for name, parameter in found}


def _upstream_model(workspace: Path) -> Any:
    import torch
    from llava.model import LlavaLlamaForCausalLM

    model = LlavaLlamaForCausalLM.from_pretrained(str(workspace / "language-model"))
    model.get_model().initialize_vision_modules(
        SimpleNamespace(
            vision_tower=str(workspace / "vision-tower"),
            mm_vision_select_layer=-2,
            mm_vision_select_feature="patch",
            mm_patch_merge_type="flat",
            mm_projector_type="mlp2x_gelu",
            pretrain_mm_mlp_adapter=str(workspace / "mm_projector.bin"),
        )
    )
    model.get_vision_tower().to(torch.float16)  # as train.py holds it
    model.config.tokenizer_model_max_length = 256
    model.config.tokenizer_padding_side = "right"
    model.requires_grad_(False)
    model.get_model().mm_projector.requires_grad_(True)
    return model.train()
