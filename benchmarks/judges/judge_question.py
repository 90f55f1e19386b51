"""The question that a judge is shown beside an answer, from the record and nowhere else."""

from typing import Optional, Sequence, Tuple

from regap_benchmarks.pictures import CONDITIONS, OWN
from regap_benchmarks.records import Response, Sample

JUDGED_PROMPT, PROMPT = "judged_prompt", "prompt"
# Under these the prompt holds the whole request; a set's own picture may hold a part of it.
_WHOLE_PROMPTS = tuple(condition for condition in CONDITIONS if condition != OWN)


def judge_question(sample: Sample) -> Tuple[str, str]:
    """The question, and the field of the sample that it is.

    The sample's `judged_prompt`; where it has none, its prompt, unless the request may be in a
    picture that a judge of text never sees: HADES and FigStep ask about "the image", and a verdict
    on that would be one on another question.

    Raises:
        ValueError: the record carries no question that can be judged.
    """
    if sample.judged_prompt is not None:
        question, source = sample.judged_prompt, JUDGED_PROMPT
    else:
        question, source = sample.prompt, PROMPT
        if sample.pictures and sample.condition not in _WHOLE_PROMPTS:
            raise ValueError(
                f"Sample {sample.id!r} of {sample.task!r}: expected a judged_prompt, as a judge of"
                " text does not see the set's own picture, found none. Let the task say what is"
                " judged, or choose a judge that reads the answer alone, such as a list of phrases."
            )
    if not question.strip():
        raise ValueError(
            f"Sample {sample.id!r} of {sample.task!r}: expected a question for the judge, found"
            f" an empty {source}. Let the task say what is judged."
        )
    return question, source


def question_of_the_whole(sample: Sample) -> Optional[str]:
    """The `judged_prompt` for a sample that is asked in another way: what judges are shown of this.

    None where that is in a set's own picture, and a judge of text is to be refused.
    """
    if sample.judged_prompt is not None or (sample.pictures and sample.condition == OWN):
        return sample.judged_prompt
    return sample.prompt


def check_questions(responses: Sequence[Response]) -> None:
    """Refuse answers to samples without a question, before a judge is loaded.

    Raises:
        ValueError: the first of them.
    """
    for response in responses:
        judge_question(response.sample)
