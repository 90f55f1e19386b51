"""Tables of estimates, comparisons and agreement for a terminal, Markdown and LaTeX.

Rates are percent with one decimal, each with its interval, n and gaps beside it. A metric carries
the arrow of its better direction, as in lm-eval's tables. LaTeX needs the package `booktabs`.
"""

from dataclasses import dataclass
from typing import Callable, Iterable, List, Optional, Sequence, Tuple, Union

from regap_benchmarks.comparison import Comparison
from regap_benchmarks.estimation import ALL
from regap_benchmarks.records import Estimate
from regap_benchmarks.statistics.agreement import Agreement, Coefficient

ARROWS = {True: "↑", False: "↓", None: ""}
NOT_AVAILABLE = "n/a"
_ALL_WORD = "all"
_LATEX_ARROWS = {"↑": r"$\uparrow$", "↓": r"$\downarrow$"}
_GAPS_NOTE = (
    "Rates are percent of the n scored answers. Unparsed, empty, failed and missing answers were"
    " asked for and are not scored; strict counts each of them against the model."
)


@dataclass(frozen=True)
class Table:
    """A table before it has a form.

    Attributes:
        columns: the header; a column whose name ends with ":" is text, others are numbers.
        rows: cells as text, one for each column.
        notes: sentences to stand under it.
    """

    columns: Tuple[str, ...]
    rows: Tuple[Tuple[str, ...], ...]
    notes: Tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(
                    f"Row {row}: expected {len(self.columns)} cells, found {len(row)}. Give a cell"
                    " for each column."
                )


def estimate_table(estimates: Sequence[Estimate], *, categories: bool = False) -> Table:
    """Lay estimates out, a row for each in their order.

    The row over all conditions is left out where a task has one condition only, which says the
    same; the columns of judge and category where they would say nothing.

    Args:
        estimates: of any tasks, metrics and judges.
        categories: also the rows of single categories.
    """
    shown = [item for item in estimates if categories or item.category == ALL]
    single = _tasks_of_one_condition(estimates)
    shown = [item for item in shown if not (item.condition == ALL and item.task in single)]
    with_judge = len({item.judge for item in shown}) > 1
    with_category = any(item.category != ALL for item in shown)
    columns = ["Task:"]
    columns += ["Judge:"] * with_judge
    columns += ["Picture:"]
    columns += ["Category:"] * with_category
    columns += ["Metric:", "Value (%)", interval_column([item.level for item in shown])]
    columns += ["n", "Requests", "Unparsed", "Empty", "Failed", "Missing", "Strict (%)"]
    rows: List[Tuple[str, ...]] = []
    for item in shown:
        row = [item.task]
        row += [item.judge] * with_judge
        row += [item.condition or _ALL_WORD]
        row += [item.category or _ALL_WORD] * with_category
        row += [_metric_with_unit(item), _number(item, item.value)]
        row += [_interval_of(item), str(item.n), str(item.clusters)]
        row += [str(gap) for gap in (item.unparsed, item.empty, item.failed, item.missing)]
        row += [_number(item, item.strict)]
        rows.append(tuple(row))
    methods = sorted({item.method for item in shown if item.value is not None})
    notes = [_GAPS_NOTE]
    if methods:
        notes.append(f"Intervals: {'; '.join(methods)}.")
    return Table(tuple(columns), tuple(rows), tuple(notes))


def comparison_table(rows: Sequence[Comparison]) -> Table:
    """Lay comparisons out, a row for each in their order; what may be concluded is in the notes.

    Args:
        rows: of `comparison.compare`.
    """
    with_judge = len({row.judge for row in rows}) > 1
    columns = ["Task:"]
    columns += ["Judge:"] * with_judge
    columns += ["Picture:", "Metric:", "Groups:", "Runs", "First (%)", "Second (%)"]
    columns += ["Second - first (points)", interval_column([row.level for row in rows])]
    columns += ["p", "Holm p", "Least p", "n", "Requests", "Not compared", "Gaps"]
    columns += ["Strict difference (points)"]
    with_margin = any(row.equivalence for row in rows)
    if with_margin:
        columns += ["Margin (points)", "Interval of the margin's test", "Margin p", "Margin Holm p"]
        columns += ["Equivalent:"]
    cells = [
        (
            row.task,
            *([row.judge] if with_judge else []),
            row.condition or _ALL_WORD,
            _metric_with_unit(row),
            f"{row.first.name}, {row.second.name}",
            f"{row.first.runs}, {row.second.runs}",
            _number(row, row.first.mean),
            _number(row, row.second.mean),
            _number(row, row.difference, signed=True),
            _interval_of(row, signed=True),
            probability(row.p),
            probability(row.adjusted_p),
            probability(row.smallest_p),
            str(row.n),
            str(row.requests),
            str(row.incomplete),
            f"{row.first.gaps}, {row.second.gaps}",
            _number(row, row.strict_difference, signed=True),
            *(_equivalence(row) if with_margin else ()),
        )
        for row in rows
    ]
    notes = [
        "Means are percent of the n samples that every run of both groups has a score for; the"
        " others are not compared. Gaps are of all runs of a group together; the strict difference"
        " counts each of them against its model.",
        *dict.fromkeys(row.scope for row in rows),
    ]
    # How many splits there were is in each row's least p.
    tests = sorted({row.test.split(" (")[0] for row in rows if row.p is not None})
    if tests:
        notes.append(f"Tests: {'; '.join(tests)}. Holm p is over all {len(rows)} rows.")
        methods = sorted({row.method for row in rows if row.p is not None})
        notes.append(f"Intervals: {'; '.join(methods)}.")
    if with_margin:
        notes.append(
            "Equivalent: two one-sided tests within the margin that was stated, by the interval at"
            " twice their level, Holm over all rows. 'not shown' is no proof of a difference, and a"
            " difference that is not significant is no equivalence."
        )
    return Table(tuple(columns), tuple(cells), tuple(notes))


def agreement_table(rows: Sequence[Agreement]) -> Table:
    """Lay agreement out, a row for each group of judges; why something is undefined is in notes.

    Args:
        rows: of `agreement.agreement`.
    """
    level = interval_column([row.level for row in rows])
    columns = ["Task:", "Metric:", "Judges:", "Same (%)", level, "Kappa", level, "Alpha", level]
    columns += ["n", "Requests", "Not compared"]
    cells: List[Tuple[str, ...]] = []
    notes: List[str] = []
    for row in rows:
        judges = ", ".join(row.judges)
        cells.append(
            (
                row.task or _ALL_WORD,
                row.metric,
                judges,
                percent(row.raw.value),
                interval(row.raw.lower, row.raw.upper),
                *_coefficient(row.kappa),
                *_coefficient(row.alpha),
                str(row.n),
                str(row.requests),
                str(row.incomplete),
            )
        )
        for name, item in (("Same", row.raw), ("Kappa", row.kappa), ("Alpha", row.alpha)):
            if item.reason:
                notes.append(f"{name} of {judges}: {item.reason}.")
    notes = list(dict.fromkeys(notes))
    notes.append(
        "Not compared are answers that some of the judges scored and others did not. Kappa and"
        " alpha are 0 at chance and 1 at full agreement."
    )
    return Table(tuple(columns), tuple(cells), tuple(notes))


def text(table: Table) -> str:
    """For a terminal, notes under it."""
    return _joined(_tabulate(table, "simple", printable), map(printable, table.notes), "\n")


def markdown(table: Table) -> str:
    """As a GitHub-flavoured Markdown table, notes as paragraphs under it."""
    return _joined(_tabulate(table, "pipe", _markdown_cell), map(_markdown_cell, table.notes))


def latex(table: Table) -> str:
    """As a LaTeX `tabular` with the rules of `booktabs`; notes as comments under it."""
    body = _tabulate(table, "latex_booktabs", printable)
    for arrow, command in _LATEX_ARROWS.items():
        body = body.replace(arrow, command)
    return _joined(body, (f"% {printable(note)}" for note in table.notes), "\n")


def percent(fraction: Optional[float], *, signed: bool = False) -> str:
    """A fraction as percent with one decimal, without the sign of percent."""
    if fraction is None:
        return NOT_AVAILABLE
    # Adding 0.0 makes -0.0 into 0.0, after rounding.
    rounded = round(100 * fraction, 1) + 0.0
    return f"{rounded:+.1f}" if signed else f"{rounded:.1f}"


def interval(lower: Optional[float], upper: Optional[float], *, signed: bool = False) -> str:
    """Two fractions as "[lower, upper]" in percent with one decimal."""
    if lower is None or upper is None:
        return NOT_AVAILABLE
    return f"[{percent(lower, signed=signed)}, {percent(upper, signed=signed)}]"


def probability(p: Optional[float]) -> str:
    """A p value with three decimals; never 0."""
    if p is None:
        return NOT_AVAILABLE
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def interval_column(levels: Sequence[float]) -> str:
    """The header of a column of intervals.

    Raises:
        ValueError: intervals of two levels, which nobody could compare.
    """
    found = sorted(set(levels)) or [0.95]
    if len(found) > 1:
        raise ValueError(
            f"Intervals: expected one confidence level in a table, found {found}. Estimate again"
            " with one level."
        )
    return f"{100 * found[0]:g}% interval"


def metric_with_arrow(metric: str, higher_is_better: Optional[bool]) -> str:
    """The metric's name, with the arrow of its better direction where it has one."""
    return f"{metric} {ARROWS[higher_is_better]}".rstrip()


def printable(cell: str) -> str:
    """The cell on one line, without control characters: names come from users' files."""
    return "".join(letter if letter.isprintable() else " " for letter in cell)


def _equivalence(row: Comparison) -> Tuple[str, ...]:
    found = row.equivalence
    if found is None:
        return (NOT_AVAILABLE,) * 5
    return (
        _number(row, found.margin),
        f"[{_number(row, found.lower, signed=True)}, {_number(row, found.upper, signed=True)}]",
        probability(found.p),
        probability(found.adjusted_p),
        f"within ±{_number(row, found.margin)}" if found.equivalent else "not shown",
    )


def _metric_with_unit(item: Union[Estimate, Comparison]) -> str:
    name = item.metric if item.factor is None else f"{item.metric} (points)"
    return metric_with_arrow(name, item.higher_is_better)


def _number(
    item: Union[Estimate, Comparison], value: Optional[float], *, signed: bool = False
) -> str:
    if item.factor is None or value is None:
        return percent(value, signed=signed)
    rounded = round(value * item.factor, 1) + 0.0
    return f"{rounded:+.1f}" if signed else f"{rounded:.1f}"


def _interval_of(item: Union[Estimate, Comparison], *, signed: bool = False) -> str:
    if item.lower is None or item.upper is None:
        return NOT_AVAILABLE
    lower, upper = (_number(item, end, signed=signed) for end in (item.lower, item.upper))
    return f"[{lower}, {upper}]"


def _tasks_of_one_condition(estimates: Sequence[Estimate]) -> List[str]:
    pairs = {(item.task, item.condition) for item in estimates if item.condition != ALL}
    tasks = [task for task, _ in pairs]
    return [task for task in tasks if tasks.count(task) == 1]


def _coefficient(item: Coefficient) -> Tuple[str, str]:
    value = NOT_AVAILABLE if item.value is None else f"{item.value:.2f}"
    if item.lower is None or item.upper is None:
        return value, NOT_AVAILABLE
    return value, f"[{item.lower:.2f}, {item.upper:.2f}]"


def _markdown_cell(cell: str) -> str:
    line = printable(cell)
    for letter, escaped in (("&", "&amp;"), ("<", "&lt;"), ("\\", "\\\\"), ("|", "\\|")):
        line = line.replace(letter, escaped)
    return line


def _tabulate(table: Table, form: str, clean: Callable[[str], str]) -> str:
    from tabulate import tabulate

    is_text = [column.endswith(":") for column in table.columns]
    return tabulate(
        [[clean(cell) for cell in row] for row in table.rows],
        headers=[clean(column.rstrip(":")) for column in table.columns],
        tablefmt=form,
        # Cells are formatted already: tabulate would make numbers of "0.0".
        disable_numparse=True,
        colalign=["left" if left else "right" for left in is_text] if table.rows else None,
    )


def _joined(body: str, notes: Iterable[str], between: str = "\n\n") -> str:
    parts = list(notes)
    return body + "\n" + ("\n" + between.join(parts) + "\n" if parts else "")
