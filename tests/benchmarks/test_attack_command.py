"""`regap-bench attack` on a tiny model: its files, going on, asking with them, transfer."""

import importlib.util
import json

import pytest

from regap_benchmarks import cli
from regap_benchmarks.attacks import attack_run
from regap_benchmarks.records import AttackedPicture, read_run
from regap_benchmarks.run_folder import RunFolder

torch = pytest.importorskip("torch", reason="pip install torch")
transformers = pytest.importorskip("transformers", reason="pip install transformers")
Image = pytest.importorskip("PIL.Image", reason="pip install pillow")
if int(transformers.__version__.split(".")[0]) < 5:
    pytest.skip("needs transformers 5", allow_module_level=True)
for package in ("numpy", "tabulate"):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"needs {package}", allow_module_level=True)

from tiny_models.image_text import write_llava

QUESTIONS = ["--tasks", "stand_in_requests", "--picture", "unrelated", "--limit", "3"]
ATTACK = ["--steps", "12", "--epsilon", "8", "--step-size", "2", "--restarts", "2", "--seed", "4"]
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    return [
        f"huggingface:{write_llava(folder / name, hidden=hidden)}"
        for name, hidden in (("first", 32), ("second", 48))
    ]


def _attack(model, output, *more):
    return cli.main(
        ["attack", "--model", model, *QUESTIONS, *ATTACK, "--output", str(output), *more]
    )


@pytest.fixture(scope="module")
def attack(checkpoints, tmp_path_factory):
    folder = tmp_path_factory.mktemp("attack")
    assert _attack(checkpoints[0], folder) == 0
    return folder


def test_every_picture_is_within_the_ball_of_its_own_and_lowers_the_loss(attack):
    header, records = read_run(attack / "attack.jsonl", AttackedPicture)
    assert len(records) == header.samples == 3
    for record in records:
        assert record.largest_change <= 8
        assert record.loss_saved < record.loss_before
        assert record.loss_saved == pytest.approx(record.loss_found, abs=0.05)
        with Image.open(attack / record.picture) as picture:
            assert (picture.mode, picture.size) == ("RGB", (16, 16))
    found = header.settings
    assert (found["epsilon_255"], found["step_size_255"], found["steps"]) == (8.0, 2.0, 12)
    assert (found["restarts"], found["seed"], found["target"]) == (2, 4, "Sure, here is")
    assert found["model"]["fingerprint"]


def test_an_interrupted_attack_goes_on_and_makes_the_same_pictures(
    attack, checkpoints, tmp_path, monkeypatch
):
    made, asked = [], []
    own = attack_run.attack_picture

    def stopping(target, settings, seed):
        asked.append(seed)
        if len(asked) == 2:
            raise KeyboardInterrupt
        made.append(seed)
        return own(target, settings, seed)

    monkeypatch.setattr(attack_run, "attack_picture", stopping)
    assert _attack(checkpoints[0], tmp_path) == 130
    assert _attack(checkpoints[0], tmp_path) == 0
    assert len(made) == len(set(made)) == 3
    whole, again = (
        {
            each.id: each.picture_sha256
            for each in read_run(where / "attack.jsonl", AttackedPicture)[1]
        }
        for where in (attack, tmp_path)
    )
    assert again == whole


def test_another_attack_does_not_go_on_in_the_folder(attack, checkpoints, capsys):
    assert _attack(checkpoints[0], attack, "--epsilon", "4") == 1
    assert "epsilon_255 8.0 instead of 4.0" in capsys.readouterr().err


def _run(model, attack, output):
    words = [
        "run",
        "--model",
        model,
        *QUESTIONS,
        "--attacked",
        str(attack),
        "--output",
        str(output),
    ]
    return cli.main([*words, "--max-new-tokens", "6", "--batch-size", "2"])


def test_the_pictures_are_asked_on_two_checkpoints_and_shown_side_by_side(
    attack, checkpoints, tmp_path, capsys
):
    for name, checkpoint in zip(("first", "second"), checkpoints):
        assert _run(checkpoint, attack, tmp_path / name) == 0
    header, responses = RunFolder(tmp_path / "second").read_responses()
    assert {each.sample.condition for each in responses} == {"unrelated", "unrelated-attacked"}
    assert header.settings["attacked"]["model"]["checkpoint"] == "first"
    by_id = {each.sample.id: each.sample for each in responses}
    for name, sample in by_id.items():
        if name.endswith("-attacked"):
            clean = by_id[name[: -len("-attacked")]]
            assert (sample.request, sample.prompt) == (clean.request, clean.prompt)
            assert sample.judged_prompt == clean.prompt
    capsys.readouterr()
    table = tmp_path / "transfer.md"
    folders = [str(tmp_path / name) for name in ("first", "second")]
    assert cli.main(["transfer", *folders, "--output", str(table)]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if "unsafe_rate" in line]
    assert [row[1:3] for row in rows] == [["first", "yes"], ["second", "no"]]
    assert "White box" in table.read_text()


def test_the_pictures_are_asked_in_conversations_and_through_defences(attack, tmp_path, capsys):
    words = ["run", "--model", "fake:mixed", *QUESTIONS, "--attacked", str(attack)]
    more = ["--turns", "single,split", "--defence", "ecso", "--output", str(tmp_path)]
    assert cli.main([*words, *more]) == 0
    _, responses = RunFolder(tmp_path).read_responses()
    conditions = {each.sample.condition for each in responses}
    whole = {"unrelated", "unrelated-split"}
    assert conditions == whole | {f"{each}-attacked" for each in whole}
    capsys.readouterr()
    assert cli.main(["transfer", str(tmp_path)]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if "unsafe_rate" in line]
    assert {row[5] for row in rows} == whole
    assert {row[2] for row in rows} == {"no"}


def test_a_run_of_no_attack_has_no_place_in_the_table(tmp_path, capsys):
    words = ["run", "--model", "fake:mixed", "--tasks", "stand_in_requests", "--limit", "2"]
    assert cli.main([*words, "--output", str(tmp_path)]) == 0
    assert cli.main(["transfer", str(tmp_path)]) == 1
    assert "expected one with the pictures of an attack" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda folder: (folder / "attack.jsonl").unlink(), "expected the records of an attack"),
        (lambda folder: _cut(folder), "expected a finished attack on 3 pictures, found 2"),
        (lambda folder: _spoil(folder), "expected the picture that the attack wrote"),
    ],
)
def test_an_attack_that_is_not_whole_is_refused(attack, tmp_path, capsys, break_it, message):
    import shutil

    folder = tmp_path / "copy"
    shutil.copytree(attack, folder)
    break_it(folder)
    assert _run("fake:mixed", folder, tmp_path / "run") == 1
    assert message in capsys.readouterr().err


def _cut(folder):
    path = folder / "attack.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


def _spoil(folder):
    (name,) = sorted((folder / "pictures").iterdir())[:1]
    Image.new("RGB", (16, 16)).save(name)


def test_samples_that_the_attack_does_not_know_are_refused(attack, tmp_path, capsys):
    words = ["generate", "--model", "fake:mixed", "--tasks", "stand_in_requests", "--limit", "4"]
    more = ["--picture", "unrelated", "--attacked", str(attack), "--output", str(tmp_path / "run")]
    assert cli.main([*words, *more]) == 1
    assert "Pass the attack's own --tasks, --picture and --limit" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["--steps", "0"], 2, "--steps: expected 1 or more"),
        (["--picture", "none"], 1, "expected one picture and one turn, found 0"),
        (["--model", "fake:mixed"], 1, "expected a runner with a way from pixels"),
        (["--quantization", "nf4"], 1, "--quantization: expected none"),
        (["--target", " "], 1, "expected a text that begins with a token"),
    ],
)
def test_what_cannot_be_attacked_is_refused(checkpoints, tmp_path, capsys, words, status, message):
    assert _attack(checkpoints[0], tmp_path / "attack", *words) == status
    assert message in capsys.readouterr().err


def test_the_records_hold_no_text_of_an_answer(attack):
    for line in (attack / "attack.jsonl").read_text().splitlines()[1:]:
        record = json.loads(line)
        assert {"text", "answer", "prompt"}.isdisjoint(record)
