"""A stand-in for ShareGPT4V: as much of its contract as a patch of it meets, in our own words.

What it keeps of commit b6f70e9; `tests/upstream/test_share4v_contract.py` compares the names and
signatures with the real code where that is at hand, and the other tests run on both:

- files, class and function names, parameters, the defaults of parameters and of flags: every
  public name here is one there;
- `model/share4v_arch.py`: `prepare_inputs_labels_for_multimodal` replaces each image placeholder
  by the projector's rows, keeps padding tokens as embeddings, fills rows of unequal length with
  zeros on the right, puts `True` for the image's rows in front of the given mask, and takes one
  picture for a sample without a placeholder;
- `model/language_model/share4v_llama.py`: the forward merges, runs the LLM and makes the loss
  itself;
- `train/train.py`: a script of three dataclasses and `HfArgumentParser`; the tower in float16 or
  bfloat16; the flags `--tune_mm_mlp_adapter`, `--tune_entire_model`, `--tune_vit_from_layer`.

Left out: conversation templates, LoRA, quantization, EVA-CLIP, evaluation, generation. It runs
under transformers 4.31 and 4.37.
"""

from .model import Share4VLlamaForCausalLM as Share4VLlamaForCausalLM
