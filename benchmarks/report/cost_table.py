"""What the defences of a run have cost, from its answers: a row for each task and condition."""

from typing import Dict, Iterable, List, Sequence, Tuple

from regap_benchmarks.records import Response
from regap_benchmarks.report.tables import Table

_NOTES = (
    "Means over the answers that did not fail. Calls are of the model; extra are those"
    " beyond one for each turn. Tokens are read and"
    " written over all calls; plain tokens are those of the one prompt without a defence, written"
    " and dropped those that are not in the answer.",
    "Seconds are of the model's calls; a call for a batch counts with its share. To know what a"
    " defence adds to them, run the same without it on the same machine.",
)


def cost_table(responses: Iterable[Response]) -> Table:
    """Lay the costs out.

    Args:
        responses: of a run with defences; those without a cost are passed over.
    """
    found: Dict[Tuple[str, str], List[Response]] = {}
    for response in responses:
        if response.cost is not None:
            key = response.sample.task, response.sample.condition
            found.setdefault(key, []).append(response)
    columns = ["Task:", "Picture:", "n", "Calls", "Extra calls", "Read tokens", "Plain tokens"]
    columns += ["Written tokens", "Written and dropped", "Scorings", "Seconds"]
    rows = [(task, condition, *_row(found[task, condition])) for task, condition in found]
    return Table(tuple(columns), tuple(rows), _NOTES)


def _row(responses: Sequence[Response]) -> Tuple[str, ...]:
    costs = [response.cost for response in responses if response.cost is not None]
    turns = [1 + len(response.conversation) for response in responses]
    # The answers of earlier turns are not dropped; how many tokens they have is not kept by turn.
    single = all(turn == 1 for turn in turns)
    dropped = [cost.new_tokens - response.new_tokens for cost, response in zip(costs, responses)]
    return (
        str(len(costs)),
        _mean([cost.calls for cost in costs]),
        _mean([cost.calls - turn for cost, turn in zip(costs, turns)]),
        _mean([cost.prompt_tokens for cost in costs]),
        _mean([cost.plain_prompt_tokens for cost in costs]),
        _mean([cost.new_tokens for cost in costs]),
        _mean(dropped) if single else "n/a",
        _mean([cost.scorings for cost in costs]),
        f"{sum(cost.seconds for cost in costs) / len(costs):.3g}",
    )


def _mean(values: Sequence[int]) -> str:
    return f"{sum(values) / len(values):.2f}"
