"""The single answers of a page as JSON: each question once, each name once, 20,000 answers at ease.

The page's script reads this document; `docs/report.md` names its parts.
"""

from typing import Any, Dict, List, Optional, Sequence, Tuple

from regap_benchmarks.records import Json, Judgement, Response, Sample
from regap_benchmarks.report.page.compared_runs import PageRun

OWN_SCORER = "set's own rule"
_SAFETY_VALUES = ("unsafe", "refused")
_Key = Tuple[str, str]


class _Names:
    """Numbers for what is said many times."""

    def __init__(self) -> None:
        self.known: Dict[str, int] = {}

    def number(self, name: str) -> int:
        return self.known.setdefault(name, len(self.known))

    def listed(self) -> List[Json]:
        return list(self.known)


def answer_document(runs: Sequence[PageRun]) -> Dict[str, Json]:
    """All answers with their questions and verdicts.

    Args:
        runs: of one comparison, or one alone.

    Returns:
        `runs` and `groups`, `judges`, the names `tasks`, `conditions`, `categories`; `questions`
        as [task, condition, category, id, request, prompt, system, pictures, references, harmful,
        closed]; `answers` as [question, run, text, finish, error, verdicts], with a verdict
        [status, values, explanation, raw] or null for each judge.
    """
    tasks, conditions, categories, texts = _Names(), _Names(), _Names(), _Names()
    scorers = {cell.task for run in runs for cell in run.header.cells}
    judges = _judges(runs, scorers)
    guarded = _guarded(runs)
    for cell in runs[0].header.cells:  # in the order of the run, which answers are not in
        tasks.number(cell.task)
        conditions.number(cell.condition)
        categories.number(cell.category)
    questions: Dict[_Key, int] = {}
    rows: List[List[Any]] = []
    answers: List[List[Any]] = []
    for number, run in enumerate(runs):
        verdicts = _verdicts(run, judges, scorers)
        for key, sample, response in _samples(run):
            found = verdicts.get(key, [None] * len(judges))
            if key not in questions:
                questions[key] = len(rows)
                rows.append(
                    [
                        tasks.number(sample.task),
                        conditions.number(sample.condition),
                        categories.number(sample.category),
                        sample.id,
                        sample.request,
                        texts.number(sample.prompt),
                        None if sample.system is None else texts.number(sample.system),
                        [picture.kind for picture in sample.pictures],
                        list(sample.references),
                        sample.harmful,
                        sample.harmful is True
                        or (sample.task in guarded and sample.harmful is None),
                    ]
                )
            answers.append(
                [
                    questions[key],
                    number,
                    None if response is None else response.text,
                    "" if response is None else response.finish,
                    "" if response is None else response.error,
                    [_verdict(item) for item in found],
                ]
            )
    # Generation is in the order of lengths; a reader wants one question's answers together.
    order = [(row[0], row[4], row[1], row[3]) for row in rows]
    return {
        "runs": [run.name for run in runs],
        "groups": [run.group for run in runs],
        "judges": list(judges),
        "tasks": tasks.listed(),
        "conditions": conditions.listed(),
        "categories": categories.listed(),
        "texts": texts.listed(),
        "questions": rows,
        "answers": sorted(answers, key=lambda row: (*order[row[0]], row[1])),
    }


def _judges(runs: Sequence[PageRun], scorers: "set[str]") -> List[str]:
    """Each judge, and one place for the rules of sets that have their own."""
    found = dict.fromkeys(judge for run in runs for judge in run.judgements)
    names = [judge for judge in found if judge not in scorers]
    return names + [OWN_SCORER] * (len(names) < len(found))


def _verdicts(
    run: PageRun, judges: Sequence[str], scorers: "set[str]"
) -> Dict[_Key, List[Optional[Judgement]]]:
    found: Dict[_Key, List[Optional[Judgement]]] = {}
    for judge, (_, judgements, _) in run.judgements.items():
        place = judges.index(OWN_SCORER if judge in scorers else judge)
        for item in judgements:
            found.setdefault(item.key, [None] * len(judges))[place] = item
    return found


def _samples(run: PageRun) -> "List[Tuple[_Key, Sample, Optional[Response]]]":
    if run.responses:
        return [(item.sample.key, item.sample, item) for item in run.responses]
    # Judgements without answers: their questions are known by name only.
    known: Dict[_Key, Sample] = {}
    for _, judgements, _ in run.judgements.values():
        for item in judgements:
            known.setdefault(
                item.key,
                Sample(
                    item.task,
                    item.id,
                    item.request,
                    "",
                    item.condition,
                    category=item.category,
                    harmful=item.harmful,
                ),
            )
    return [(key, sample, None) for key, sample in known.items()]


def _guarded(runs: Sequence[PageRun]) -> "set[str]":
    """Sets that a judge of safety has judged: where they do not say what is harmful, all may be."""
    return {
        cell.task
        for run in runs
        for header, _, metrics in run.judgements.values()
        if any(metric.value in _SAFETY_VALUES for metric in metrics)
        for cell in header.cells
    }


def _verdict(item: Optional[Judgement]) -> Json:
    if item is None:
        return None
    return [item.status, dict(item.values), item.explanation, item.raw]
