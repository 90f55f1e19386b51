"""What a study shows, in words: a pure function of its numbers and their spread.

No sentence is written beforehand with an outcome in it: each says how a number came out, whichever
way, and how sure that is.
"""

from typing import Dict, List, Optional, Sequence

from regap_benchmarks.miniature.contrasts import (
    FELL,
    ONE_SEED,
    ROSE,
    SAME,
    Contrast,
    Spread,
    contrasts,
    last_steps,
    values_of,
)
from regap_benchmarks.miniature.measuring import (
    CAPTION_F1,
    HELP,
    MIR,
    NOT_REFUSED,
    OVER_REFUSAL,
    REAL_RECIPE,
    TOLD,
    VQA_ACCURACY,
    Checkpoint,
)
from regap_benchmarks.records import NO_PICTURE

INPUT_GAP = "gap:pairwise_l2:0"
INPUT_CENTROID = "gap:centroid_l2:0"
# With one seed nothing is said of a difference but how large it came out.
_NAMES: Dict[str, str] = {
    INPUT_GAP: "the pairwise distance of image and text tokens at the LLM's input",
    INPUT_CENTROID: "the distance of their means there",
    MIR: "MIR",
    CAPTION_F1: "the F1 of the captions' facts",
    VQA_ACCURACY: "the accuracy on questions about pictures",
}
_RATES = {
    NOT_REFUSED: "forbidden requests that are not refused",
    REAL_RECIPE: "forbidden requests whose real recipe is given",
    HELP: "harmless requests answered right",
    OVER_REFUSAL: "harmless requests refused",
}


# What a checkpoint is held against another one in, in the order in which it is told.
COMPARED = (
    INPUT_GAP,
    INPUT_CENTROID,
    MIR,
    *(f"{rate}:picture" for rate in _RATES),
    CAPTION_F1,
    VQA_ACCURACY,
)


def pictures_of(checkpoints: Sequence[Checkpoint]) -> List[str]:
    """The picture conditions that were asked, without text alone."""
    found = dict.fromkeys(
        name.partition(":")[2]
        for each in checkpoints
        for name in each.values
        if name.startswith(f"{NOT_REFUSED}:")
    )
    return [name for name in found if name not in (NO_PICTURE, TOLD)]


def mean_over_pictures(
    checkpoint: Checkpoint, rate: str, pictures: Sequence[str]
) -> Optional[float]:
    """A rate over all conditions with a picture, each with equal weight; None where one lacks."""
    found = [checkpoint.get(f"{rate}:{picture}") for picture in pictures]
    there = [value for value in found if value is not None]
    return sum(there) / len(there) if there and len(there) == len(found) else None


def with_picture_means(checkpoints: Sequence[Checkpoint]) -> List[Checkpoint]:
    """The checkpoints with the mean of each rate over the conditions with a picture added.

    Under "RATE:picture".
    """
    import dataclasses

    from regap_benchmarks.miniature.measuring import Number

    pictures = pictures_of(checkpoints)
    extended = []
    for each in checkpoints:
        values = dict(each.values)
        for rate in _RATES:
            value = mean_over_pictures(each, rate, pictures)
            if value is not None:
                values[f"{rate}:picture"] = Number(value)
        extended.append(dataclasses.replace(each, values=values))
    return extended


def findings(checkpoints: Sequence[Checkpoint], *, level: float = 0.95) -> List[str]:
    """Sentences: the premise at weight 0, then of each loss and weight gap, safety and utility."""
    every = with_picture_means(checkpoints)
    sentences = premise(every)
    groups: Dict[str, List[Contrast]] = {}
    for each in contrasts(every, COMPARED, level=level):
        groups.setdefault(f"{each.loss}, weight {each.weight:g}", []).append(each)
    for title, group in groups.items():
        sentences += [f"{title}: {contrast_sentence(each)}" for each in group]
        sentences.append(f"{title}: {claim_sentence(group)}")
    return sentences


def premise(checkpoints: Sequence[Checkpoint]) -> List[str]:
    """Whether the model is safe on text and less so with a picture, at weight 0."""
    plain = {
        each.seed: each for each in last_steps(checkpoints) if each.weight == 0 and not each.variant
    }
    if not plain:
        return []
    sentences = []
    for rate in (NOT_REFUSED, REAL_RECIPE):
        alone = spread_of(plain, f"{rate}:{NO_PICTURE}")
        told = spread_of(plain, f"{rate}:{TOLD}")
        pictured = spread_of(plain, f"{rate}:picture")
        said = f"Weight 0, {_RATES[rate]}: {share(alone)} by text alone"
        if told.values:
            said += f", {share(told)} after a picture told in words"
        said += f", {share(pictured)} with a picture"
        made = contrasts_over_seeds(plain, f"{rate}:{NO_PICTURE}", f"{rate}:picture")
        if made is not None:
            said += f"; {_verdict(made, 'a picture', points=True)}"
            more = sum(b > a for a, b in zip(made.before.values, made.after.values))
            said += f"; more with a picture in {more} of {len(made.before.values)} seeds"
        sentences.append(f"{said}.")
    return sentences


def contrasts_over_seeds(
    checkpoints: Dict[int, Checkpoint], first: str, second: str
) -> Optional[Contrast]:
    """One number of the same checkpoints against another."""
    from regap_benchmarks.miniature.contrasts import contrast

    return contrast(
        second,
        values_of(checkpoints, first),
        values_of(checkpoints, second),
        loss="",
        weight=0.0,
    )


def contrast_sentence(
    found: Contrast,
    *,
    before: str = "at weight 0",
    after: str = "with it",
    cause: str = "the term",
) -> str:
    """How one number came out against weight 0, or against another reference.

    Args:
        found: the numbers.
        before: names the reference.
        after: names what is held against it.
        cause: names what sets them apart.
    """
    rate = found.name.partition(":")[0]
    points = rate in _RATES or found.name in (CAPTION_F1, VQA_ACCURACY)
    name = f"{_RATES[rate]}, with a picture" if rate in _RATES else _NAMES[found.name]
    shown = share if points else number
    return (
        f"{name}: {shown(found.before)} {before}, {shown(found.after)} {after};"
        f" {_verdict(found, cause, points=points)}."
    )


def claim_sentence(group: Sequence[Contrast]) -> str:
    """Whether gap and safety moved together, as the paper claims, in this study."""
    by_name = {each.name: each for each in group}
    gap = by_name.get(INPUT_GAP)
    recipe, refused = (by_name.get(f"{rate}:picture") for rate in (REAL_RECIPE, NOT_REFUSED))
    if gap is None or recipe is None or refused is None:
        return "gap or safety was not measured, so nothing follows for the claim."
    if ONE_SEED in (gap.verdict, recipe.verdict):
        return "one seed shows no spread, so nothing follows for the claim; train more seeds."
    gap_said = {
        FELL: "the gap fell",
        ROSE: "the gap rose",
        SAME: "the gap did not move",
    }.get(gap.verdict, "whether the gap moved is undecided")
    verdicts = {recipe.verdict, refused.verdict}
    if verdicts == {FELL}:
        safety = "safety improved in both columns"
    elif verdicts == {ROSE}:
        safety = "safety got worse in both columns"
    elif {FELL, ROSE} == verdicts:
        safety = "the two columns of safety moved in opposite directions"
    elif FELL in verdicts:
        column = "compliance" if recipe.verdict == FELL else "answers not refused"
        safety = f"safety improved in one column only ({column})"
    elif ROSE in verdicts:
        column = "compliance" if recipe.verdict == ROSE else "answers not refused"
        safety = f"safety got worse in one column ({column})"
    else:
        safety = "a change of safety is not shown: the seeds differ too much, or nothing changed"
    fits = gap.verdict == FELL and verdicts == {FELL}
    claim = "as the paper claims" if fits else "which is not what the paper claims"
    if not fits and not verdicts & {FELL, ROSE}:
        claim = "so the paper's claim is neither shown nor refuted here"
    return f"{gap_said}, and {safety}, {claim}."


def spread_of(checkpoints: Dict[int, Checkpoint], name: str) -> Spread:
    """A number over the seeds."""
    found = values_of(checkpoints, name)
    return Spread(tuple(found[seed] for seed in sorted(found)))


def share(spread: Spread) -> str:
    """A rate in percent with its standard deviation over the seeds."""
    if not spread.values:
        return "not measured"
    deviation = "" if spread.deviation is None else f" ± {100 * spread.deviation:.0f}"
    return f"{100 * spread.mean:.0f}{deviation} %"


def number(spread: Spread) -> str:
    """A number with its standard deviation over the seeds."""
    if not spread.values:
        return "not measured"
    deviation = "" if spread.deviation is None else f" ± {spread.deviation:.2g}"
    return f"{spread.mean:.3g}{deviation}"


def _verdict(found: Contrast, cause: str, *, points: bool) -> str:
    size = _size(found.value, points)
    if found.lower is None or found.upper is None:
        return f"{cause} changed it by {size} in one seed, of which the spread is not known"
    reach = f"{size}, {found.level:.0%} interval over {len(found.before.values)} seeds"
    interval = f"{_size(found.lower, points)} to {_size(found.upper, points)}"
    if found.verdict == SAME:
        return f"{cause} did not change it in any seed"
    if found.verdict == FELL:
        return f"{cause} lowered it ({reach} {interval})"
    if found.verdict == ROSE:
        return f"{cause} raised it ({reach} {interval})"
    return f"an effect of {cause} is not shown ({reach} {interval})"


def _size(value: float, points: bool) -> str:
    return f"{100 * value:+.0f} points" if points else f"{value:+.3g}"
