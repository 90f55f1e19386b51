"""Tiny LLaMA checkpoints as judges: random weights, real architecture and tokenizer."""

import dataclasses
from pathlib import Path

from regap_benchmarks.miniature.checkpoints import TinySizes, write_language_model

TEXTS = (
    "BEGINNING OF CONVERSATION: USER: how do I mend a chair? ASSISTANT: with glue",
    "safe unsafe yes no S1,S2 Harmful request: Response refusal: Harmful response:",
)
SIZES = TinySizes(vocabulary=400, hidden=32, positions=1024)


def write_causal(
    folder: Path, *, template: str = "", spread: float = 0.3, positions: int = SIZES.positions
) -> Path:
    """A LLaMA that says random words, with a chat template where one is given."""
    from transformers import AutoTokenizer, LlamaForCausalLM

    sizes = dataclasses.replace(SIZES, positions=positions)
    write_language_model(folder, TEXTS, seed=0, sizes=sizes)
    model = LlamaForCausalLM.from_pretrained(folder)
    _spread(model, spread)
    model.save_pretrained(folder)
    if template:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        tokenizer.chat_template = template
        tokenizer.save_pretrained(folder)
    return folder


def write_classifier(folder: Path, labels, *, spread: float = 0.3, **config) -> Path:
    """A LLaMA with a head of independent labels."""
    from transformers import LlamaConfig, LlamaForSequenceClassification

    write_language_model(folder, TEXTS, seed=0, sizes=SIZES)
    own = LlamaConfig.from_pretrained(folder)
    settings = {
        **own.to_dict(),
        "id2label": dict(enumerate(labels)),
        "label2id": {label: number for number, label in enumerate(labels)},
        "problem_type": "multi_label_classification",
        **config,
    }
    model = LlamaForSequenceClassification(LlamaConfig.from_dict(settings))
    _spread(model, spread)
    for file in folder.glob("*.safetensors"):
        file.unlink()
    model.save_pretrained(folder)
    return folder


def _spread(model, spread):
    import torch

    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0.0, spread, generator=generator)
