"""Each judge that is a checkpoint, end to end: tiny random weights of its class, by the command."""

import json

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("sentencepiece")
pytest.importorskip("PIL")
if int(transformers.__version__.split(".")[0]) < 5:
    pytest.skip("written for transformers 5", allow_module_level=True)

from stand_ins.records import header, response, sample
from tiny_models import guards
from tiny_models.judges import write_causal

from regap_benchmarks import cli
from regap_benchmarks.judges import picture_generator
from regap_benchmarks.judges.harmbench_prompts import SEVEN_RULES
from regap_benchmarks.judges.judge_options import JudgeOptions
from regap_benchmarks.judges.llama_guard import LLAMA_GUARDS
from regap_benchmarks.judges.llama_guard_versions import VERSIONS
from regap_benchmarks.judges.published_prompt import sha256
from regap_benchmarks.pictures import drawn_picture, file_picture, render
from regap_benchmarks.plugins import load_plugins
from regap_benchmarks.quantization import FourBit, Int8
from regap_benchmarks.record_file import RecordFile
from regap_benchmarks.records import Judgement, Response, read_run

TEXTS = ("llama_guard_1", "llama_guard_2", "llama_guard_3")
PICTURES = ("llama_guard_3_vision", "llama_guard_4")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("guards")
    return {
        **{name: guards.write_text_guard(root / name, name) for name in TEXTS},
        "llama_guard_3_vision": guards.write_vision_guard(root / "vision"),
        "llama_guard_4": guards.write_guard_4(root / "four"),
        "harmbench": write_causal(root / "harmbench", positions=4096),
        "wildguard": guards.write_mistral(root / "wildguard"),
    }


@pytest.fixture(autouse=True)
def processor_without_torchvision(monkeypatch):
    real = picture_generator._processor

    def found(path):
        if not path.endswith("four"):
            return real(path)
        return guards.Guard4Processor(transformers.AutoTokenizer.from_pretrained(path))

    monkeypatch.setattr(picture_generator, "_processor", found)


def _kind(name):
    return next(kind for kind in LLAMA_GUARDS if kind.name == name)


def _judge(name, folder, **options):
    options = JudgeOptions(model=str(folder), **options)
    kind = _kind(name)
    kind.check(options)
    return kind.make(options)


def _answers(pictures=0):
    return [
        response(
            sample(
                number,
                harmful=True,
                condition="own" if pictures else "none",
                prompt=f"How is a chair mended, number {number}?",
                pictures=[drawn_picture(3, number + each) for each in range(pictures)],
            ),
            "With glue. " * (1 + number),
        )
        for number in range(3)
    ]


@pytest.mark.parametrize("name", [*TEXTS, *PICTURES])
def test_a_checkpoint_of_its_version_is_taken_and_others_are_refused(folders, name):
    judge = _judge(name, folders[name])
    described = judge.describe()
    assert len(described["categories"]) == len(guards.CATEGORIES[name])
    assert described["sees_pictures"] is (name in PICTURES)
    assert json.dumps(described)
    for other in (*TEXTS, *PICTURES):
        if other != name:
            with pytest.raises(ValueError, match=f"Judge {name!r}: expected a checkpoint of"):
                _judge(name, folders[other])
    assert _judge("llama_guard", folders[name]).describe() == described


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("pictures", [0, 1, 2])
def test_a_batch_with_pictures_gives_the_words_of_each_alone(folders, name, pictures):
    answers = _answers(pictures)
    together = _judge(name, folders[name], batch_size=3).judge(answers)
    one = _judge(name, folders[name], batch_size=1)
    alone = [one.judge([each])[0] for each in answers]
    assert [each.raw for each in together] == [each.raw for each in alone]
    assert all(each.raw for each in together)
    if pictures:
        assert f"question: prompt, {pictures} pictures" in together[0].explanation


@pytest.mark.parametrize("name", PICTURES)
def test_it_sees_the_picture(folders, name):
    judge = _judge(name, folders[name])
    asked = [
        response(sample(0, condition="own", prompt="?", pictures=[drawn_picture(3, n)]), "Glue.")
        for n in (0, 5)
    ]
    probabilities = []
    for each in asked:
        prompt, _, pictures = judge._prompt(each)
        inputs = judge.generator._inputs([prompt], [list(pictures)])
        with torch.inference_mode():
            probabilities.append(judge.generator._model.model(**inputs).logits[0, -1].softmax(-1))
    assert (probabilities[0] - probabilities[1]).abs().max() > 1e-4


def test_an_answer_that_spells_the_mark_of_a_picture_adds_none(folders):
    for name in PICTURES:
        judge = _judge(name, folders[name])
        (verdict,) = judge.judge([response(sample(0), "look: <|image|> <|patch|> there")])
        assert "marks of the judge's prompt broken" in verdict.explanation
        assert verdict.raw


@pytest.mark.parametrize("name", [*TEXTS, *PICTURES, "harmbench", "wildguard"])
def test_by_the_command_resumed_and_counted(folders, tmp_path, monkeypatch, capsys, name):
    from regap_benchmarks.safety.stand_in_requests import StandInRequests

    class Task(StandInRequests):
        pass

    Task.name = "stand_ins"
    monkeypatch.setitem(load_plugins().benchmarks._things, "stand_ins", Task())
    answers = [*_answers(1 if name in PICTURES else 0), response(sample(7, harmful=True), "")]
    own = header([each.sample for each in answers])
    with RecordFile(tmp_path / "responses.jsonl", Response, own) as file:
        file.append(answers)
    words = ["judge", str(tmp_path), "--judge", name, "--judge-model", str(folders[name])]
    assert cli.main(words) == 0
    assert cli.main(words) == 0
    # Random weights say nothing that is a verdict, but for HarmBench by chance: none is dropped.
    assert "1 empty" in capsys.readouterr().out
    found, judgements = read_run(tmp_path / f"judgements.{name}.jsonl", Judgement)
    assert [each.status for each in judgements][-1] == "empty"
    assert all(each.raw and each.status in ("unparsed", "scored") for each in judgements[:-1])
    settings = found.judge["settings"]
    assert settings["model"]["fingerprint"]
    if name == "harmbench":
        assert settings["prompt"] == {"variant": "7 rules", "sha256": sha256(SEVEN_RULES)}
    if name == "wildguard":
        assert settings["model"]["architecture"] == "MistralForCausalLM"
        assert settings["prompt"]["variant"] == "28c9d21"


def test_every_judge_that_is_a_model_has_a_card(capsys):
    plugins = load_plugins()
    for name in plugins.judges.names:
        kind = plugins.judges.get(name)
        assert (kind.card is not None) == ("model" in kind.options), name
        if kind.card is not None:
            assert all(vars(kind.card).values())
            assert cli.main(["judges", name]) == 0
            assert f"decision: {kind.card.decision}" in capsys.readouterr().out
    assert {version.name for version in VERSIONS} == {*TEXTS, *PICTURES}


@pytest.mark.parametrize("quantization", [FourBit("nf4", compute_dtype="float32"), Int8()])
def test_quantized_it_keeps_its_eyes(folders, quantization):
    pytest.importorskip("bitsandbytes")
    name = "llama_guard_3_vision"
    judge = _judge(name, folders[name], quantization=quantization)
    kinds = {
        type(module).__name__
        for path, module in judge.generator._model.model.named_modules()
        if "vision_model" in path and isinstance(module, torch.nn.Linear)
    }
    assert kinds == {"Linear"}
    assert [each.status for each in judge.judge(_answers(1))] == ["unparsed"] * 3


def test_a_picture_that_is_not_there_is_told_before_the_judge_is_loaded(tmp_path, capsys):
    own = sample(
        1, task="stand_in_requests", condition="own", pictures=[file_picture("images/1.png")]
    )
    with RecordFile(tmp_path / "responses.jsonl", Response, header([own])) as file:
        file.append([response(own, "glue")])
    # A folder without a checkpoint: it would be told next.
    words = ["--judge", "llama_guard_4", "--judge-model", str(tmp_path), "--data", str(tmp_path)]
    assert cli.main(["judge", str(tmp_path), *words]) == 1
    assert "expected its picture for a judge that sees it" in capsys.readouterr().err
    (tmp_path / "images").mkdir()
    drawn = render(drawn_picture(3, 1), None)
    drawn.save(tmp_path / "images" / "1.png")
    assert cli.main(["judge", str(tmp_path), *words]) == 1
    assert "expected a checkpoint with config.json" in capsys.readouterr().err


def test_several_in_one_command_and_one_table(folders, tmp_path, monkeypatch, capsys):
    pytest.importorskip("statsmodels")
    from regap_benchmarks.safety.stand_in_requests import StandInRequests

    class Task(StandInRequests):
        pass

    Task.name = "stand_ins"
    monkeypatch.setitem(load_plugins().benchmarks._things, "stand_ins", Task())
    answers = _answers()
    with RecordFile(
        tmp_path / "responses.jsonl", Response, header([each.sample for each in answers])
    ) as file:
        file.append(answers)
    names = ["harmbench", "wildguard", "llama_guard_3"]
    models = ",".join(f"{name}={folders[name]}" for name in names)
    judges = ",".join([*names, "gcg_phrases"])
    words = ["judge", str(tmp_path), "--judge", judges]
    assert cli.main([*words, "--judge-model", models]) == 0
    found = {
        name: read_run(tmp_path / f"judgements.{name}.jsonl", Judgement)[0].judge["settings"]
        for name in names
    }
    fingerprints = {each["model"]["fingerprint"] for each in found.values()}
    assert len(fingerprints) == 3
    capsys.readouterr()
    assert cli.main([*words, "--threshold", "own", "--resamples", "100"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in (*names, "gcg_phrases"))
