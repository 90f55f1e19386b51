"""Whether runs may be compared: same questions, same settings, same judge, each run once."""

import fnmatch
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from regap_benchmarks.estimation import check_judgements
from regap_benchmarks.records import Judgement, RunHeader

# What may differ between runs: which checkpoint it is, and seeds. Dotted keys of the settings.
ALLOWED = (
    "model",
    "model.path",
    "model.checkpoint",
    "model.base",
    "model.name",
    "model.*fingerprint*",
    "fingerprint*",
    "seed",
    "*.seed",
)
_ABSENT = "absent"


@dataclass(frozen=True)
class JudgedRun:
    """A run and what one judge says of it.

    Attributes:
        name: of its folder, for messages; identifies it.
        header: of the file of judgements.
        judgements: all of the file.
    """

    name: str
    header: RunHeader
    judgements: Sequence[Judgement]


def check_comparable(
    groups: Mapping[str, Sequence[JudgedRun]], allowed: Sequence[str] = ALLOWED
) -> None:
    """Refuse groups whose difference would not be that of their checkpoints.

    Args:
        groups: of runs, by name.
        allowed: settings that may differ, as dotted keys with the wildcards of `fnmatch`.

    Raises:
        ValueError: less than two groups, a group without runs, a run that is there twice (by name
            or with equal settings), a shard, other samples, judges or settings, and what
            `estimation.estimate` refuses.
    """
    if len(groups) < 2:
        raise ValueError(
            f"Groups: expected two or more, found {list(groups)}. Give GROUP=DIR,DIR twice."
        )
    runs: List[Tuple[str, JudgedRun]] = []
    for name, members in groups.items():
        if not members:
            raise ValueError(f"Group {name!r}: expected runs, found none. Give it one or more.")
        runs += [(name, run) for run in members]
    _check_once(runs)
    reference = runs[0][1]
    for _, run in runs:
        if run.header.shard[1] != 1:
            raise ValueError(
                f"Run {run.name!r}: expected a whole run, found shard {run.header.shard[0]} of"
                f" {run.header.shard[1]}. Merge its shards first."
            )
        check_judgements(run.header, run.judgements)
        _check_same_questions(reference, run)
        _check_same_judge(reference, run)
        _check_same_settings(reference, run, allowed)
    for index, (_, run) in enumerate(runs):
        for _, other in runs[:index]:
            if not differing_settings(run.header.settings, other.header.settings):
                raise ValueError(
                    f"Runs {other.name!r} and {run.name!r}: expected different checkpoints or"
                    " seeds, found equal settings. The same run twice is no second seed: leave one"
                    " out."
                )


def differing_settings(first: Mapping[str, Any], second: Mapping[str, Any]) -> List[str]:
    """Dotted keys whose values differ, sorted; a key that one lacks differs."""
    one, two = flat_settings(first), flat_settings(second)
    return sorted(key for key in {*one, *two} if one.get(key, _ABSENT) != two.get(key, _ABSENT))


def judge_of(run: JudgedRun) -> str:
    """The judge's name; that of the header where there is no judgement."""
    if run.judgements:
        return run.judgements[0].judge
    return str((run.header.judge or {}).get("name", ""))


def flat_settings(settings: Mapping[str, Any], prefix: str = "") -> Dict[str, Any]:
    """Settings by dotted key."""
    flat: Dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            flat.update(flat_settings(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _check_once(runs: Sequence[Tuple[str, JudgedRun]]) -> None:
    seen: Dict[str, str] = {}
    for group, run in runs:
        if run.name in seen:
            raise ValueError(
                f"Run {run.name!r}: expected it once, found it in {seen[run.name]!r} and {group!r}."
                " Leave it in one group."
            )
        seen[run.name] = group


def _check_same_questions(reference: JudgedRun, run: JudgedRun) -> None:
    one, two = reference.header, run.header
    if one.samples_sha256 != two.samples_sha256 or sorted(map(repr, one.cells)) != sorted(
        map(repr, two.cells)
    ):
        raise ValueError(
            f"Runs {reference.name!r} and {run.name!r}: expected the same samples, found"
            f" {one.samples} with the digest {one.samples_sha256[:12]} and {two.samples} with"
            f" {two.samples_sha256[:12]}. Generate both with the same tasks, data, pictures and"
            " limit."
        )


def _check_same_judge(reference: JudgedRun, run: JudgedRun) -> None:
    names = judge_of(reference), judge_of(run)
    differing = differing_settings(reference.header.judge or {}, run.header.judge or {})
    if names[0] != names[1] or differing:
        keys = f" that differ in {', '.join(differing)}" if differing else ""
        raise ValueError(
            f"Runs {reference.name!r} and {run.name!r}: expected the same judge, found {names[0]!r}"
            f" and {names[1]!r}{keys}. Judge both with one."
        )


def _check_same_settings(reference: JudgedRun, run: JudgedRun, allowed: Sequence[str]) -> None:
    one, two = reference.header.settings, run.header.settings
    wrong = [
        key
        for key in differing_settings(one, two)
        if not any(fnmatch.fnmatchcase(key, pattern) for pattern in allowed)
    ]
    if wrong:
        first, second = flat_settings(one), flat_settings(two)
        found = "; ".join(
            f"{key} {first.get(key, _ABSENT)!r} and {second.get(key, _ABSENT)!r}" for key in wrong
        )
        raise ValueError(
            f"Runs {reference.name!r} and {run.name!r}: expected settings that differ in the"
            f" checkpoint and seeds only, found {found}. Generate both with the same settings, or"
            " allow these keys if they are what is compared."
        )
