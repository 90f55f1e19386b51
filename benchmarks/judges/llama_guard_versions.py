"""Which Llama Guards there are: what a checkpoint of each must be, and what it needs.

Categories are by github.com/meta-llama/PurpleLlama at 4be64c3, MODEL_CARD.md of each, and those of
version 1 by arXiv 2312.06674. The words of the prompts are the checkpoints' own: their licences are
not ours to pass on. That the templates list codes as the cards do is from third parties' copies.
"""

from dataclasses import dataclass
from typing import Mapping, Tuple


@dataclass(frozen=True)
class GuardVersion:
    """A version.

    Attributes:
        name: of the judge.
        title: of the model.
        model_classes: of transformers.
        counts: how many categories a checkpoint's template may list.
        letter: that codes begin with.
        telling: words that the category of a code holds in this version alone.
        transformers: that load it.
        licence: of the weights.
        sees_pictures: whether the sample's picture is shown.
    """

    name: str
    title: str
    model_classes: Tuple[str, ...]
    counts: Tuple[int, ...]
    letter: str
    telling: Mapping[str, str]
    transformers: str
    licence: str
    sees_pictures: bool = False


VERSIONS: Tuple[GuardVersion, ...] = (
    GuardVersion(
        name="llama_guard_1",
        title="LlamaGuard-7b",
        model_classes=("LlamaForCausalLM",),
        counts=(6,),
        letter="O",
        telling={"O3": "Criminal Planning", "O6": "Self-Harm"},
        transformers="4.34 or later (chat templates); LLaVA's own 4.37 does",
        licence="Llama 2 Community License, gated",
    ),
    GuardVersion(
        name="llama_guard_2",
        title="Meta-Llama-Guard-2-8B",
        model_classes=("LlamaForCausalLM",),
        counts=(11,),
        letter="S",
        telling={"S5": "Specialized Advice", "S11": "Sexual Content"},
        transformers="4.34 or later (chat templates); LLaVA's own 4.37 does",
        licence="Llama 3 Community License, gated",
    ),
    GuardVersion(
        name="llama_guard_3",
        title="Llama-Guard-3-8B and 1B",
        model_classes=("LlamaForCausalLM",),
        counts=(13, 14),
        letter="S",
        telling={"S5": "Defamation", "S13": "Elections"},
        transformers="4.43 or later (its rope scaling): an environment of its own",
        licence="Llama 3.1 (8B) and 3.2 (1B) Community License, gated",
    ),
    GuardVersion(
        name="llama_guard_3_vision",
        title="Llama-Guard-3-11B-Vision",
        model_classes=("MllamaForConditionalGeneration",),
        counts=(13,),
        letter="S",
        telling={"S5": "Defamation", "S13": "Elections"},
        transformers="4.45 or later (tried here: 5): an environment of its own",
        licence="Llama 3.2 Community License, gated",
        sees_pictures=True,
    ),
    GuardVersion(
        name="llama_guard_4",
        title="Llama-Guard-4-12B",
        model_classes=("Llama4ForConditionalGeneration",),
        counts=(13, 14),
        letter="S",
        telling={"S5": "Defamation", "S13": "Elections"},
        transformers="4.51 or later (tried here: 5): an environment of its own",
        licence="Llama 4 Community License, gated",
        sees_pictures=True,
    ),
)


def wrong_version(
    version: GuardVersion, model_class: str, categories: Mapping[str, str]
) -> Tuple[str, str]:
    """What a checkpoint of this version has, and what was found in its place; both empty if right.

    Args:
        version: that was asked for.
        model_class: of the loaded checkpoint.
        categories: names by code, of its rendered prompt.
    """
    if model_class not in version.model_classes:
        return f"the class {' or '.join(version.model_classes)}", model_class
    codes = [f"{version.letter}{number}" for number in range(1, len(categories) + 1)]
    if list(categories) != codes or len(categories) not in version.counts:
        wanted = " or ".join(str(count) for count in version.counts)
        return (
            f"{wanted} categories {version.letter}1, {version.letter}2 and so on",
            ", ".join(categories) or "none",
        )
    for code, words in version.telling.items():
        if words.lower() not in categories[code].lower():
            return f"{code} {words}", f"{code} {categories[code]}"
    return "", ""
