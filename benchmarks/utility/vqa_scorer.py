"""Scoring of short answers against ten people's, and LLaVA's question files."""

from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Mapping, Optional, Sequence, Tuple

from regap_benchmarks.judges.judge import Judge, Verdict
from regap_benchmarks.metrics import Metric
from regap_benchmarks.official.files import read_json_lines, relative, string
from regap_benchmarks.pictures import file_picture
from regap_benchmarks.records import ERROR, Json, Judgement, Response, Sample
from regap_benchmarks.utility.vqa_answer import m4c_answer

SHORT_ANSWER = "\nAnswer the question using a single word or phrase."
UNANSWERABLE = "unanswerable"
VQA_ACCURACY = Metric(
    "vqa_accuracy", "score", True, None, "mean of min(1, matches / 3) over nine of ten people"
)
ANSWERED = Metric("answered", "answered", None, None, "answers that say something")
SAID_UNANSWERABLE = Metric(
    "said_unanswerable", "unanswerable", None, None, "answers that say 'unanswerable'"
)


class VqaScorer(Judge):
    """Scores an answer against people's; where a server keeps those, says what can be said.

    An answer that is empty, or becomes so by normalisation, is a wrong one and not a gap.

    Args:
        name: of the task.
        metrics: `VQA_ACCURACY` only where samples have references.
        rule: the name of the rule, for the header.
        score: from an answer and people's answers, a number from 0 to 1.
    """

    judges_empty = True

    def __init__(
        self,
        name: str,
        metrics: Sequence[Metric],
        rule: str,
        score: Callable[[str, Sequence[str]], float],
    ) -> None:
        self.name = name
        self._metrics = tuple(metrics)
        self._rule = rule
        self._score = score

    @property
    def metrics(self) -> Sequence[Metric]:
        """As given."""
        return self._metrics

    def describe(self) -> Mapping[str, Json]:
        """The rule's name."""
        return {"rule": self._rule}

    def judge(self, responses: Sequence[Response]) -> Sequence[Verdict]:
        """Each answer by itself."""
        return [self._verdict(response) for response in responses]

    def _verdict(self, response: Response) -> Verdict:
        said = m4c_answer(response.text)
        values = {"answered": float(bool(said)), "unanswerable": float(said == UNANSWERABLE)}
        if response.sample.references:
            values["score"] = self._score(response.text, response.sample.references)
        shown = {metric.value for metric in self._metrics}
        kept = {name: value for name, value in values.items() if name in shown}
        return Verdict(kept, explanation=f"counts as {said!r}")


def question_lines(
    path: Path, pictures: Path, task: str, data: Path
) -> Iterator[Tuple[str, Sample, Dict[str, Any]]]:
    """The questions of a file of LLaVA's: "FILE, line N", a sample, and the line.

    A line is `{question_id, image, text}`; `text` is the whole prompt. Questions about one picture
    are one request: they are no independent ones.

    Args:
        path: the file.
        pictures: folder of the images.
        task: name of the set.
        data: what `--data` names; paths are relative to it.

    Raises:
        ValueError: a line that is not such a question; names file and line.
    """
    for where, line in read_json_lines(path, ("question_id", "image", "text")):
        image = string(line, "image", where)
        sample = Sample(
            task=task,
            id=str(line["question_id"]),
            request=image,
            prompt=string(line, "text", where),
            pictures=(file_picture(relative(pictures / image, data)),),
            metadata={"question_id": line["question_id"], "image": image},
        )
        yield where, sample, line


def question_of(prompt: str) -> str:
    """The first line of a prompt."""
    return prompt.split("\n", maxsplit=1)[0]


def people(answers: Any, where: str) -> Tuple[str, ...]:
    """People's answers, from texts or from objects with `answer`.

    Raises:
        ValueError: something else, or none.
    """
    found = [item.get("answer") if isinstance(item, Mapping) else item for item in answers or ()]
    if not found or not all(isinstance(item, str) for item in found):
        raise ValueError(
            f"{where}: expected people's answers, found {str(answers)[:60]}. Pass the official"
            " file."
        )
    return tuple(str(item) for item in found)


def answered(responses: Sequence[Response], task: str) -> Sequence[Response]:
    """The responses, if none ended in an error.

    Raises:
        ValueError: one did: a file for a server would hold no answer in its place.
    """
    failed = [response.sample.id for response in responses if response.finish == ERROR]
    if failed:
        raise ValueError(
            f"Task {task!r}: expected an answer to every question, found {len(failed)} that ended"
            f" in an error, such as {failed[0]!r}. Run again with --retry-failed."
        )
    return responses


def question_ids(responses: Sequence[Response]) -> Iterator[Tuple[Json, Response]]:
    """Each response with its official question id, of the official type."""
    for response in responses:
        yield response.sample.metadata["question_id"], response


def mean_percent(judgements: Sequence[Judgement], value: str) -> Optional[float]:
    """The mean of a value in percent; None where no answer has it."""
    found = [item.values[value] for item in judgements if value in item.values]
    return 100.0 * (sum(found) / len(found)) if found else None
