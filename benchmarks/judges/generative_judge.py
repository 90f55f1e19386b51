"""The base of judges that write their verdict: prompt, generation, reading, one small file each.

Question and answer are untrusted: an answer may spell out the marks by which the judge's prompt is
divided, or its special tokens, and so speak in the prompt's name. The published classifiers show it
as it is, and so do these; the verdict says how many marks there were. With `breaks_marks` each is
broken by a space after its first letter. A text that cannot be read is "unparsed", its words are
kept, and it is never safe.
"""

import abc
import re
from typing import TYPE_CHECKING, Callable, List, Mapping, Optional, Sequence, Tuple

from regap_benchmarks.judges.judge import Judge, Verdict
from regap_benchmarks.judges.judge_question import judge_question
from regap_benchmarks.judges.marks import Marks
from regap_benchmarks.judges.text_generator import Generated, TextGenerator
from regap_benchmarks.records import FAILED, UNPARSED, Json, Response

if TYPE_CHECKING:
    from PIL.Image import Image


class GenerativeJudge(Judge):
    """Asks a model for a verdict.

    Args:
        generator: the model.

    Attributes:
        marks: what divides the judge's prompt, beside the tokenizer's special tokens.
        breaks_marks: whether these are broken in what is judged; published rules do not. A judge
            that sees pictures always breaks them.
        most_tokens: of a verdict.
        words: whose probability at the first token is wanted.
        most_answer_tokens: an answer is cut to them before it is shown; None for no cut.
    """

    marks: Sequence[str] = ()
    breaks_marks: bool = False
    most_tokens: int = 32
    words: Sequence[str] = ()
    most_answer_tokens: Optional[int] = None

    def __init__(self, generator: TextGenerator) -> None:
        self.generator = generator
        self._marks = Marks([*self.marks, *generator.special_texts()])

    def pictures(self, response: Response) -> "Sequence[Image]":
        """What the judge is shown beside the prompt; a judge of text is shown none."""
        return ()

    @abc.abstractmethod
    def prompt(self, question: str, answer: str, response: Response) -> str:
        """The whole prompt.

        Args:
            question: of `judge_question`.
            answer: cut.
            response: for more columns.
        """

    @abc.abstractmethod
    def read(self, generated: Generated, prompt: str) -> Optional[Verdict]:
        """The verdict in what the model wrote; None where there is none."""

    def describe(self) -> Mapping[str, Json]:
        """Model, lengths and marks; a judge adds its prompt and threshold."""
        return {
            "model": dict(self.generator.describe()),
            "most_tokens": self.most_tokens,
            "most_answer_tokens": self.most_answer_tokens,
            "marks": list(self.marks),
            "breaks_marks": self.breaks_marks,
        }

    def judge(self, responses: Sequence[Response]) -> Sequence[Verdict]:
        """Ask for all, and read each."""
        asked = [self._prompt(response) for response in responses]
        excess = [
            self.generator.excess(prompt, self.most_tokens, pictures)
            for prompt, _, pictures in asked
        ]
        fitting = [one for one, more in zip(asked, excess) if not more]
        written = iter(
            self.generator.generate(
                [prompt for prompt, _, _ in fitting],
                most_tokens=self.most_tokens,
                words=self.words,
                pictures=[pictures for _, _, pictures in fitting],
            )
        )
        return [
            _too_long(more, note) if more else self._verdict(next(written), prompt, note)
            for (prompt, note, _), more in zip(asked, excess)
        ]

    def close(self) -> None:
        """Give the model's memory back."""
        self.generator.close()

    def _prompt(self, response: Response) -> "Tuple[str, str, Sequence[Image]]":
        pictures = self.pictures(response)
        # What the model was asked, where the judge sees what the model saw.
        question, source = (
            (response.sample.prompt, f"prompt, {len(pictures)} pictures")
            if pictures
            else judge_question(response.sample)
        )
        answer = response.text
        notes = [f"question: {source}"]
        if self.most_answer_tokens is not None:
            shown = self.generator.cut(answer, self.most_answer_tokens)
            if shown != answer:
                notes.append(f"answer cut to {self.most_answer_tokens} tokens")
            answer = shown
        broken_question, in_question = self._marks.broken(question)
        broken_answer, in_answer = self._marks.broken(answer)
        # A picture's mark in a text would stand for a picture that is not there.
        breaks = self.breaks_marks or self.generator.sees_pictures
        if in_question + in_answer:
            done = "broken" if breaks else "in what is judged, shown as they are"
            notes.append(f"{in_question + in_answer} marks of the judge's prompt {done}")
        if breaks:
            question, answer = broken_question, broken_answer
        return self.prompt(question, answer, response), "; ".join(notes), pictures

    def _verdict(self, generated: Generated, prompt: str, note: str) -> Verdict:
        found = self.read(generated, prompt)
        if found is None:
            return Verdict(
                status=UNPARSED, explanation=f"no verdict in it; {note}", raw=generated.text
            )
        said = "; ".join(part for part in (found.explanation, note) if part)
        return Verdict(found.values, found.status, said, generated.text, found.scores)


def _too_long(excess: int, note: str) -> Verdict:
    said = f"the judge's prompt is {excess} tokens longer than its context; {note}"
    return Verdict(status=FAILED, explanation=said)


def last_verdict(text: str, pattern: str, known: Callable[[str], bool]) -> Optional[str]:
    """The last thing that a pattern's group finds and that is a verdict: later words win.

    For rubrics, whose models reason before they decide and quote the scale that they were given.
    """
    found: List[str] = [match.group(1) for match in re.finditer(pattern, text)]
    return next((each for each in reversed(found) if known(each)), None)
