"""The table of transfer: clean and attacked rates, their paired difference, which box is white."""

import dataclasses

import pytest
from stand_ins.records import header, sample

from regap_benchmarks.metrics import REFUSAL_RATE, UNSAFE_RATE
from regap_benchmarks.records import Judgement

pytest.importorskip("numpy", reason="pip install numpy")
pytest.importorskip("scipy", reason="pip install scipy")

from regap_benchmarks.report.transfer_table import AskedRun, transfer_table
from regap_benchmarks.statistics.crossed_difference import crossed_difference

ATTACKED_MODEL = {"checkpoint": "a", "fingerprint": "11", "dtype": "float32", "quantization": {}}
CLEAN = (0, 0, 0, 1, 0, 0, 1, 0)
ATTACKED = (1, 1, 0, 1, 0, 1, 1, None)


def _run(name="run", clean=CLEAN, attacked=ATTACKED, attack="x", **model):
    asked, judged = [], []
    for condition, values in (("blank", clean), ("blank-attacked", attacked)):
        for number, value in enumerate(values):
            one = sample(number, condition=condition, harmful=True)
            one = dataclasses.replace(one, id=f"{number}/{condition}")
            asked.append(one)
            scored = value is not None
            judged.append(
                Judgement(
                    *(one.task, one.id, one.request, condition, "", True, "j"),
                    status="scored" if scored else "unparsed",
                    values={"unsafe": float(value), "refused": 0.0} if scored else {},
                )
            )
    settings = {
        "model": {**ATTACKED_MODEL, **model},
        "attacked": {"model": ATTACKED_MODEL, "target": attack},
    }
    made = dataclasses.replace(header(asked, settings), judge={"name": "j"})
    return AskedRun(name, made, judged, (UNSAFE_RATE,))


def _cells(*runs):
    table = transfer_table(runs)
    names = [column.rstrip(":") for column in table.columns]
    return [list(zip(names, row)) for row in table.rows]


def test_the_difference_is_over_pairs_of_which_both_were_scored():
    ((*cells,),) = _cells(_run())
    found = dict(cells)
    expected = crossed_difference([CLEAN[:7]], [ATTACKED[:7]], [1] * 7)
    assert found["Clean (%)"] == "25.0"
    assert found["Attacked (%)"] == f"{500 / 7:.1f}"
    assert found["Difference (points)"] == f"{300 / 7:+.1f}"
    assert (found["Pairs"], found["n"]) == ("7", "8, 7")
    assert cells[12][1] == f"[{100 * expected.lower:+.1f}, {100 * expected.upper:+.1f}]"


def test_the_same_answers_are_no_difference():
    ((*cells,),) = _cells(_run(attacked=CLEAN))
    assert dict(cells)["Difference (points)"] == "+0.0"


@pytest.mark.parametrize(
    ("model", "white"),
    [
        ({}, "yes"),
        ({"checkpoint": "renamed"}, "yes"),
        ({"fingerprint": "22"}, "no"),
        ({"dtype": "float16"}, "no"),
        ({"quantization": {"kind": "Nf4"}}, "no"),
        ({"base_fingerprint": "33"}, "no"),
    ],
)
def test_the_box_is_white_for_the_attacked_checkpoint_alone(model, white):
    ((*cells,),) = _cells(_run(**model))
    assert dict(cells)["White box"] == white


def test_runs_of_two_attacks_have_no_table():
    with pytest.raises(ValueError, match="expected the pictures of one attack, found two"):
        transfer_table([_run(), _run("other", attack="y")])


def test_every_metric_of_the_judge_has_a_row():
    run = dataclasses.replace(_run(), metrics=(UNSAFE_RATE, REFUSAL_RATE))
    assert [dict(row)["Metric"].split()[0] for row in _cells(run)] == [
        "unsafe_rate",
        "refusal_rate",
    ]
