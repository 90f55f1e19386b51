"""VLGuard's training set in LLaVA's form: held to the official script's definition."""

import json
import random

import pytest

from regap_benchmarks import cli
from regap_benchmarks.official.file_entries import OfficialFileError
from regap_benchmarks.training.vlguard_conversations import mixed, vlguard_conversations


def _records(number):
    rng = random.Random(7)
    for each in range(number):
        base = {"id": f"Set_{each}", "image": f"set/{each}.png"}
        if rng.random() < 0.5:
            pairs = [
                {"safe_instruction": f"safe {each}", "response": f"help {each}"},
                {"unsafe_instruction": f"unsafe {each}", "response": f"no {each}"},
            ]
            yield {**base, "safe": True, "instr-resp": pairs}
        else:
            pairs = [{"instruction": f"only {each}", "response": f"neither {each}"}]
            yield {**base, "safe": False, "harmful_category": "made up", "instr-resp": pairs}


def _written(folder, records):
    path = folder / "vlguard" / "data" / "train.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(list(records)), encoding="utf-8")
    return path


def test_each_conversation_is_that_of_the_official_script(tmp_path):
    records = list(_records(40))
    found = vlguard_conversations(_written(tmp_path, records))
    random.seed(0)  # the script draws from the global generator
    for record, conversation in zip(records, found):
        pairs = list(record["instr-resp"])
        if len(pairs) > 1:
            random.shuffle(pairs)
        values = []
        for number, pair in enumerate(pairs):
            instruction = next(iter(pair.values()))
            values += [("" if number else "<image>") + instruction, pair["response"]]
        assert [turn["value"] for turn in conversation["conversations"]] == values
        speakers = [turn["from"] for turn in conversation["conversations"]]
        assert speakers == ["human", "gpt"] * len(pairs)
        assert {key: conversation[key] for key in ("id", "image", "safe")} == {
            key: record[key] for key in ("id", "image", "safe")
        }
        assert "instr-resp" not in conversation
    orders = {turn["value"][:7] for each in found for turn in each["conversations"][:1]}
    assert orders == {"<image>"}
    firsts = {each["conversations"][0]["value"].split()[0] for each in found}
    assert firsts == {"<image>safe", "<image>unsafe", "<image>only"}


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([], "expected one or two pairs in 'instr-resp', found none"),
        ([{"response": "x"}], "expected one of safe_instruction, .*, found 0 of them"),
        ([{"instruction": "x", "response": ""}], "expected a text in 'response'"),
        (["x"], "expected an instruction with its response, found str"),
    ],
)
def test_a_record_that_is_not_as_expected_is_named(pairs, message, tmp_path):
    record = {"id": "a", "image": "a.png", "safe": False, "instr-resp": pairs}
    with pytest.raises(OfficialFileError, match=message) as raised:
        vlguard_conversations(_written(tmp_path, [record]))
    assert "train.json" in str(raised.value)


def test_others_are_mixed_in_without_replacement():
    ours, others = [{"id": "a"}], [{"id": str(number)} for number in range(20)]
    found = mixed(ours, others, 20)
    assert found[0] == ours[0]
    assert sorted(int(each["id"]) for each in found[1:]) == list(range(20))
    assert mixed(ours, others, 5, seed=1) == mixed(ours, others, 5, seed=1)
    assert mixed(ours, others, 5, seed=1) != mixed(ours, others, 5, seed=2)
    with pytest.raises(ValueError, match="--mix-number: expected 0 to 20"):
        mixed(ours, others, 21)


def test_by_command(tmp_path, capsys):
    _written(tmp_path, _records(6))
    others = tmp_path / "llava.json"
    others.write_text(json.dumps([{"id": str(number)} for number in range(9)]))
    output = tmp_path / "train_llava.json"
    command = ["data", "convert", "vlguard", "--data", str(tmp_path), "--output", str(output)]
    assert cli.main([*command, "--mix", str(others), "--mix-number", "3"]) == 0
    assert "9 conversations" in capsys.readouterr().out
    assert len(json.loads(output.read_text(encoding="utf-8"))) == 9
    assert cli.main([*command, "--mix", str(others)]) == 1
    assert "expected 0 to 9" in capsys.readouterr().err
    assert cli.main([*command[:4], str(tmp_path / "none"), *command[5:]]) == 1
