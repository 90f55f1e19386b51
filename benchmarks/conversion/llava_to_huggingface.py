"""A checkpoint of upstream LLaVA as one that transformers' `LlavaForConditionalGeneration` loads.

transformers' own script (convert_llava_weights_to_hf.py) takes checkpoints of the hub, draws the
rows of new tokens at random and leaves out the picture's padding; this takes a local folder, whole
or a projector with its language model, and its logits are upstream's.
"""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Optional, Tuple

from regap_benchmarks.conversion.weight_files import (
    read_weight_file,
    read_weights,
    write_weights,
)
from regap_benchmarks.conversion.weight_names import (
    HF_LANGUAGE,
    HF_PROJECTOR,
    HF_TOWER,
    to_huggingface,
)

if TYPE_CHECKING:
    from torch import Tensor

IMAGE_TOKEN = "<image>"  # noqa: S105
SENTENCEPIECE = "tokenizer.model"
_PROJECTOR_FILE = "mm_projector.bin"
_EMBEDDING = HF_LANGUAGE + "model.embed_tokens.weight"
_HEAD = HF_LANGUAGE + "lm_head.weight"
_STRATEGIES = {"patch": "default", "cls_patch": "full"}
# vicuna_v1 of llava/conversation.py: separators " " and "</s>". Upstream tokenizes what follows the
# picture as a text of its own, which LLaMA's tokenizer begins with a space: hence the one behind
# <image>, which gives upstream's token ids. The begin token is the tokenizer's to add.
VICUNA_V1 = (
    "A chat between a curious user and an artificial intelligence assistant. The"
    " assistant gives helpful, detailed, and polite answers to the user's questions. "
    "{% for message in messages %}"
    "{% if message['content'] is string %}{% set text = message['content'] %}"
    "{% else %}{% set parts = namespace(text='') %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{% set parts.text = parts.text + '<image> \n' %}"
    "{% else %}{% set parts.text = parts.text + part['text'] %}{% endif %}{% endfor %}"
    "{% set text = parts.text %}{% endif %}"
    "{% if message['role'] == 'user' %}USER: {{ text }} "
    "{% else %}ASSISTANT: {{ text }}{{ eos_token }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


def convert_llava_to_huggingface(
    checkpoint: Path,
    output: Path,
    *,
    base: Optional[Path] = None,
    vision_tower: Optional[Path] = None,
) -> None:
    """Write weights, config, tokenizer, processor and chat template.

    Upstream has no token for a picture; `<image>` is added as the last one. Its row of the
    embedding is never read, and its row of the output layer is the mean of the others: its logit
    is the mean logit, so that greedy decoding never says it.

    Args:
        checkpoint: whole (LLaMA, CLIP tower, mlp2x_gelu), or with `mm_projector.bin` alone.
        output: a new or empty folder.
        base: language model under a projector.
        vision_tower: in place of the config's `mm_vision_tower`; not read where the checkpoint
            holds a tower of its own.

    Raises:
        ValueError: a model that transformers' LLaVA cannot be; a folder that is not empty.
        FileNotFoundError: a file is missing.
    """
    config = _read_config(checkpoint)
    if output.exists() and any(output.iterdir()):
        raise ValueError(f"{output}: expected a new or empty folder, found files. Name another.")
    tower_path = _tower_path(config, vision_tower)
    weights = to_huggingface(_upstream_weights(checkpoint, base))
    if not any(name.startswith(HF_PROJECTOR) for name in weights):
        raise ValueError(
            f"{checkpoint}: expected the weights of a projector, found none. Pass the folder that"
            " upstream's trainer wrote."
        )
    vision_config, vision_weights = _read_tower(tower_path)
    if not any(name.startswith(HF_TOWER) for name in weights):
        weights.update(vision_weights)
    weights.setdefault(_HEAD, weights[_EMBEDDING])  # tied
    output.mkdir(parents=True, exist_ok=True)
    tokenizer = _write_processor(checkpoint if base is None else base, output, config, tower_path)
    number = int(tokenizer.convert_tokens_to_ids(IMAGE_TOKEN))
    rows = len(weights[_EMBEDDING])
    if number > rows:
        raise ValueError(
            f"{checkpoint}: expected a tokenizer of {rows} tokens, as the embedding has rows, found"
            f" {number}. Pass the tokenizer that the model was trained with."
        )
    if number == rows:  # new: the checkpoint was never in transformers' form
        for name in (_EMBEDDING, _HEAD):
            weights[name] = _with_mean_row(weights[name])
    write_weights(weights, output)
    described = _huggingface_config(config, vision_config, number)
    described["text_config"]["vocab_size"] = len(weights[_EMBEDDING])
    described["dtype"] = str(weights[_EMBEDDING].dtype).rpartition(".")[2]
    text = json.dumps(described, indent=2, sort_keys=True) + "\n"
    (output / "config.json").write_text(text, encoding="utf-8")


def _read_config(checkpoint: Path) -> Dict[str, Any]:
    path = checkpoint / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected the config of a LLaVA checkpoint, found none.")
    config: Dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    wanted = {
        "model_type": ("llava_llama", "llava"),
        "mm_projector_type": ("mlp2x_gelu",),
        "mm_use_im_start_end": (False, None),
        "mm_patch_merge_type": ("flat", None),
        "mm_vision_select_feature": tuple(_STRATEGIES),
    }
    if "mm_vision_select_feature" not in config:
        config["mm_vision_select_feature"] = "patch"  # the default of upstream's flag
    for key, allowed in wanted.items():
        if config.get(key) not in allowed:
            raise ValueError(
                f"{path}: expected {key} {' or '.join(map(repr, allowed))}, found"
                f" {config.get(key)!r}. transformers' LLaVA has no such model; the checkpoint"
                " stays in upstream's form."
            )
    if (checkpoint / "adapter_config.json").is_file():
        raise ValueError(
            f"{checkpoint}: expected whole weights or a projector, found an adapter. Merge it"
            " first by upstream's scripts/merge_lora_weights.py."
        )
    return config


def _upstream_weights(checkpoint: Path, base: Optional[Path]) -> "Dict[str, Tensor]":
    projector = checkpoint / _PROJECTOR_FILE
    if base is None:
        return read_weights(checkpoint)
    if not projector.is_file():
        raise FileNotFoundError(
            f"{projector}: expected a projector over --model-base {base}, found none. Leave out"
            " --model-base for a whole checkpoint."
        )
    return {**read_weights(base), **read_weight_file(projector)}


def _tower_path(config: Dict[str, Any], given: Optional[Path]) -> Path:
    path = given or Path(str(config.get("mm_vision_tower")))
    if not (path / "config.json").is_file():
        raise FileNotFoundError(
            f"{path}: expected the folder of the CLIP tower that the checkpoint names, found none."
            " Download it, and pass it by --vision-tower."
        )
    return path


def _read_tower(path: Path) -> "Tuple[Dict[str, Any], Dict[str, Tensor]]":
    from transformers import CLIPVisionConfig, CLIPVisionModel

    config = CLIPVisionConfig.from_pretrained(path).to_dict()
    state = CLIPVisionModel.from_pretrained(path).state_dict()
    prefix = "vision_model."  # transformers 5 leaves it out
    named = {
        HF_TOWER + (name if name.startswith(prefix) else prefix + name): weight
        for name, weight in state.items()
        if not name.endswith("position_ids")
    }
    return config, named


def _with_mean_row(weight: "Tensor") -> "Tensor":
    import torch

    mean = weight.float().mean(0, keepdim=True).to(weight.dtype)
    return torch.cat([weight, mean])


def _write_processor(source: Path, output: Path, config: Dict[str, Any], tower: Path) -> Any:
    """Tokenizer, picture processor and chat template; returns the tokenizer."""
    from transformers import (
        AutoTokenizer,
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlavaImageProcessor,
        LlavaProcessor,
    )

    tokenizer = AutoTokenizer.from_pretrained(source)
    tokenizer.add_tokens([IMAGE_TOKEN], special_tokens=True)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.unk_token  # upstream's --version v1
    pictures = CLIPImageProcessor.from_pretrained(tower)
    if config.get("image_aspect_ratio") == "pad":
        settings = pictures.to_dict()
        settings.pop("image_processor_type", None)
        pictures = LlavaImageProcessor(**{**settings, "do_pad": True})
    patch = int(CLIPVisionConfig.from_pretrained(tower).patch_size)
    processor = LlavaProcessor(
        image_processor=pictures,
        tokenizer=tokenizer,
        patch_size=patch,
        vision_feature_select_strategy=_STRATEGIES[config["mm_vision_select_feature"]],
        num_additional_image_tokens=1,
        chat_template=VICUNA_V1,
    )
    processor.save_pretrained(output)
    if (source / SENTENCEPIECE).is_file():  # for the way back
        shutil.copy(source / SENTENCEPIECE, output / SENTENCEPIECE)
    return tokenizer


def _huggingface_config(
    config: Dict[str, Any], vision: Dict[str, Any], image_token: int
) -> Dict[str, Any]:
    upstream_only = ("mm_", "tune_mm_", "freeze_mm_", "use_mm_", "image_", "tokenizer_", "regap")
    text = {key: value for key, value in config.items() if not key.startswith(upstream_only)}
    text.update(model_type="llama", architectures=["LlamaForCausalLM"], tie_word_embeddings=False)
    strategy = _STRATEGIES[config["mm_vision_select_feature"]]
    patches = (int(vision["image_size"]) // int(vision["patch_size"])) ** 2
    found = {
        "model_type": "llava",
        "architectures": ["LlavaForConditionalGeneration"],
        "text_config": text,
        "vision_config": {**vision, "model_type": "clip_vision_model"},
        "image_token_index": image_token,
        "image_seq_length": patches + (strategy == "full"),
        "projector_hidden_act": "gelu",
        "vision_feature_select_strategy": strategy,
        "vision_feature_layer": int(config.get("mm_vision_select_layer", -2)),
        "tie_word_embeddings": False,
    }
    regap = config.get("regap")
    return {**found, **({"regap": regap} if regap is not None else {})}
