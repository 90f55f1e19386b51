"""The patch of LLaVA (haotian-liu/LLaVA, `llava`): `--regap_weight` in its train.py.

Read from llava 1.2.2.post1 and 1.1.1: `llava/model/llava_arch.py`, `llava/train/train.py` and
`llava/model/language_model/`. 1.1 has neither `position_ids` nor `image_sizes`. `llava_mpt` is left
out: in 1.2 its forward calls `prepare_inputs_labels_for_multimodal` with too few arguments and
fails without any patch.
"""

from typing import Any, Callable

from regap_plugin.hookspecs import hookimpl

from ._llava_family import LlavaFamily

_FORWARD = (
    "self",
    "input_ids",
    "attention_mask",
    "position_ids",
    "past_key_values",
    "inputs_embeds",
    "labels",
    "use_cache",
    "output_attentions",
    "output_hidden_states",
    "images",
    "image_sizes",
    "return_dict",
)
_FORWARD_1_1 = tuple(name for name in _FORWARD if name not in ("position_ids", "image_sizes"))
_PREPARE = (
    "self",
    "input_ids",
    "position_ids",
    "attention_mask",
    "past_key_values",
    "labels",
    "images",
    "image_sizes",
)
_PREPARE_1_1 = tuple(name for name in _PREPARE if name not in ("position_ids", "image_sizes"))


class Llava(LlavaFamily):
    """LLaVA 1.2, over LLaMA and Mistral, and 1.1, over LLaMA."""

    name = "llava"
    distributions = ("llava-torch", "llava")
    tested_versions = ("1.2.2.post1", "1.1.1")
    meta_class = ("llava.model.llava_arch", "LlavaMetaForCausalLM")
    prepare_shapes = (_PREPARE, _PREPARE_1_1)
    model_classes = (
        ("llava.model.language_model.llava_llama", "LlavaLlamaForCausalLM"),
        ("llava.model.language_model.llava_mistral", "LlavaMistralForCausalLM"),
    )
    forward_shapes = (_FORWARD, _FORWARD_1_1)


@hookimpl
def regap_register_upstreams(register: Callable[[Any], None]) -> None:
    """Offer the patch."""
    register(Llava())
