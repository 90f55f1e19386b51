"""What `regap-bench gap` has measured, for a page: gap.json."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple


@dataclass(frozen=True)
class MeasuredGap:
    """The gap of one checkpoint.

    Attributes:
        name: of the checkpoint, as gap.json has it.
        protocol: of the measurement; numbers of two protocols cannot be compared.
        pairs: of image and text.
        mir: over all pairs; None where there was no gap at all.
        interval: of MIR; None where too few draws were made.
        terms: MIR's term by layer, from layer 0, which is no part of MIR.
        curve: (pairs, MIR).
    """

    name: str
    protocol: str
    pairs: int
    mir: Optional[float]
    interval: Optional[Tuple[float, float]]
    terms: Tuple[Tuple[int, float], ...]
    curve: Tuple[Tuple[int, float], ...]


def read_gap(path: Path) -> List[MeasuredGap]:
    """Read gap.json.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another file.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        protocol = str(document["settings"]["protocol"])
        found = [_gap(name, protocol, model) for name, model in document["models"].items()]
        if not found:
            raise ValueError("no model")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: expected gap.json as regap-bench gap writes it, found"
            f" {type(error).__name__}: {error}. Measure again: regap-bench gap."
        ) from error
    return found


def _gap(name: str, protocol: str, model: Dict[str, Any]) -> MeasuredGap:
    lower, upper = model["interval"]
    terms = tuple((int(row["layer"]), _number(row["mir_term"])) for row in model["layers"])
    if len(terms) < 2 or terms[0][0] != 0:
        raise ValueError(f"layers {[number for number, _ in terms]} of {name!r}, not all from 0 on")
    return MeasuredGap(
        name=name,
        protocol=protocol,
        pairs=int(model["pairs"]),
        mir=None if model["mir"] is None else _number(model["mir"]),
        interval=None if lower is None or upper is None else (_number(lower), _number(upper)),
        terms=terms,
        curve=tuple(
            (int(pairs), _number(value))
            for pairs, value in model["curve"].items()
            if value is not None
        ),
    )


def _number(value: Any) -> float:
    found = float(value)
    if not math.isfinite(found):
        raise ValueError(f"{value!r}, which is no number")
    return found
