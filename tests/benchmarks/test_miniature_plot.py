"""The plot is written without a display."""

import pytest

from regap_benchmarks.miniature.plot import write_plot
from regap_benchmarks.miniature.report import DemoReport, Identity, RunRecord

pytest.importorskip("matplotlib", reason="plots need it: pip install matplotlib")


def _record(name, *keys):
    history = tuple({"step": step, **dict.fromkeys(keys, 1.0 / step)} for step in (1, 2, 3))
    return RunRecord(name, name, ("train.py",), 1.0, history)


def test_both_files_are_drawn_with_labels_and_legends(tmp_path):
    watched = ("loss", "regap/gap", "regap/alpha", "regap/lm_loss")
    report = DemoReport(
        folder=str(tmp_path),
        date="",
        settings={"weight": 0.5},
        versions={},
        environment={},
        samples=1,
        plain=_record("no flag", "loss"),
        measured=_record("weight 0", *watched),
        regularised=_record("weight 0.5", *watched),
        identity=Identity(3, 0.0, 0.0),
        effect_on_weights=0.0,
    )
    png, svg = write_plot(report, tmp_path)
    assert png.read_bytes().startswith(b"\x89PNG")
    drawing = svg.read_text(encoding="utf-8")
    for label in ("optimiser step", "modality gap", "weight 0.5, LM loss alone", "alpha frozen"):
        assert f"<!-- {label}" in drawing
