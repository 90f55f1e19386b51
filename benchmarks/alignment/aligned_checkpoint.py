"""A copy of a checkpoint whose image tokens are mapped onto its text tokens, and its record."""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Optional

from regap_benchmarks.alignment.affine_map import MEAN
from regap_benchmarks.environment import environment
from regap_benchmarks.gap.pairs import Pairs
from regap_benchmarks.gap.states import PAIRS, SourceKind
from regap_benchmarks.runners.fingerprint import fingerprint
from regap_benchmarks.runners.runner import ModelOptions

RECORD = "regap_alignment.json"
# Of the way that the first picture's tokens should have gone, or of a tenth of their length if
# they go less: bfloat16 leaves a few thousandths of the length.
_TOLERANCE = 0.1

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class AlignSettings:
    """How a map is fitted; see `regap-bench align` and `fit_map`."""

    match: str = MEAN
    strength: float = 1.0
    shrinkage: Optional[float] = None
    protocol: str = PAIRS
    batch_size: int = 1


def align_checkpoint(
    kind: SourceKind,
    options: ModelOptions,
    read: Callable[[], Pairs],
    settings: AlignSettings,
    *,
    output: Path,
    progress: Progress = lambda done, total: None,
) -> Dict[str, Any]:
    """Write a copy of a checkpoint with the map folded in, and its record; return the record.

    Args:
        kind: how the checkpoint is loaded.
        options: which one.
        read: the pairs that the map is fitted to; called when the checkpoint can be used.
        settings: of the map.
        output: folder, which must not be there; it is made whole or not at all.
        progress: told in pairs.

    Raises:
        ValueError: a checkpoint, pairs or a number that cannot be used, or tokens that did not move
            where they should.
        OSError: the files cannot be read or written.
        MissingRequirementError: this environment cannot load the model.
    """
    from regap_benchmarks.alignment.affine_map import fit_map
    from regap_benchmarks.alignment.projector_files import (
        find_last_linear,
        folded_tensors,
        write_copy,
    )
    from regap_benchmarks.alignment.token_moments import collect_moments, frechet_distances

    if output.exists():
        raise ValueError(
            f"--output {output}: expected a folder that is not there yet, found one. Remove it, or"
            " pass another."
        )
    # All that can be refused is refused before a model is loaded.
    kind.check(options)
    last = find_last_linear(Path(options.path))
    pairs = read()
    source = kind.load(options)
    try:
        find_last_linear(Path(options.path), source.dimension)
        moments = collect_moments(
            source,
            pairs,
            settings.protocol,
            batch_size=settings.batch_size,
            progress=progress,
        )
        described = dict(source.describe())
    finally:
        source.close()
    fitted = fit_map(
        moments.image,
        moments.text,
        match=settings.match,
        strength=settings.strength,
        shrinkage=settings.shrinkage,
    )
    tensors, rounding = folded_tensors(last, fitted.map)
    before, after = frechet_distances(moments, fitted.map.moments(moments.image))
    record = {
        "schema": 1,
        "source": {
            "fingerprint": fingerprint(options.path),
            "model": described,
            "alignment": _earlier_record(Path(options.path)),
        },
        "pairs_sha256": pairs.sha256,
        "pairs": len(pairs.pairs),
        "protocol": settings.protocol,
        "match": settings.match,
        "strength": settings.strength,
        "shrinkage": {"image": fitted.image_shrinkage, "text": fitted.text_shrinkage},
        "tokens": {"image": moments.image.count, "text": moments.text.count},
        "dimension": len(moments.image.mean),
        "frechet_distance_at_input": {"before": before, "after": after},
        "layer": last.weight,
        "files": list(last.files),
        "largest_relative_rounding": rounding,
        "environment": {**environment(), "model_path": options.path},
    }
    # Beside the output, on its disk: a checkpoint is there whole or not at all.
    part = output.with_name(f".{output.name}.{os.getpid()}.part")
    try:
        write_copy(last, tensors, part)
        text = json.dumps(record, indent=2) + "\n"
        (part / RECORD).write_text(text, encoding="utf-8")
        _check_moved(kind, options, part, pairs, moments.first, fitted.map, settings.protocol)
        os.replace(part, output)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return record


def _check_moved(
    kind: SourceKind,
    options: ModelOptions,
    folder: Path,
    pairs: Pairs,
    first: Any,
    fitted: Any,
    protocol: str,
) -> None:
    """Load what was written: its image tokens must be the mapped ones.

    Raises:
        ValueError: they are not.
    """
    from dataclasses import replace

    from regap_benchmarks.alignment.token_moments import first_tokens

    source = kind.load(replace(options, path=str(folder)))
    try:
        found = first_tokens(source, pairs, protocol).double()
    finally:
        source.close()
    expected = fitted.apply(first)
    scale = max(float((expected - first.double()).norm()), 0.1 * float(first.double().norm()))
    error = float((found - expected).norm()) / scale
    if not error < _TOLERANCE:
        raise ValueError(
            f"{folder}: expected image tokens of the first pair where the map puts them, found them"
            f" {error:.3g} of the way off: the model does something with its projector's output"
            " before the LLM. It cannot be aligned by its files."
        )


def _earlier_record(folder: Path) -> Any:
    """That of a checkpoint which was aligned before; None otherwise."""
    path = folder / RECORD
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
