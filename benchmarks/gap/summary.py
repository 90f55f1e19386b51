"""From the records of layers: MIR with its interval, and its curve over numbers of pairs."""

import csv
import io
import math
from dataclasses import dataclass
from statistics import NormalDist, stdev
from typing import Dict, List, Optional, Sequence, Tuple

from regap_benchmarks.records import Json, LayerGap

_INPUT_LAYER = 0


@dataclass(frozen=True)
class GapSummary:
    """MIR of one checkpoint, log10 of the sum over layers 1 to n of their terms.

    Attributes:
        pairs: that all but the curve is over.
        mir: over all pairs.
        lower, upper: `mir` plus and minus the normal quantile times the standard deviation of MIR
            over the draws of pairs; None without at least two draws. They tell how far another
            choice of as many pairs would move it. The distance of few tokens is biased upwards,
            which no draw from them shows: see `curve`.
        level: of the interval.
        curve: by number of pairs.
        input_term: the term of layer 0, where the regulariser acts; no part of MIR.
        layers: the records.
    """

    pairs: int
    mir: float
    lower: Optional[float]
    upper: Optional[float]
    level: float
    curve: Dict[int, float]
    input_term: float
    layers: Tuple[LayerGap, ...]

    def describe(self) -> Dict[str, Json]:
        """All numbers, for a JSON file; None for the MIR of layers without any gap, -inf."""
        return {
            "pairs": self.pairs,
            "mir": _finite(self.mir),
            "interval": [self.lower, self.upper],
            "level": self.level,
            "curve": {str(number): _finite(value) for number, value in self.curve.items()},
            "layer_0_term": self.input_term,
            "layers": [
                {
                    "layer": layer.layer,
                    "mir_term": layer.frechet[str(self.pairs)],
                    **layer.values,
                    "image_tokens": layer.image_tokens,
                    "text_tokens": layer.text_tokens,
                    "image_replaced": layer.image_replaced,
                    "text_replaced": layer.text_replaced,
                }
                for layer in self.layers
            ],
        }


def summarize(layers: Sequence[LayerGap], *, level: float = 0.95) -> GapSummary:
    """Sum the layers up.

    Raises:
        ValueError: layers that are missing or measured over different pairs.
    """
    numbers = [layer.layer for layer in layers]
    counts = {tuple(layer.frechet) for layer in layers}
    if numbers != list(range(len(layers))) or len(layers) < 2 or len(counts) != 1:
        raise ValueError(
            "Layers: expected all from 0 on, measured over the same pairs, found"
            f" {numbers} over {sorted(counts)}. Measure again."
        )
    in_mir = [layer for layer in layers if layer.layer != _INPUT_LAYER]
    curve = {
        int(number): mir([layer.frechet[number] for layer in in_mir])
        for number in layers[0].frechet
    }
    pairs = max(curve)
    drawn = [mir(terms) for terms in zip(*(layer.resampled for layer in in_mir))]
    lower = upper = None
    if len(drawn) >= 2 and all(map(math.isfinite, drawn)):
        reach = NormalDist().inv_cdf((1 + level) / 2) * stdev(drawn)
        lower, upper = curve[pairs] - reach, curve[pairs] + reach
    input_term = layers[_INPUT_LAYER].frechet[str(pairs)]
    return GapSummary(pairs, curve[pairs], lower, upper, level, curve, input_term, tuple(layers))


def mir(terms: Sequence[float]) -> float:
    """The Modality Integration Rate of the layers' terms (arXiv 2410.07167): log10 of their sum."""
    total = sum(terms)
    return math.log10(total) if total > 0 else -math.inf


def _finite(value: float) -> Optional[float]:
    return value if math.isfinite(value) else None


def as_csv(summaries: Dict[str, GapSummary]) -> str:
    """One row for each checkpoint and layer, with a header."""
    rows: List[Dict[str, object]] = []
    for name, summary in summaries.items():
        described = summary.describe()["layers"]
        assert isinstance(described, list)
        rows += [{"model": name, **layer} for layer in described]
    written = io.StringIO()
    columns = list(dict.fromkeys(column for row in rows for column in row))
    writer = csv.DictWriter(written, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return written.getvalue()
