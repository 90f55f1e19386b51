"""A checkpoint of transformers' `LlavaForConditionalGeneration` as one that upstream loads."""

import json
import shutil
from pathlib import Path
from typing import Any, Dict

from regap_benchmarks.conversion.llava_to_huggingface import SENTENCEPIECE
from regap_benchmarks.conversion.weight_files import read_weights, write_weights
from regap_benchmarks.conversion.weight_names import to_upstream

TOWER_FOLDER = "vision_tower"
_EMBEDDING, _HEAD = "model.embed_tokens.weight", "lm_head.weight"
_FEATURES = {"default": "patch", "full": "cls_patch"}


def convert_huggingface_to_llava(checkpoint: Path, output: Path) -> None:
    """Write weights, config and tokenizer, and the vision tower into a folder of its own beside.

    The tokens that transformers' form added, such as `<image>`, stay: upstream's builder sizes the
    model by its tokenizer. Rows beyond the tokenizer, which some checkpoints have for the sake of
    a round number, are left out. The name of the output must hold "llava", by which upstream's
    builder knows its models.

    Args:
        checkpoint: of a LLaMA, a CLIP tower and a projector of two layers.
        output: a new or empty folder.

    Raises:
        ValueError: a model that upstream's LLaVA cannot be; a folder that is not empty or that
            upstream would take for another model.
        FileNotFoundError: a file is missing.
    """
    if "llava" not in output.name.lower():
        raise ValueError(
            f"{output}: expected a name with 'llava', by which upstream's builder knows its models,"
            " found none. Name another folder."
        )
    if output.exists() and any(output.iterdir()):
        raise ValueError(f"{output}: expected a new or empty folder, found files. Name another.")
    config = _read_config(checkpoint)
    model, tower = to_upstream(read_weights(checkpoint))
    output.mkdir(parents=True, exist_ok=True)
    tokens = _write_tokenizer(checkpoint, output)
    model.setdefault(_HEAD, model[_EMBEDDING])  # tied
    rows = min(len(model[_EMBEDDING]), tokens)
    if rows < tokens:
        raise ValueError(
            f"{checkpoint}: expected an embedding of {tokens} rows, as there are tokens, found"
            f" {rows}. Pass the tokenizer that the model was trained with."
        )
    for name in (_EMBEDDING, _HEAD):
        model[name] = model[name][:rows]
    _write_tower(checkpoint, config, tower, output / TOWER_FOLDER)
    write_weights(model, output)
    described = _upstream_config(config, output / TOWER_FOLDER, checkpoint)
    described["vocab_size"] = rows
    described["torch_dtype"] = str(model[_EMBEDDING].dtype).rpartition(".")[2]
    text = json.dumps(described, indent=2, sort_keys=True) + "\n"
    (output / "config.json").write_text(text, encoding="utf-8")


def _read_config(checkpoint: Path) -> Dict[str, Any]:
    from transformers import AutoConfig

    path = checkpoint / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected the config of a checkpoint, found none.")
    # By transformers, as published configs leave out what is its default.
    config: Dict[str, Any] = AutoConfig.from_pretrained(checkpoint).to_dict()
    found = (
        config.get("model_type"),
        config.get("text_config", {}).get("model_type"),
        config.get("vision_config", {}).get("model_type"),
        config.get("projector_hidden_act"),
        config.get("vision_feature_select_strategy"),
        isinstance(config.get("vision_feature_layer"), int),
    )
    if found[:4] != ("llava", "llama", "clip_vision_model", "gelu") or not (
        found[4] in _FEATURES and found[5]
    ):
        raise ValueError(
            f"{path}: expected LLaVA with LLaMA, a CLIP tower, gelu and one layer of features,"
            f" found {found}. Upstream's LLaVA has no such model."
        )
    return config


def _write_tokenizer(checkpoint: Path, output: Path) -> int:
    """In the form that upstream's transformers reads; returns the number of tokens."""
    from transformers import AutoTokenizer

    pieces = checkpoint / SENTENCEPIECE
    if not pieces.is_file():
        raise FileNotFoundError(
            f"{pieces}: expected LLaMA's sentencepiece model, the only one that upstream's builder"
            " reads, found none. Copy it there from the language model's folder."
        )
    shutil.copy(pieces, output / SENTENCEPIECE)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    from sentencepiece import SentencePieceProcessor

    size = int(SentencePieceProcessor(model_file=str(pieces)).get_piece_size())
    added = {name: number for name, number in tokenizer.get_added_vocab().items() if number >= size}
    described = {
        "tokenizer_class": "LlamaTokenizer",
        "bos_token": tokenizer.bos_token,
        "eos_token": tokenizer.eos_token,
        "unk_token": tokenizer.unk_token,
        "pad_token": tokenizer.pad_token,
        "add_bos_token": True,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "legacy": False,
    }
    for name, content in (("tokenizer_config.json", described), ("added_tokens.json", added)):
        text = json.dumps(content, indent=2, sort_keys=True) + "\n"
        (output / name).write_text(text, encoding="utf-8")
    return size + len(added)


def _write_tower(
    checkpoint: Path, config: Dict[str, Any], weights: Dict[str, Any], folder: Path
) -> None:
    from transformers import AutoImageProcessor, CLIPImageProcessor

    folder.mkdir()
    write_weights(weights, folder)
    described = {**config["vision_config"], "architectures": ["CLIPVisionModel"]}
    text = json.dumps(described, indent=2, sort_keys=True, default=str) + "\n"
    (folder / "config.json").write_text(text, encoding="utf-8")
    settings = AutoImageProcessor.from_pretrained(checkpoint).to_dict()
    known = {key: value for key, value in settings.items() if key not in _PADDING}
    CLIPImageProcessor(**known).save_pretrained(folder)


# Upstream pads by its own code and `image_aspect_ratio`; its processor only crops.
_PADDING = ("do_pad", "image_processor_type", "processor_class")


def _upstream_config(config: Dict[str, Any], tower: Path, checkpoint: Path) -> Dict[str, Any]:
    text, vision = config["text_config"], config["vision_config"]
    rope = text.get("rope_parameters") or {}
    found = {key: value for key, value in text.items() if key in _LLAMA}
    if "rope_theta" in rope:
        found["rope_theta"] = rope["rope_theta"]
    if rope.get("rope_type", "default") != "default":
        raise ValueError(
            f"{checkpoint}: expected rotary positions as they are, found {rope}. Upstream's"
            " transformers reads scaled ones in another form."
        )
    regap = config.get("regap")
    return {
        **found,
        "model_type": "llava_llama",
        "architectures": ["LlavaLlamaForCausalLM"],
        "tie_word_embeddings": False,
        "use_mm_proj": True,
        "mm_vision_tower": str(tower.absolute()),
        "mm_hidden_size": vision["hidden_size"],
        "mm_projector_type": "mlp2x_gelu",
        "mm_vision_select_layer": config["vision_feature_layer"],
        "mm_vision_select_feature": _FEATURES[config["vision_feature_select_strategy"]],
        "mm_use_im_start_end": False,
        "mm_use_im_patch_token": False,
        "image_aspect_ratio": "pad" if _pads(checkpoint) else "square",
        **({"regap": regap} if regap is not None else {}),
    }


def _pads(checkpoint: Path) -> bool:
    from transformers import AutoImageProcessor

    return bool(getattr(AutoImageProcessor.from_pretrained(checkpoint), "do_pad", False))


# What transformers 4.37 reads of a LLaMA's config.
_LLAMA = (
    "attention_bias",
    "bos_token_id",
    "eos_token_id",
    "hidden_act",
    "hidden_size",
    "initializer_range",
    "intermediate_size",
    "max_position_embeddings",
    "num_attention_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "pad_token_id",
    "rms_norm_eps",
    "rope_theta",
)
