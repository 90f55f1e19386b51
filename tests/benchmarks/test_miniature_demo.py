"""The demo with a fake trainer: what is run, kept, refused, and how a failure is told."""


import pytest

from regap_benchmarks.miniature import demo

# Takes the same arguments as upstream's train.py and writes the files that it leaves behind.
FAKE_TRAINER = """
import json, pathlib, sys, time

arguments = dict(zip(sys.argv[1::2], sys.argv[2::2]))
if pathlib.Path("refuse").exists() and "--regap_weight" in arguments:
    raise ValueError("Some specified arguments are not used by the HfArgumentParser:"
                     " ['--regap_weight', '0']")
with open("calls.txt", "a") as calls:
    calls.write(arguments["--output_dir"] + "\\n")
weight = float(arguments.get("--regap_weight", -1.0))
log = []
for step in range(1, int(arguments["--max_steps"]) + 1):
    entry = {"step": step, "loss": 1.0 + 1.0 / step}
    if weight >= 0:
        entry.update({"regap/gap": 2.0 - 0.1 * step * (weight > 0), "regap/alpha": 0.5})
        entry["regap/lm_loss"] = entry["loss"]
        entry["loss"] += weight
    log.append(entry)
    print({"loss": entry["loss"], "step": step})
    sys.stdout.flush()
    while pathlib.Path("hang").exists():
        time.sleep(0.02)
if pathlib.Path("fail").exists():
    raise SystemExit("out of luck")
output = pathlib.Path(arguments["--output_dir"])
output.mkdir(parents=True)
(output / "trainer_state.json").write_text(json.dumps({"log_history": log}))
(output / "mm_projector.bin").write_text(str(max(weight, 0.0)))
"""


@pytest.fixture
def fake_upstream(tmp_path, monkeypatch):
    """Put a fake `train.py` and stand-ins for the parts that need torch and pictures in place."""
    script = tmp_path / "upstream" / "train.py"
    script.parent.mkdir()
    script.write_text(FAKE_TRAINER)

    def write_captions(folder, *, count, seed, with_photographs):
        assert with_photographs
        (folder / "images").mkdir(parents=True)
        return demo.write_captions.__annotations__ and _Files(count)

    class _Files:
        def __init__(self, samples):
            self.samples = samples

    write_captions.__annotations__["return"] = _Files
    monkeypatch.setattr(demo, "_training_script", lambda: script)
    monkeypatch.setattr(demo, "write_captions", write_captions)
    monkeypatch.setattr(demo, "dataset_texts", lambda files: ["a text"])
    monkeypatch.setattr(demo, "write_miniature", lambda folder, texts, **options: None)
    monkeypatch.setattr(demo, "write_plot", lambda report, folder: [])
    monkeypatch.setattr(
        demo,
        "largest_weight_difference",
        lambda first, second: abs(float(first.read_text()) - float(second.read_text())),
    )
    return script
