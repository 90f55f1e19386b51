"""Preference training by TRL on a tiny LLaVA of transformers' form."""

import json

import pytest

torch = pytest.importorskip("torch", reason="pip install torch")
transformers = pytest.importorskip("transformers", minversion="5", reason="transformers 5")
pytest.importorskip("trl", reason="pip install trl")
pytest.importorskip("PIL", reason="pip install pillow")
pytest.importorskip("sentencepiece", reason="pip install sentencepiece")

from PIL import Image
from tiny_models.huggingface_llava import write_checkpoint

from regap_benchmarks import cli
from regap_benchmarks.training.dpo import RECORD
from regap_benchmarks.training.preference_pairs import read_preference_pairs

# What TRL and transformers say of their own deprecations.
pytestmark = pytest.mark.filterwarnings("ignore")
CHOSEN, REJECTED = "a cat", "red circles"
STEPS = ("--max-steps", "4", "--learning-rate", "1e-3", "--accumulation", "1", "--batch-size", "4")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("model"))


@pytest.fixture
def pairs(tmp_path):
    rows = []
    for number in range(8):
        name = f"{number}.png"
        Image.new("RGB", (20 + number, 16), (30 * number, 90, 40)).save(tmp_path / name)
        question = f"what is in the picture {number}?"
        rows.append({"question": question, "chosen": CHOSEN, "rejected": REJECTED, "image": name})
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def _preference(folder):
    """log p(chosen) - log p(rejected), by a forward of its own."""
    processor = transformers.AutoProcessor.from_pretrained(folder)
    model = transformers.AutoModelForImageTextToText.from_pretrained(folder).eval()
    content = [{"type": "image"}, {"type": "text", "text": "what is in the picture 3?"}]
    messages = [{"role": "user", "content": content}]
    prompt = processor.apply_chat_template(messages, add_generation_prompt=True)
    picture = Image.new("RGB", (23, 16), (90, 90, 40))
    total = {}
    for answer in (CHOSEN, REJECTED):
        inputs = processor(images=[picture], text=[f"{prompt} {answer}</s>"], return_tensors="pt")
        length = processor(images=[picture], text=[prompt])["input_ids"]
        ids = inputs["input_ids"][0]
        with torch.inference_mode():
            scores = model(**inputs).logits[0].log_softmax(-1)
        taken = scores[:-1].gather(1, ids[1:, None])[:, 0]
        total[answer] = float(taken[len(length[0]) - 1 :].sum())
    return total[CHOSEN] - total[REJECTED]


@pytest.mark.parametrize("adapters", [(), ("--lora-rank", "4")])
def test_the_preferred_answer_becomes_likelier(model, pairs, adapters, tmp_path):
    output = tmp_path / "dpo"
    command = ["dpo", "--model", str(model), "--pairs", str(pairs), "--output", str(output)]
    assert cli.main([*command, *STEPS, *adapters]) == 0
    logs = [
        entry
        for entry in json.loads((output / "trainer_state.json").read_text())["log_history"]
        if "loss" in entry
    ]
    # Before the first step both models are one: -log sigmoid(0).
    assert logs[0]["loss"] == pytest.approx(0.693147, abs=1e-4)
    assert logs[-1]["loss"] < logs[0]["loss"]
    assert logs[-1]["rewards/margins"] > 0
    assert _preference(output) > _preference(model) + 0.01
    before, after = (
        transformers.AutoModelForImageTextToText.from_pretrained(folder).state_dict()
        for folder in (model, output)
    )
    assert set(before) == set(after)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert not [name for name in changed if "vision_tower" in name or "projector" in name]
    record = json.loads((output / RECORD).read_text())
    assert record["settings"]["max_steps"] == 4
    assert set(record["pairs"]) == {"pairs.jsonl"}


def test_another_training_is_not_written_over(model, pairs, tmp_path, capsys):
    output = tmp_path / "dpo"
    command = ["dpo", "--model", str(model), "--pairs", str(pairs), "--output", str(output)]
    output.mkdir()
    (output / "notes.txt").write_text("mine")
    assert cli.main([*command, *STEPS]) == 1
    assert "expected a new folder or one of this training" in capsys.readouterr().err
    (output / RECORD).write_text(json.dumps({"model": "another", "pairs": {}, "settings": {}}))
    assert cli.main([*command, *STEPS]) == 1
    assert "found another model, pairs, settings" in capsys.readouterr().err


def test_pictures_and_texts_of_both_formats(pairs, tmp_path):
    from datasets import Image as Picture

    by_lines = read_preference_pairs([pairs])
    rows = [json.loads(line) for line in pairs.read_text().splitlines()]
    import datasets

    stored = datasets.Dataset.from_list(
        [{**row, "image": str(pairs.parent / row["image"])} for row in rows]
    ).cast_column("image", Picture())
    stored.to_parquet(tmp_path / "pairs.parquet")
    by_table = read_preference_pairs([tmp_path / "pairs.parquet"])
    for first, second in zip(by_lines, by_table):
        assert first["prompt"] == second["prompt"]
        assert first["chosen"] == second["chosen"] == [{"role": "assistant", "content": CHOSEN}]
        assert first["image"].size == second["image"].size
    assert set(by_lines.column_names) == {"image", "prompt", "chosen", "rejected"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chosen": REJECTED}, "pair 0: expected two different answers"),
        ({"question": " "}, "pair 0: expected a text in 'question'"),
        ({"image": "none.png"}, "pair 0: expected the picture"),
    ],
)
def test_pairs_that_say_nothing_are_refused_before_a_model_is_loaded(pairs, change, message):
    rows = [json.loads(line) for line in pairs.read_text().splitlines()]
    rows[0].update(change)
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        read_preference_pairs([pairs])
