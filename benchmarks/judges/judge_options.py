"""What the `--judge-...` flags say: how a judge that is a model is loaded, and how it decides."""

import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import List, Optional, Sequence

from regap_benchmarks.chat_completions import check_url
from regap_benchmarks.quantization import Quantization


@dataclass(frozen=True)
class JudgeOptions:
    """Options of judges; each judge names those that it takes.

    Attributes:
        model: folder of the checkpoint, or the model's name at the server; of several judges
            NAME=MODEL,NAME=MODEL.
        threshold: a probability above it is a yes; None for the judge's own way.
        prompt: file of the judge's published prompt, where the project does not ship it.
        device: as torch names it; None for the CPU.
        dtype: "float32", "float16" or "bfloat16"; None for float32 on a CPU, float16 elsewhere.
        quantization: of the judge's weights.
        batch_size: answers that go through the model together, or requests to a server at once;
            None for the judge's own number.
        url: of a server that speaks OpenAI's chat completions.
        price_in, price_out: of a million tokens of prompts and of answers, in any currency.
        most_price: refuse to begin where the estimate is above it.
        per_minute: requests that begin in a minute at most.
        break_marks: break what divides a classifier's prompt in what it judges; None for the
            published rule, which does not.
        data: folder to which the pictures' paths are relative; not of the judge alone.
    """

    model: Optional[str] = None
    threshold: Optional[float] = None
    prompt: Optional[Path] = None
    device: Optional[str] = None
    dtype: Optional[str] = None
    quantization: Quantization = field(default_factory=Quantization)
    batch_size: Optional[int] = None
    url: Optional[str] = None
    price_in: Optional[float] = None
    price_out: Optional[float] = None
    most_price: Optional[float] = None
    per_minute: Optional[float] = None
    break_marks: Optional[bool] = None
    data: Optional[Path] = None

    def __post_init__(self) -> None:
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise ValueError(
                f"--judge-threshold: expected a probability from 0 to 1, found {self.threshold}."
            )
        if self.batch_size is not None and self.batch_size < 1:
            raise ValueError(f"--judge-batch-size: expected 1 or more, found {self.batch_size}.")
        for name in ("price_in", "price_out", "most_price"):
            found = getattr(self, name)
            if found is not None and not (math.isfinite(found) and found >= 0):
                raise ValueError(f"{flag(name)}: expected 0 or more, found {found}.")
        if self.per_minute is not None and not self.per_minute > 0:
            raise ValueError(f"--judge-per-minute: expected above 0, found {self.per_minute}.")
        if self.url is not None:
            check_url(self.url, "--judge-url")

    def of_judge(self, name: str, judges: Sequence[str]) -> "JudgeOptions":
        """These options as one of several judges gets them: with its own model.

        Args:
            name: of the judge.
            judges: all that take a model, this one among them.

        Raises:
            ValueError: several judges, and not one model for each.
        """
        if name not in judges or len(judges) < 2 or self.model is None:
            return self
        parts = [part.partition("=") for part in self.model.split(",")]
        models = {before.strip(): after.strip() for before, _, after in parts}
        if sorted(models) != sorted(judges) or not all(models.values()):
            raise ValueError(
                f"--judge-model: expected a model for each of {', '.join(judges)}, as"
                f" {'=PATH,'.join(judges)}=PATH, found {self.model!r}. Name them so, or run"
                " regap-bench judge once for each; no answer is asked again."
            )
        return dataclasses.replace(self, model=models[name])

    def given(self) -> List[str]:
        """Names of the options that are not as they are by themselves."""
        return [
            item.name
            for item in dataclasses.fields(self)
            if item.name != "data" and getattr(self, item.name) not in (None, Quantization())
        ]


def flag(name: str) -> str:
    """The flag of an option."""
    return f"--judge-{name.replace('_', '-')}"
