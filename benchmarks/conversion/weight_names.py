"""The same weights under the names of upstream LLaVA and of transformers' LLaVA.

Upstream: llava/model/llava_arch.py and multimodal_projector/builder.py of haotian-liu/LLaVA.
transformers: the names of the published llava-hf checkpoints, which it reads in every version.
"""

from typing import Dict, Mapping, Tuple, TypeVar

T = TypeVar("T")

UPSTREAM_PROJECTOR, HF_PROJECTOR = "model.mm_projector.", "multi_modal_projector."
UPSTREAM_TOWER, HF_TOWER = "model.vision_tower.vision_tower.", "vision_tower."
HF_LANGUAGE = "language_model."
_LAYERS = {"0.": "linear_1.", "2.": "linear_2."}
# Written by old versions, made anew by every version.
_BUFFERS = ("rotary_emb.inv_freq", "embeddings.position_ids")


def to_huggingface(weights: Mapping[str, T]) -> Dict[str, T]:
    """Rename upstream's weights.

    Raises:
        ValueError: a weight that transformers' LLaVA has no place for.
    """
    found = {}
    for name, weight in weights.items():
        if name.endswith(_BUFFERS):
            continue
        if name.startswith(UPSTREAM_PROJECTOR):
            layer, rest = _split(name[len(UPSTREAM_PROJECTOR) :])
            if layer not in _LAYERS:
                raise _no_place(name)
            found[f"{HF_PROJECTOR}{_LAYERS[layer]}{rest}"] = weight
        elif name.startswith(UPSTREAM_TOWER):
            found[HF_TOWER + name[len(UPSTREAM_TOWER) :]] = weight
        elif name.startswith(("model.layers.", "model.embed_tokens.", "model.norm.", "lm_head.")):
            found[HF_LANGUAGE + name] = weight
        else:
            raise _no_place(name)
    return found


def to_upstream(weights: Mapping[str, T]) -> Tuple[Dict[str, T], Dict[str, T]]:
    """Rename the weights of a llava-hf checkpoint.

    Returns:
        upstream's, and those of the vision tower, which upstream loads from a folder of its own;
        named as `CLIPVisionModel` has them.

    Raises:
        ValueError: a weight that upstream's LLaVA has no place for.
    """
    numbers = {named: number for number, named in _LAYERS.items()}
    model: Dict[str, T] = {}
    tower: Dict[str, T] = {}
    for name, weight in weights.items():
        if name.endswith(_BUFFERS):
            continue
        if name.startswith(HF_PROJECTOR):
            layer, rest = _split(name[len(HF_PROJECTOR) :])
            if layer not in numbers:
                raise _no_place(name)
            model[f"{UPSTREAM_PROJECTOR}{numbers[layer]}{rest}"] = weight
        elif name.startswith(HF_TOWER):
            tower[name[len(HF_TOWER) :]] = weight
        elif name.startswith(HF_LANGUAGE):
            model[name[len(HF_LANGUAGE) :]] = weight
        else:
            raise _no_place(name)
    return model, tower


def _split(rest: str) -> Tuple[str, str]:
    layer, dot, name = rest.partition(".")
    return layer + dot, name


def _no_place(name: str) -> ValueError:
    return ValueError(
        f"Weight {name!r}: expected one of a language model, a CLIP tower or a projector of two"
        " layers (mlp2x_gelu), found another. Such a model has no counterpart on the other side."
    )
