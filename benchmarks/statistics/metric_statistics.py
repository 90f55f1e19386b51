"""What a metric may be beside a mean: F1, all of a group right, a ratio of means.

Each takes the answers' values as columns, and the request and category of each answer, and gives
one number. They are named, so that the header of a file of judgements can say which one it is.
"""

from typing import TYPE_CHECKING, Callable, Dict, Iterator, Mapping, NamedTuple, Tuple

from regap_plugin.config import unknown_name

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Columns = Mapping[str, Floats]
    # (columns, name of the metric's own column, groups) -> the number; NaN where undefined.
    Statistic = Callable[[Columns, str, "Groups"], float]

MEAN = "mean"


class Groups(NamedTuple):
    """What each answer belongs to.

    Attributes:
        requests: number of its request, [n].
        categories: number of its category, [n].
    """

    requests: "NDArray[np.int64]"
    categories: "NDArray[np.int64]"


def mean(columns: "Columns", value: str, groups: "Groups") -> float:
    """The mean over the answers."""
    return float(columns[value].mean())


def all_of_request(columns: "Columns", value: str, groups: "Groups") -> float:
    """The share of requests all of whose answers have the value 1.

    MMBench's circular evaluation (rotations of one question) and MME's acc+ (questions about one
    picture).
    """
    return float(least_of_requests(columns[value], groups.requests).mean())


def least_of_requests(values: "Floats", requests: "NDArray[np.int64]") -> "Floats":
    """The smallest value of each request."""
    import numpy as np

    _, index = np.unique(requests, return_inverse=True)
    least = np.ones(int(index.max()) + 1)
    np.minimum.at(least, index, values)
    return least


def precision(columns: "Columns", value: str, groups: "Groups") -> float:
    """Of the answers with `said_yes`, the share with `is_yes`; NaN without any."""
    said, true = columns["said_yes"], columns["is_yes"]
    return _ratio(float((said * true).sum()), float(said.sum()))


def recall(columns: "Columns", value: str, groups: "Groups") -> float:
    """Of the answers with `is_yes`, the share with `said_yes`; NaN without any."""
    said, true = columns["said_yes"], columns["is_yes"]
    return _ratio(float((said * true).sum()), float(true.sum()))


def f1(columns: "Columns", value: str, groups: "Groups") -> float:
    """The harmonic mean of precision and recall, 2 TP / (2 TP + FP + FN); NaN without any yes."""
    said, true = columns["said_yes"], columns["is_yes"]
    return _ratio(2 * float((said * true).sum()), float(said.sum() + true.sum()))


def ratio_to_reference(columns: "Columns", value: str, groups: "Groups") -> float:
    """The mean of the value over the mean of `reference`; NaN where that is 0.

    LLaVA-Bench's score of a model relative to that of the reference answers.
    """
    return _ratio(float(columns[value].mean()), float(columns["reference"].mean()))


def mean_f1_of_categories(columns: "Columns", value: str, groups: "Groups") -> float:
    """The mean of the F1 of each category; NaN where one is undefined.

    LLaVA's number for POPE, of the three splits.
    """
    found = [f1(part, value, own) for part, own in _by_category(columns, groups)]
    return sum(found) / len(found)


def sum_of_categories(columns: "Columns", value: str, groups: "Groups") -> float:
    """Over the categories, the sum of the mean and of the share of requests that are all right.

    From 0 to twice the number of categories; times 100, MME's points: acc and acc+ of each subtask.
    """
    return sum(
        mean(part, value, own) + all_of_request(part, value, own)
        for part, own in _by_category(columns, groups)
    )


def _by_category(columns: "Columns", groups: "Groups") -> "Iterator[Tuple[Columns, Groups]]":
    for number in sorted(set(groups.categories.tolist())):
        here = groups.categories == number
        part = {name: values[here] for name, values in columns.items()}
        yield part, Groups(groups.requests[here], groups.categories[here])


ALL_OF_REQUEST = "all_of_request"
STATISTICS: "Dict[str, Statistic]" = {
    MEAN: mean,
    ALL_OF_REQUEST: all_of_request,
    "precision": precision,
    "recall": recall,
    "f1": f1,
    "mean_f1_of_categories": mean_f1_of_categories,
    "ratio_to_reference": ratio_to_reference,
    "sum_of_categories": sum_of_categories,
}


def statistic(name: str) -> "Statistic":
    """The statistic of that name.

    Raises:
        ValueError: there is none; names the nearest.
    """
    if name not in STATISTICS:
        raise ValueError(unknown_name("statistic", name, STATISTICS))
    return STATISTICS[name]


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else float("nan")
