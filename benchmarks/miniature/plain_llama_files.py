"""A LLaMA and its byte-level tokenizer in files that transformers 4.37 and 5 read alike.

Upstream pins 4.37 and loads the slow tokenizer. What 5 writes by itself, 4.37 reads wrongly and
without a word: 5 keeps the rotary base in `rope_parameters`, where 4.37 takes its own default.
"""

import copy
import json
from pathlib import Path
from typing import Any, Dict

_DEFAULT_BASE = 10000.0
_POSITIONS = 2048


def write_for_both(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write model and tokenizer.

    Args:
        model: a `LlamaForCausalLM` in float32, moved to the CPU.
        tokenizer: a fast one, of byte-level BPE.
        folder: made if it is missing.

    Raises:
        ValueError: rotary positions that are scaled, or another kind of tokenizer.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # A model out of a GGUF file is dequantized, but takes itself for quantized and is not saved.
    settings = copy.deepcopy(model.config)
    if hasattr(settings, "quantization_config"):
        del settings.quantization_config
    plain = type(model)(settings)
    plain.load_state_dict(model.cpu().state_dict())
    plain.save_pretrained(folder)
    path = folder / "config.json"
    config: Dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    rope = config.pop("rope_parameters", None) or {}
    kind = rope.get("rope_type", "default")
    if kind != "default":
        raise ValueError(
            f"{folder}: expected plain rotary positions, found {kind!r}, which transformers 4.37"
            " reads from elsewhere. Use another base model."
        )
    config["rope_theta"] = rope.get("rope_theta", config.get("rope_theta", _DEFAULT_BASE))
    config["torch_dtype"] = config.pop("dtype", "float32")
    path.write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    for name, text in _slow_tokenizer(tokenizer).items():
        (folder / name).write_text(text, encoding="utf-8")


def _slow_tokenizer(tokenizer: Any) -> Dict[str, str]:
    """The files of a slow GPT-2 tokenizer, by name."""
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    model = content["model"]
    if model["type"] != "BPE":
        raise ValueError(
            f"Tokenizer: expected byte-level BPE, found {model['type']}. Use another base model."
        )
    added = {each["content"]: each["id"] for each in content.get("added_tokens", [])}
    merges = [each if isinstance(each, str) else " ".join(each) for each in model["merges"]]
    special = {
        "bos_token": tokenizer.bos_token or tokenizer.eos_token,
        "eos_token": tokenizer.eos_token,
        # Upstream pads with it.
        "unk_token": tokenizer.unk_token or tokenizer.eos_token,
    }
    kept = {"lstrip": False, "rstrip": False, "normalized": False, "single_word": False}
    settings = {
        **special,
        "tokenizer_class": "GPT2Tokenizer",
        "add_prefix_space": False,
        "add_bos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": _POSITIONS,
        "added_tokens_decoder": {
            str(number): {"content": name, "special": True, **kept}
            for name, number in added.items()
        },
    }
    return {
        "vocab.json": json.dumps({**model["vocab"], **added}, ensure_ascii=False),
        "merges.txt": "\n".join(["#version: 0.2", *merges]) + "\n",
        "special_tokens_map.json": json.dumps(special, indent=1) + "\n",
        "tokenizer_config.json": json.dumps(settings, indent=1) + "\n",
    }
