"""MIR, its interval and its curve, by hand."""

import csv
import io
import json
import math
from statistics import stdev

import pytest

from regap_benchmarks.gap.summary import as_csv, mir, summarize
from regap_benchmarks.records import LayerGap


def _layer(number, *, terms, resampled=(), **values):
    return LayerGap(number, terms, tuple(resampled), values, 10, 5, 1, 0)


LAYERS = [
    _layer(0, terms={"50": 700.0, "100": 500.0}, resampled=(400.0, 900.0, 100.0), ratio=3.0),
    _layer(1, terms={"50": 8.0, "100": 6.0}, resampled=(7.0, 5.0, 6.0), ratio=2.0),
    _layer(2, terms={"50": 3.0, "100": 4.0}, resampled=(3.0, 5.0, 4.5), ratio=None),
]


def test_mir_is_the_logarithm_of_the_sum_over_layers_without_the_input():
    summary = summarize(LAYERS)
    assert summary.mir == pytest.approx(math.log10(6.0 + 4.0))
    assert summary.input_term == 500.0
    assert summary.pairs == 100
    other_input = [_layer(0, terms={"50": 1.0, "100": 1.0}, resampled=(1.0, 1.0, 1.0)), *LAYERS[1:]]
    assert summarize(other_input).mir == summary.mir
    assert summarize(other_input).lower == summary.lower


def test_the_interval_is_of_mir_over_draws_that_go_through_all_layers():
    summary = summarize(LAYERS)
    drawn = [math.log10(7.0 + 3.0), math.log10(5.0 + 5.0), math.log10(6.0 + 4.5)]
    reach = 1.959964 * stdev(drawn)
    assert summary.upper - summary.mir == pytest.approx(reach, rel=1e-6)
    assert summary.mir - summary.lower == pytest.approx(reach, rel=1e-6)
    wider = summarize(LAYERS, level=0.99)
    assert wider.upper - wider.mir == pytest.approx(2.575829 / 1.959964 * reach, rel=1e-6)


@pytest.mark.parametrize("count", [0, 1])
def test_without_two_draws_there_is_no_interval(count):
    layers = [_layer(n, terms={"4": 1.0}, resampled=(1.0,) * count) for n in range(3)]
    summary = summarize(layers)
    assert (summary.lower, summary.upper) == (None, None)
    assert summary.describe()["interval"] == [None, None]


def test_the_curve_is_mir_of_each_number_of_pairs():
    curve = summarize(LAYERS).curve
    assert curve == {50: pytest.approx(math.log10(11.0)), 100: pytest.approx(1.0)}


def test_numbers_of_pairs_are_compared_as_numbers():
    layers = [_layer(n, terms={"50": 1.0, "100": 2.0, "500": 3.0, "1000": 4.0}) for n in range(2)]
    summary = summarize(layers)
    assert summary.pairs == 1000
    assert summary.mir == pytest.approx(math.log10(4.0))


def test_a_gap_of_nothing_is_minus_infinity():
    assert mir([0.0, 0.0]) == -math.inf


def test_a_gap_of_nothing_is_null_in_json_and_has_no_interval():
    layers = [_layer(n, terms={"4": 0.0}, resampled=(0.0, 0.0)) for n in range(3)]
    described = summarize(layers).describe()
    assert (described["mir"], described["interval"]) == (None, [None, None])
    json.dumps(described, allow_nan=False)


@pytest.mark.parametrize(
    "layers",
    [
        LAYERS[1:],
        [LAYERS[0], LAYERS[2]],
        LAYERS[:1],
        [*LAYERS[:2], _layer(2, terms={"60": 1.0})],
        [],
    ],
)
def test_layers_that_are_missing_or_of_other_pairs_are_refused(layers):
    with pytest.raises(ValueError, match="Layers: expected all from 0 on, measured over the same"):
        summarize(layers)


def test_the_description_holds_every_number():
    described = summarize(LAYERS).describe()
    assert described["layer_0_term"] == 500.0
    assert described["curve"] == {"50": math.log10(11.0), "100": 1.0}
    assert described["layers"][1] == {
        "layer": 1,
        "mir_term": 6.0,
        "ratio": 2.0,
        "image_tokens": 10,
        "text_tokens": 5,
        "image_replaced": 1,
        "text_replaced": 0,
    }


def test_the_csv_has_a_row_for_each_checkpoint_and_layer():
    summary = summarize(LAYERS)
    rows = list(csv.DictReader(io.StringIO(as_csv({"before": summary, "after": summary}))))
    assert [(row["model"], row["layer"]) for row in rows] == [
        (name, str(layer)) for name in ("before", "after") for layer in range(3)
    ]
    assert [float(row["mir_term"]) for row in rows[:3]] == [500.0, 6.0, 4.0]
    assert rows[2]["ratio"] == ""
