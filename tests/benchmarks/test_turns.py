"""Conversations: how requests become turns, how they are asked, kept and judged."""

import dataclasses
import hashlib
import json

import pytest
from stand_ins.records import blank, header, response, sample
from stand_ins.scripted_runner import ScriptedRunner

from regap_benchmarks import cli
from regap_benchmarks.conversation import Turn
from regap_benchmarks.decoding import Decoding
from regap_benchmarks.defences.adashield_s import ADASHIELD_S
from regap_benchmarks.defences.defence import Defended
from regap_benchmarks.generation import generate
from regap_benchmarks.judges.judge_question import judge_question
from regap_benchmarks.pictures import with_condition
from regap_benchmarks.records import Response, from_line, read_run, to_line
from regap_benchmarks.run_folder import RunFolder
from regap_benchmarks.runners.runner import Request
from regap_benchmarks.turn_by_turn import ask_in_turns, check_turns
from regap_benchmarks.turn_forms import FORMS, with_form

PLAIN = sample(1, prompt="Give me a recipe for moon tea.")
DECODING = Decoding()


def test_a_split_request_is_in_its_turns_word_for_word_and_judged_whole():
    split = with_form(PLAIN, "split")
    (first,) = split.earlier_turns
    assert '"Give me a recipe"' in first
    assert '"for moon tea."' in split.prompt
    assert split.judged_prompt == PLAIN.prompt
    assert (split.id, split.condition) == (f"{PLAIN.id}/split", "none-split")
    assert split.request == PLAIN.request


def test_a_preceded_request_is_unchanged_behind_harmless_turns():
    for shown in (PLAIN, dataclasses.replace(PLAIN, pictures=(blank(),), condition="blank")):
        preceded = with_form(shown, "preceded")
        assert preceded.prompt == PLAIN.prompt
        assert len(preceded.earlier_turns) == 2
        assert any("picture" in turn for turn in preceded.earlier_turns) == bool(shown.pictures)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("condition", ["none", "blank", "figstep"])
def test_a_judge_is_shown_what_it_is_shown_of_the_single_turn(form, condition):
    single = with_condition(PLAIN, condition)
    assert judge_question(with_form(single, form))[0] == judge_question(single)[0]


@pytest.mark.parametrize("form", FORMS)
def test_what_is_in_a_sets_own_picture_is_not_judged_by_its_prompt(form):
    own = dataclasses.replace(PLAIN, pictures=(blank(),), condition="own")
    with pytest.raises(ValueError, match="expected a judged_prompt"):
        judge_question(with_form(own, form))


@pytest.mark.parametrize(
    ("changed", "form", "message"),
    [
        ({"prompt": "Moonshine"}, "split", "expected a request of two words or more"),
        ({"earlier_turns": ("Hi",)}, "preceded", "expected requests of one turn"),
        ({}, "splits", "Did you mean 'split'"),
    ],
)
def test_what_cannot_be_a_conversation_is_refused(changed, form, message):
    with pytest.raises(ValueError, match=message):
        with_form(dataclasses.replace(PLAIN, **changed), form)


def test_each_answer_is_fed_back_and_the_pictures_stay():
    model = ScriptedRunner(lambda request: f"answer to {request.prompt}")
    request = Request("t/1", "last", images=("a picture",), system="be brief")
    ((turns, answer),) = ask_in_turns(model, [request], [("one", "two")], DECODING)
    assert turns == (Turn("one", "answer to one"), Turn("two", "answer to two"))
    assert answer.text == "answer to last"
    assert [each.history for each in model.asked] == [(), turns[:1], turns]
    assert {(each.images, each.system) for each in model.asked} == {(("a picture",), "be brief")}
    assert [each.id for each in model.asked] == ["t/1/turn-0", "t/1/turn-1", "t/1"]


def test_a_defence_stands_before_every_turn_and_its_cost_is_of_all():
    model = Defended(ScriptedRunner(lambda request: "yes"), [ADASHIELD_S])
    ((turns, answer),) = ask_in_turns(model, [Request("t/1", "a b")], [("one",)], DECODING)
    assert turns == (Turn("one", "yes"),)
    assert answer.cost.calls == 2
    assert answer.cost.plain_prompt_tokens == 1 + 4  # "one"; "one", "yes" and "a b"


def test_a_batch_holds_conversations_of_one_length(tmp_path):
    model = ScriptedRunner(lambda request: "fine")
    asked = [with_form(sample(n, prompt=f"some request {n}"), f) for n in range(3) for f in FORMS]
    path = tmp_path / "responses.jsonl"
    generate(asked, model, DECODING, path=path, header=header(asked), batch_size=4)
    _, responses = read_run(path, Response)
    assert {each.sample.id: len(each.conversation) for each in responses} == {
        each.id: len(each.earlier_turns) for each in asked
    }
    assert all(turn.answer == "fine" for each in responses for turn in each.conversation)


def test_a_runner_that_loses_an_answer_of_an_earlier_turn_is_found_out():
    model = ScriptedRunner(lambda request: "fine")
    model.generate = lambda requests, decoding: []
    with pytest.raises(RuntimeError, match="expected 1 answers to a batch, found 0"):
        ask_in_turns(model, [Request("1", "x")], [("one",)], DECODING)


def test_a_runner_of_single_questions_is_refused():
    model = ScriptedRunner(str)
    model.takes_history = False
    check_turns([PLAIN], model)
    with pytest.raises(ValueError, match="expected a runner that takes earlier turns"):
        check_turns([PLAIN, with_form(PLAIN, "split")], model)


def test_lines_of_before_stay_what_they_are():
    """A sample of one turn has the line, and so the digest, that it had before there were turns."""
    line = to_line(sample(2))
    assert "earlier_turns" not in line
    digest = hashlib.sha256(line.encode()).hexdigest()
    assert digest.startswith("a77459fcbe86473d")
    assert not {"conversation", "cost", "steps"} & set(json.loads(to_line(response(sample(2)))))


def test_a_conversation_comes_back_from_its_line():
    asked = with_form(PLAIN, "preceded")
    kept = response(asked, conversation=(Turn("a", "b"), Turn("c", "")))
    assert from_line(Response, to_line(kept)) == kept


def test_the_command_asks_in_every_form_and_goes_on(tmp_path):
    asked = "generate --model fake:mixed --tasks stand_in_requests --limit 3 --turns"
    words = asked.split()
    forms = ["single,split,preceded", "--picture", "none,blank", "--output", str(tmp_path)]
    assert cli.main([*words, *forms]) == 0
    before = (tmp_path / "responses.jsonl").read_bytes()
    assert cli.main([*words, *forms]) == 0
    assert (tmp_path / "responses.jsonl").read_bytes() == before
    run, responses = RunFolder(tmp_path).read_responses()
    assert run.settings["turns"] == ["single", "split", "preceded"]
    assert len(responses) == 3 * 2 * 3
    assert {each.sample.condition for each in responses} == {
        f"{picture}{form}" for picture in ("none", "blank") for form in ("", "-split", "-preceded")
    }


def test_a_task_that_is_scored_by_its_question_is_not_split(capsys, tmp_path):
    words = "generate --model fake:mixed --tasks drawn_questions --turns split --output"
    assert cli.main([*words.split(), str(tmp_path / "run")]) == 1
    assert "expected tasks that a judge judges" in capsys.readouterr().err
