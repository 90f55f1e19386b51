"""Options of judges: what is refused before anything is generated or loaded."""

import argparse
from pathlib import Path

import pytest
from stand_ins.records import blank, response, sample

from regap_benchmarks import cli
from regap_benchmarks.commands.judge_arguments import add_arguments, options_of
from regap_benchmarks.judges.fake import FAKE, FakeJudge
from regap_benchmarks.judges.judge import JudgeKind, check_options, options_for
from regap_benchmarks.judges.judge_options import JudgeOptions
from regap_benchmarks.judges.judge_question import check_questions, judge_question
from regap_benchmarks.quantization import FourBit, Int8, Quantization


def _kind(name="model", load=FakeJudge, **fields):
    return JudgeKind(name, "a judge", "nothing", "this test", load, **fields)


def _options(words):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return options_of(parser.parse_args(words.split()))


def test_the_flags_become_options():
    assert _options("") == JudgeOptions()
    words = "--judge-model here --judge-threshold 0.4 --judge-dtype bfloat16 --judge-batch-size 3"
    found = _options(words + " --judge-device cuda:1 --judge-quantization int8")
    assert (found.model, found.threshold, found.dtype, found.batch_size) == (
        *("here", 0.4, "bfloat16", 3),
    )
    assert (found.device, found.quantization) == ("cuda:1", Int8())
    four = _options("--judge-quantization nf4").quantization
    assert four == FourBit("nf4", compute_dtype="float32")
    on_gpu = _options("--judge-quantization nf4 --judge-device cuda").quantization
    assert on_gpu == FourBit("nf4", compute_dtype="float16")


def test_what_is_given():
    assert JudgeOptions().given() == []
    assert JudgeOptions(threshold=0.0, quantization=Quantization()).given() == ["threshold"]
    assert JudgeOptions(quantization=Int8()).given() == ["quantization"]


def test_an_option_that_would_be_ignored_is_refused():
    with pytest.raises(ValueError, match="--judge-batch-size: expected with a judge that takes"):
        check_options([FAKE], JudgeOptions(batch_size=2))
    takes = _kind(options=("batch_size",))
    check_options([FAKE, takes], JudgeOptions(batch_size=2))


def test_two_models_have_a_checkpoint_each():
    got = []
    kinds = [
        FAKE,
        *(_kind(n, options=("model", "device"), check=got.append) for n in ("a", "b")),
    ]
    check_options(kinds, JudgeOptions(model="b=/two, a=one=1", device="cuda"))
    assert [(each.model, each.device) for each in got] == [("one=1", "cuda"), ("/two", "cuda")]
    assert options_for(kinds[2], kinds, JudgeOptions(model="a=x,b=y")).model == "y"
    # One alone has a path, whatever is in its name.
    assert options_for(kinds[1], kinds[:2], JudgeOptions(model="a=b,c")).model == "a=b,c"
    for wrong in ("/one", "a=one", "a=one,b=", "a=one,c=two", "a=1,b=2,c=3"):
        with pytest.raises(ValueError, match="expected a model for each of a, b, as a=PATH,b=PATH"):
            check_options(kinds, JudgeOptions(model=wrong))


def test_two_judges_have_prompts_of_their_own():
    kinds = [_kind(name, options=("prompt",)) for name in ("a", "b")]
    check_options(kinds[:1], JudgeOptions(prompt=Path("p")))
    with pytest.raises(ValueError, match=r"--judge-prompt: expected with one judge .* found a, b"):
        check_options(kinds, JudgeOptions(prompt=Path("p")))


def test_a_judge_checks_before_it_is_loaded():
    def check(options):
        raise ValueError(f"no {options.threshold}")

    with pytest.raises(ValueError, match=r"no 0\.25"):
        check_options([_kind(check=check, options=("threshold",))], JudgeOptions(threshold=0.25))


def test_options_go_to_judges_that_take_some():
    got = []

    def load(*arguments):
        got.append(arguments)
        return FakeJudge()

    options = JudgeOptions(threshold=0.25)
    _kind(load=load).make(options)
    _kind(load=load, options=("threshold",)).make(options)
    assert got == [(), (options,)]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--judge-threshold 2", "--judge-threshold: expected a probability"),
        ("--judge-batch-size 0", "--judge-batch-size: expected 1 or more"),
        ("--judge gcg_phrase", "gcg_phrases"),
    ],
)
def test_wrong_flags_are_wrong_usage(tmp_path, capsys, words, message):
    run = ["run", "--model", "fake:mixed", "--tasks", "stand_in_requests", "--output"]
    for command in (["judge", str(tmp_path)], [*run, str(tmp_path / "run")]):
        assert cli.main([*command, *words.split()]) == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--judge beaver_dam", "expected the folder of its checkpoint, found none"),
        ("--judge beaver_dam --judge-model nowhere", "--judge-model nowhere: expected a folder"),
        ("--judge gcg_phrases --judge-model here", "--judge-model: expected with a judge that"),
    ],
)
def test_a_judge_that_cannot_be_is_told_before_the_model_is_asked(tmp_path, capsys, words, message):
    run = ["run", "--model", "fake:mixed", "--tasks", "stand_in_requests", "--output"]
    assert cli.main([*run, str(tmp_path / "run"), *words.split()]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run" / "responses.jsonl").exists()


def test_the_question_is_of_the_record():
    assert judge_question(sample(0)) == ("word", "prompt")
    assert judge_question(sample(0, judged_prompt="q")) == ("q", "judged_prompt")
    own = sample(0, condition="own", pictures=[blank()])
    with pytest.raises(ValueError, match="expected a judged_prompt"):
        check_questions([response(sample(1)), response(own)])
    check_questions([response(sample(1))])
