"""Tables: what stands beside a rate, and names that could break a form."""

import dataclasses
from typing import Any, Dict

import pytest

pytest.importorskip("tabulate")

from regap_benchmarks.comparison import Comparison, GroupMean
from regap_benchmarks.records import Estimate
from regap_benchmarks.report.tables import (
    Table,
    agreement_table,
    comparison_table,
    estimate_table,
    interval,
    latex,
    markdown,
    percent,
    probability,
    text,
)
from regap_benchmarks.statistics.agreement import Agreement, Coefficient


def estimated(**changes: Any) -> Estimate:
    fields: Dict[str, Any] = {
        "task": "set",
        "judge": "fake",
        "metric": "unsafe_rate",
        "condition": "none",
        "category": "",
        "value": 0.3,
        "lower": 0.10779,
        "upper": 0.60322,
        "level": 0.95,
        "method": "wilson",
        "strict": 0.65,
        "higher_is_better": False,
        "n": 10,
        "clusters": 9,
        "unparsed": 2,
        "empty": 1,
        "failed": 4,
        "missing": 3,
    }
    fields.update(changes)
    return Estimate(**fields)


def test_every_rate_has_its_n_interval_and_gaps() -> None:
    table = estimate_table([estimated()])
    cells = dict(zip(table.columns, table.rows[0]))
    assert cells == {
        "Task:": "set",
        "Picture:": "none",
        "Metric:": "unsafe_rate ↓",
        "Value (%)": "30.0",
        "95% interval": "[10.8, 60.3]",
        "n": "10",
        "Requests": "9",
        "Unparsed": "2",
        "Empty": "1",
        "Failed": "4",
        "Missing": "3",
        "Strict (%)": "65.0",
    }
    assert table.notes[-1] == "Intervals: wilson."


def test_nothing_scored_is_not_available_and_not_zero() -> None:
    empty = estimated(value=None, lower=None, upper=None, n=0, clusters=0, method="none")
    cells = dict(zip(estimate_table([empty]).columns, estimate_table([empty]).rows[0]))
    assert (cells["Value (%)"], cells["95% interval"], cells["n"]) == ("n/a", "n/a", "0")


@pytest.mark.parametrize(("better", "shown"), [(True, "m ↑"), (False, "m ↓"), (None, "m")], ids=str)
def test_the_arrow_points_in_the_better_direction(better: Any, shown: str) -> None:
    table = estimate_table([estimated(metric="m", higher_is_better=better)])
    assert table.rows[0][table.columns.index("Metric:")] == shown


def test_the_pooled_row_stands_only_beside_several_conditions() -> None:
    pooled, single = estimated(condition=""), estimated()
    assert len(estimate_table([pooled, single]).rows) == 1
    table = estimate_table([pooled, single, estimated(condition="own")])
    assert [row[1] for row in table.rows] == ["all", "none", "own"]


def test_categories_and_judges_are_columns_only_where_they_tell_apart() -> None:
    rows = [estimated(), estimated(category="fraud"), estimated(judge="other")]
    assert "Category:" not in estimate_table(rows).columns
    table = estimate_table(rows, categories=True)
    assert [row[:4] for row in table.rows] == [
        ("set", "fake", "none", "all"),
        ("set", "fake", "none", "fraud"),
        ("set", "other", "none", "all"),
    ]


def test_levels_are_not_mixed() -> None:
    with pytest.raises(ValueError, match=r"one confidence level in a table, found \[0.9, 0.95\]"):
        estimate_table([estimated(), estimated(level=0.9)])


def test_text_is_aligned_and_formatted_cells_stay() -> None:
    lines = text(estimate_table([estimated(value=0.0, n=1)])).splitlines()
    assert lines[0].startswith("Task    Picture    Metric")
    assert set(lines[1]) == {"-", " "}
    assert " 0.0 " in lines[2]
    assert lines[0].index("Value (%)") + len("Value (%)") == lines[2].index(" 0.0") + 4


def test_markdown_escapes_what_would_break_the_table() -> None:
    page = markdown(estimate_table([estimated(task="a|b<i>\nc")]))
    assert "| a\\|b&lt;i> c |" in page
    assert page.count("\n|") == 2


def test_latex_escapes_names_and_uses_booktabs() -> None:
    page = latex(estimate_table([estimated(task="50%_of $x & #1", method="a\nb")]))
    assert r"50\%\_of \$x \& \#1" in page
    assert r"unsafe\_rate $\downarrow$" in page
    assert r"Value (\%)" in page
    for rule in (r"\toprule", r"\midrule", r"\bottomrule"):
        assert rule in page
    after = page.split(r"\end{tabular}")[1]
    assert all(line.startswith("% ") for line in after.splitlines() if line)


def test_an_empty_table_is_still_one() -> None:
    table = estimate_table([])
    assert "95% interval" in text(table)
    assert markdown(table).startswith("|")
    assert r"\end{tabular}" in latex(table)


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected 2 cells, found 1"):
        Table(("a", "b"), (("1",),))


def test_percent_and_interval() -> None:
    assert percent(0.12345) == "12.3"
    assert percent(-0.0001, signed=True) == "+0.0"
    assert percent(-0.25, signed=True) == "-25.0"
    assert percent(None) == "n/a"
    assert interval(-0.1, 0.2, signed=True) == "[-10.0, +20.0]"
    assert interval(None, None) == "n/a"


def test_the_row_of_a_rate_never_hides_a_gap() -> None:
    base = estimate_table([estimated()]).rows[0]
    for name in ("unparsed", "empty", "failed", "missing", "n", "clusters"):
        more = dataclasses.replace(estimated(), **{name: 77})
        assert estimate_table([more]).rows[0] != base, name


def compared(**changes: Any) -> Comparison:
    fields: Dict[str, Any] = {
        "task": "set",
        "condition": "",
        "metric": "unsafe_rate",
        "judge": "fake",
        "higher_is_better": False,
        "first": GroupMean("plain", 3, 0.5, 0.55, 7),
        "second": GroupMean("regap", 2, 0.25, 0.3, 1),
        "difference": -0.25,
        "lower": -0.41,
        "upper": 0.02,
        "level": 0.95,
        "method": "how",
        "strict_difference": -0.25,
        "p": 0.0004,
        "adjusted_p": 0.0012,
        "smallest_p": 0.1,
        "test": "permutation",
        "n": 40,
        "requests": 20,
        "incomplete": 2,
        "scope": "What may be said.",
    }
    fields.update(changes)
    return Comparison(**fields)


def test_a_comparison_has_its_uncertainty_gaps_and_scope() -> None:
    table = comparison_table([compared(), compared(condition="own")])
    cells = dict(zip(table.columns, table.rows[0]))
    assert cells == {
        "Task:": "set",
        "Picture:": "all",
        "Metric:": "unsafe_rate ↓",
        "Groups:": "plain, regap",
        "Runs": "3, 2",
        "First (%)": "50.0",
        "Second (%)": "25.0",
        "Second - first (points)": "-25.0",
        "95% interval": "[-41.0, +2.0]",
        "p": "<0.001",
        "Holm p": "0.001",
        "Least p": "0.100",
        "n": "40",
        "Requests": "20",
        "Not compared": "2",
        "Gaps": "7, 1",
        "Strict difference (points)": "-25.0",
    }
    assert table.notes.count("What may be said.") == 1
    assert "Tests: permutation. Holm p is over all 2 rows." in table.notes


def test_a_comparison_of_nothing_is_not_available() -> None:
    nothing = dict.fromkeys(("difference", "lower", "upper", "p", "adjusted_p", "smallest_p"))
    table = comparison_table([compared(**nothing, n=0)])
    cells = dict(zip(table.columns, table.rows[0]))
    assert cells["p"] == cells["Second - first (points)"] == cells["95% interval"] == "n/a"


def test_agreement_says_why_a_coefficient_is_undefined() -> None:
    row = Agreement(
        task="",
        metric="unsafe_rate",
        judges=("a", "b"),
        raw=Coefficient(1.0, 0.8, 1.0),
        kappa=Coefficient(None, None, None, "every score is the same"),
        alpha=Coefficient(0.61, 0.4, 0.8),
        n=9,
        requests=8,
        incomplete=3,
        level=0.9,
    )
    table = agreement_table([row])
    assert table.rows[0] == (
        "all",
        "unsafe_rate",
        "a, b",
        "100.0",
        "[80.0, 100.0]",
        "n/a",
        "n/a",
        "0.61",
        "[0.40, 0.80]",
        "9",
        "8",
        "3",
    )
    assert table.columns.count("90% interval") == 3
    assert table.notes[0] == "Kappa of a, b: every score is the same."
    for form in (text, markdown, latex):
        assert "0.61" in form(table)


@pytest.mark.parametrize(
    ("p", "shown"), [(0.0, "<0.001"), (0.001, "0.001"), (1.0, "1.000"), (None, "n/a")]
)
def test_a_p_value_is_never_zero(p: Any, shown: str) -> None:
    assert probability(p) == shown
