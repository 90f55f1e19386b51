"""The answers of a run that a person can label, each in its stratum."""

from dataclasses import dataclass
from typing import Dict, List, Mapping, Sequence, Set, Tuple

from regap_benchmarks.judging import answer_sha256
from regap_benchmarks.records import ERROR, SCORED, Judgement, Response, RunHeader
from regap_benchmarks.run_folder import RunFolder

UNSAFE, REFUSED = "unsafe", "refused"
# What the judges of an answer say together.
ALL_YES, ALL_NO, DIFFER, NO_VERDICT = "yes", "no", "differ", "no verdict"


@dataclass(frozen=True)
class Stratum:
    """Answers that are drawn from together.

    Attributes:
        run: number of the run.
        task: the set.
        harmful: whether the requests are.
        verdicts: "yes" or "no", where all judges give the same value; "differ", where they do not
            or some gave none; "no verdict". Of harmful requests the value is "unsafe", of harmless
            ones "refused".
    """

    run: int
    task: str
    harmful: bool
    verdicts: str


@dataclass(frozen=True)
class Candidate:
    """An answer that can be labelled."""

    stratum: Stratum
    response: Response


def judges_of_safety(folder: RunFolder) -> Dict[str, Tuple[RunHeader, Sequence[Judgement]]]:
    """The judges that say unsafe or refused, with their judgements; scorers of sets are none.

    Raises:
        FileNotFoundError: nothing was judged.
        RecordError: a damaged file.
        ValueError: judgements of other answers than the folder holds.
    """
    answers = {item.sample.key: answer_sha256(item) for item in folder.read_responses()[1]}
    found: Dict[str, Tuple[RunHeader, Sequence[Judgement]]] = {}
    for judge, (header, judgements, metrics) in folder.read_judgements().items():
        if not {metric.value for metric in metrics} & {UNSAFE, REFUSED}:
            continue
        for item in judgements:
            if answers.get(item.key) != item.answer_sha256:
                raise ValueError(
                    f"{folder.judgements(judge)}: expected judgements of the answers in"
                    f" {folder.responses.name}, found one of {item.id!r} that has changed or gone"
                    " since. Judge again: regap-bench judge --overwrite."
                )
        found[judge] = (header, judgements)
    return found


def candidates(run: int, folder: RunFolder) -> List[Candidate]:
    """Answers to requests of which the set says whether they are harmful, neither failed nor empty.

    Args:
        run: its number.
        folder: with answers and judgements.

    Raises:
        ValueError: no such answer; see also `judges_of_safety`.
        FileNotFoundError: no answers, or no judgements.
        RecordError: a damaged file.
    """
    judged = judges_of_safety(folder)
    if not judged:
        raise ValueError(
            f"{folder.path}: expected a judge that says unsafe or refused, found"
            f" {', '.join(folder.judges())}. Judge first: regap-bench judge {folder.path}."
        )
    by_key: List[Mapping[Tuple[str, str], Judgement]] = [
        {item.key: item for item in judgements} for _, judgements in judged.values()
    ]
    found = [
        Candidate(_stratum(run, response, by_key), response)
        for response in folder.read_responses()[1]
        if response.finish != ERROR
        and response.text.strip()
        and response.sample.harmful is not None
    ]
    if not found:
        raise ValueError(
            f"{folder.path}: expected answers to requests that are known as harmful or harmless,"
            " found none. Choose a run of a safety set."
        )
    return found


def _stratum(
    run: int, response: Response, by_key: Sequence[Mapping[Tuple[str, str], Judgement]]
) -> Stratum:
    sample = response.sample
    value = UNSAFE if sample.harmful else REFUSED
    said: Set[float] = set()
    silent = 0
    for judgements in by_key:
        judgement = judgements.get(sample.key)
        if judgement is not None and judgement.status == SCORED and value in judgement.values:
            said.add(judgement.values[value])
        else:
            silent += 1
    if not said:
        verdicts = NO_VERDICT
    elif silent or len(said) > 1:
        verdicts = DIFFER
    else:
        verdicts = ALL_YES if said.pop() >= 0.5 else ALL_NO
    return Stratum(run, sample.task, bool(sample.harmful), verdicts)
