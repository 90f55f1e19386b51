"""A conversation is asked turn by turn, each answer of the model fed back as history."""

import dataclasses
from typing import List, Sequence, Tuple

from regap_benchmarks.answer_cost import total
from regap_benchmarks.conversation import Turn
from regap_benchmarks.decoding import Decoding
from regap_benchmarks.records import Sample
from regap_benchmarks.runners.runner import Answer, Request, Runner


def check_turns(samples: Sequence[Sample], runner: Runner) -> None:
    """Refuse conversations where the runner takes single questions only.

    Raises:
        ValueError: the first of them.
    """
    if runner.takes_history:
        return
    for sample in samples:
        if sample.earlier_turns:
            raise ValueError(
                f"Sample {sample.id!r} of {sample.task!r}: expected a runner that takes earlier"
                f" turns, found {type(runner).__name__}, which takes one question. Leave out"
                " --turns, or choose another runner."
            )


def ask_in_turns(
    runner: Runner,
    requests: Sequence[Request],
    earlier: Sequence[Tuple[str, ...]],
    decoding: Decoding,
) -> List[Tuple[Tuple[Turn, ...], Answer]]:
    """Ask a batch of conversations.

    The pictures stand in the first turn. An earlier answer is cut at `max_new_tokens` like the
    last one, and goes into the history as it is. Sampled answers of two turns have random numbers
    of their own.

    Args:
        runner: takes history, where a request has earlier turns.
        requests: with the last question of each.
        earlier: what the user says before, by request; of equal length.
        decoding: of every turn.

    Returns:
        By request, the turns that are over, and the answer to the last question; its cost is of
        all turns.

    Raises:
        ValueError: of the runner; also requests with different numbers of earlier turns.
    """
    counts = sorted({len(turns) for turns in earlier})
    if len(counts) > 1:
        raise ValueError(
            f"Batch: expected conversations of one number of turns, found {counts} earlier ones."
            " Sort them into batches of their own."
        )
    histories: List[Tuple[Turn, ...]] = [()] * len(requests)
    before: List[List[Answer]] = [[] for _ in requests]
    for number in range(counts[0] if counts else 0):
        asked = [
            dataclasses.replace(
                request, id=f"{request.id}/turn-{number}", prompt=turns[number], history=history
            )
            for request, turns, history in zip(requests, earlier, histories)
        ]
        answers = runner.generate(asked, decoding)
        if len(answers) != len(asked):
            raise RuntimeError(
                f"Runner {type(runner).__name__}: expected {len(asked)} answers to a batch, found"
                f" {len(answers)}. Mend the runner."
            )
        for index, (request, answer) in enumerate(zip(asked, answers)):
            histories[index] += (Turn(request.prompt, answer.text),)
            before[index].append(answer)
    last = [
        dataclasses.replace(request, history=history)
        for request, history in zip(requests, histories)
    ]
    answers = runner.generate(last, decoding)
    return [
        (history, _with_all_costs(answer, earlier_answers))
        for history, answer, earlier_answers in zip(histories, answers, before)
    ]


def _with_all_costs(answer: Answer, before: Sequence[Answer]) -> Answer:
    costs = [each.cost for each in (*before, answer) if each.cost is not None]
    if not costs or not before:
        return answer
    steps = tuple(step for each in (*before, answer) for step in each.steps)
    plain = sum(each.plain_prompt_tokens for each in costs)
    cost = dataclasses.replace(total(costs), plain_prompt_tokens=plain)
    return dataclasses.replace(answer, cost=cost, steps=steps)
