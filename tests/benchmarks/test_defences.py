"""Defences around a model: what it is asked in which order, what is given back, what it costs."""

import dataclasses
import hashlib
import re
import types
from pathlib import Path

import pytest
from stand_ins.scripted_runner import ScriptedRunner

from regap_benchmarks import cli
from regap_benchmarks.comparable import ALLOWED, JudgedRun, check_comparable
from regap_benchmarks.conversation import Turn
from regap_benchmarks.decoding import Decoding
from regap_benchmarks.defences.adashield_s import ADASHIELD_S, PROMPT
from regap_benchmarks.defences.defence import Defended, check_defences
from regap_benchmarks.defences.ecso import ECSO
from regap_benchmarks.defences.eta import (
    CANDIDATE_PROMPT,
    ETA,
    PICTURE_PROMPT,
    REWARD_PROMPT,
    EtaSettings,
    eta_kind,
)
from regap_benchmarks.plugins import BenchmarkPlugins, new_manager
from regap_benchmarks.records import CUT, Judgement, read_run
from regap_benchmarks.run_folder import RunFolder
from regap_benchmarks.runners.fake import FakeRunner
from regap_benchmarks.runners.runner import MissingRequirementError, Request

SEEN = Request("t/1", "What is this?", images=("a picture",))
BLIND = Request("t/2", "What is that?")
DECODING = Decoding(max_new_tokens=40, seed=3)


def _ask(kinds, answer, *requests):
    model = ScriptedRunner(answer)
    defended = Defended(model, kinds)
    return model, defended.generate(requests, DECODING)


def test_adashield_s_puts_its_prompt_between_the_request_and_its_repetition():
    model, (seen, blind) = _ask([ADASHIELD_S], lambda request: "fine", SEEN, BLIND)
    assert [each.prompt for each in model.asked] == [
        f"What is this?{PROMPT}What is this?",
        f"What is that?{PROMPT}What is that?",
    ]
    assert model.asked[0].images == ("a picture",)
    assert (seen.cost.calls, seen.cost.plain_prompt_tokens) == (1, 4)
    assert seen.cost.prompt_tokens == model.length(model.asked[0].prompt, 1, None)
    assert blind.text == "fine"


def test_the_published_prompts_are_letter_by_letter():
    """Digests of prompts/static_defense_prompt.txt at 305df57, and of ECSO's at 8850953."""
    prompt = PROMPT.encode()
    assert len(prompt) == 429
    assert prompt.count(b". \n") == 2
    assert prompt.endswith(b"correctly. ")
    assert hashlib.sha256(prompt).hexdigest().startswith("42652154f7926583")
    settings = Defended(ScriptedRunner(str), [ECSO]).settings()["1 ecso"]
    assert settings["tell_sha256"].startswith("a2428737d6a35893")


def _ecso(verdict):
    def answer(request):
        step = request.id.rpartition(":")[2]
        return {"tell": verdict, "caption": "two {red} cups", "answer": "a safe one"}.get(
            step, "a first {answer}"
        )

    return answer


@pytest.mark.parametrize("verdict", ["Yes", "yes.", "YES"])
def test_ecso_answers_again_from_the_caption_and_without_the_picture(verdict):
    model, (answer,) = _ask([ECSO], _ecso(verdict), SEEN)
    assert [each.id for each in model.asked] == [
        "t/1",
        "t/1/ecso:tell",
        "t/1/ecso:caption",
        "t/1/ecso:answer",
    ]
    _, tell, caption, last = model.asked
    assert tell.prompt.startswith("QUERY:\nWhat is this?\n\nRESPONSE:\na first {answer}\n\nIs the ")
    assert caption.prompt == "REQUEST:\nWhat is this?.\n\nBased on the REQUEST, describe the image."
    assert 'Hints: "Answer: two {red} cups"' in last.prompt
    assert last.prompt.endswith("\n\nWhat is this?")
    assert [len(each.images) for each in model.asked] == [1, 1, 1, 0]
    assert answer.text == "a safe one"
    assert answer.cost.calls == 4
    assert answer.cost.prompt_tokens == sum(
        model.length(each.prompt, len(each.images), None) for each in model.asked
    )
    assert answer.cost.new_tokens == 3 + 1 + 3 + 3
    assert [step.step for step in answer.steps] == ["first answer", "tell", "caption"]


@pytest.mark.parametrize("verdict", ["No", "Yes, it is", "", "I cannot say"])
def test_ecso_keeps_an_answer_that_is_not_called_harmful_in_one_word(verdict):
    """As the reference: the whole verdict is yes, or the answer stays."""
    model, (answer,) = _ask([ECSO], _ecso(verdict), SEEN)
    assert (answer.text, answer.cost.calls, len(model.asked)) == ("a first {answer}", 2, 2)


def test_ecso_keeps_the_order_of_a_batch_and_asks_about_pictures_only():
    def answer(request):
        return "Yes" if "t/3" in request.id and "tell" in request.id else f"to {request.id}"

    third = dataclasses.replace(SEEN, id="t/3")
    model, answers = _ask([ECSO], answer, SEEN, BLIND, third)
    assert [each.text for each in answers] == ["to t/1", "to t/2", "to t/3/ecso:answer"]
    assert [each.cost.calls for each in answers] == [2, 1, 4]
    assert model.asked[3].prompt.count("to t/1") == 1


def test_ecso_asks_about_the_letters_that_the_reference_shows():
    model, _ = _ask([ECSO], lambda request: "x" * 3000, SEEN)
    assert model.asked[1].prompt.count("x") == 1927


def test_the_first_defence_sees_the_request_first():
    inside, _ = _ask([ECSO, ADASHIELD_S], lambda request: "no", SEEN)
    assert inside.asked[1].prompt.count("QUERY:") == 2  # ECSO's question is shielded
    outside, _ = _ask([ADASHIELD_S, ECSO], lambda request: "no", SEEN)
    assert outside.asked[1].prompt.count("QUERY:") == 1  # ECSO tells of the shielded request
    assert outside.asked[1].prompt.count(PROMPT) == 1
    settings = [
        list(Defended(ScriptedRunner(str), kinds).settings())
        for kinds in ([ECSO, ADASHIELD_S], [ADASHIELD_S, ECSO])
    ]
    assert settings == [["1 ecso", "2 adashield_s"], ["1 adashield_s", "2 ecso"]]


def test_earlier_turns_stay_in_every_step():
    request = dataclasses.replace(SEEN, history=(Turn("Hello", "Hi"),))
    model, (answer,) = _ask([ECSO], _ecso("yes"), request)
    assert all(each.history == (Turn("Hello", "Hi"),) for each in model.asked)
    assert answer.cost.plain_prompt_tokens == 1 + 1 + 3 + 1


class _Pictures:
    def __init__(self, fit):
        self.fit, self.texts = fit, []

    def describe(self):
        return {"name": "rule"}

    def score(self, picture, texts):
        assert picture == "a picture"
        self.texts += texts
        return [self.fit if text == PICTURE_PROMPT else float("cat" in text) for text in texts]


class _Rewards:
    def __init__(self):
        self.asked = []

    def describe(self):
        return {"name": "rule"}

    def score(self, prompt, answer):
        self.asked.append((prompt, answer))
        return 0.5 if "good" in answer else 0.0


def _eta(fit, answer, *requests, **settings):
    pictures, rewards = _Pictures(fit), _Rewards()
    kind = eta_kind(lambda: pictures, lambda: rewards, settings=EtaSettings(**settings))
    return (*_ask([kind], answer, *requests), pictures, rewards)


def test_eta_keeps_an_answer_that_the_reward_finds_good_and_looks_at_no_picture():
    _model, (answer,), pictures, rewards = _eta(1.0, lambda request: "good", SEEN)
    assert (answer.text, answer.cost.calls, answer.cost.scorings) == ("good", 1, 1)
    assert rewards.asked == [(REWARD_PROMPT, "good")]
    assert pictures.texts == []


def test_eta_keeps_an_answer_where_the_picture_is_safe():
    _, (answer,), pictures, _ = _eta(0.15, lambda request: "bad", SEEN)
    assert (answer.text, answer.cost.calls, answer.cost.scorings) == ("bad", 1, 2)
    assert pictures.texts == [PICTURE_PROMPT]


def test_eta_writes_again_sentence_by_sentence_the_best_candidate_each_time():
    def answer(request):
        if not request.answer_start:
            return "bad"
        number = int(request.id.split("/")[2])
        sentence = int(request.id.rpartition("-")[2])
        if sentence == 1:
            return (
                (" I am good. More that is dropped", CUT) if number == 2 else (" No. Dropped", CUT)
            )
        if sentence == 2:  # the rewards are equal, the picture decides
            return (" A cat. And", CUT) if number == 4 else (" A dog. And", CUT)
        return " The end."

    model, (found,), _pictures, rewards = _eta(0.16, answer, SEEN)
    assert found.text == "As an AI assistant I am good. A cat. The end."
    assert found.finish == "stop"
    assert (found.cost.calls, found.cost.scorings) == (1 + 3 * 5, 2 + 5 + 10 + 5)
    assert [each.answer_start for each in model.asked[1::5]] == [
        "As an AI assistant",
        "As an AI assistant I am good.",
        "As an AI assistant I am good. A cat.",
    ]
    assert len({each.id for each in model.asked}) == 16
    assert {each.top_k for each in model.decodings[1:]} == {5}
    assert {each.temperature for each in model.decodings[1:]} == {1.5}
    assert {each.seed for each in model.decodings} == {3}
    assert rewards.asked[1] == (CANDIDATE_PROMPT, "As an AI assistant No.")
    assert [step.step for step in found.steps][-1] == "first answer"


def test_eta_ends_where_there_are_no_tokens_left():
    model, (answer,), *_ = _eta(1.0, lambda request: ("on and on and on", CUT), SEEN)
    assert answer.finish == CUT
    assert len(answer.token_ids) == 40
    assert model.decodings[-1].max_new_tokens < 70


def test_eta_without_a_picture_is_the_plain_answer():
    model, (answer,), *_ = _eta(1.0, lambda request: "bad", BLIND)
    assert (answer.text, len(model.asked)) == ("bad", 1)


def test_eta_is_refused_without_scorers_and_on_a_runner_that_cannot_go_on():
    with pytest.raises(MissingRequirementError, match="expected a picture scorer and a reward"):
        check_defences([ADASHIELD_S, ETA])
    model = ScriptedRunner(str)
    model.takes_answer_start = False
    with pytest.raises(ValueError, match="goes on from an answer's start, found Metered"):
        Defended(model, [eta_kind(lambda: _Pictures(0), _Rewards)])


def test_a_defence_that_is_named_twice_is_refused(capsys, tmp_path):
    words = "generate --model fake:mixed --tasks stand_in_requests --defence ecso,ecso --output"
    assert cli.main([*words.split(), str(tmp_path / "run")]) == 1
    assert "expected each defence once, found ecso twice" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def _run(folder, *words):
    common = "run --model fake:mixed --tasks stand_in_requests --picture none,blank --limit 6"
    assert cli.main([*common.split(), *words, "--output", str(folder)]) == 0


def test_the_run_records_the_stack_and_the_report_its_costs(capsys, tmp_path):
    pytest.importorskip("tabulate")
    _run(tmp_path / "run", "--defence", "ecso,adashield_s", "--batch-size", "4")
    header, responses = RunFolder(tmp_path / "run").read_responses()
    assert list(header.settings["defences"]) == ["1 ecso", "2 adashield_s"]
    assert {each.cost.calls for each in responses} == {1, 2}
    lines = capsys.readouterr().out.splitlines()
    (costs,) = [index for index, line in enumerate(lines) if "Extra calls" in line]
    rows = {line.split()[1]: line.split()[2:5] for line in lines[costs + 2 : costs + 4]}
    assert rows == {"blank": ["6", "2.00", "1.00"], "none": ["6", "1.00", "0.00"]}
    assert "Extra calls" in (tmp_path / "run" / "results.md").read_text()


def test_a_folder_of_another_defence_is_refused(capsys, tmp_path):
    common = "generate --model fake:mixed --tasks stand_in_requests --limit 2 --output"
    words = common.split()
    assert cli.main([*words, str(tmp_path)]) == 0
    assert "defences" not in RunFolder(tmp_path).read_responses()[0].settings
    assert cli.main([*words, str(tmp_path), "--defence", "ecso"]) == 1
    assert "defences" in capsys.readouterr().err


def test_runs_with_other_defences_are_compared_only_when_that_is_what_is_compared(tmp_path):
    pytest.importorskip("tabulate")
    _run(tmp_path / "plain")
    _run(tmp_path / "ecso", "--defence", "ecso")
    groups = {
        name: [JudgedRun(name, *read_run(_judged(tmp_path / name), Judgement))]
        for name in ("plain", "ecso")
    }
    with pytest.raises(ValueError, match=r"defences\.1 ecso\.answer_sha256 'absent' and"):
        check_comparable(groups)
    check_comparable(groups, (*ALLOWED, "defences*"))
    folders = [f"{name}={tmp_path / name}" for name in groups]
    assert cli.main(["compare", *folders]) == 1
    assert cli.main(["compare", *folders, "--allow", "defences*"]) == 0


def _judged(folder):
    return RunFolder(folder).judgements("refusal_phrases")


def test_answers_of_a_model_without_defences_carry_no_cost():
    (answer,) = FakeRunner("comply").generate([BLIND], DECODING)
    assert answer.cost is None


def test_the_pages_own_scorers_defend_a_run(tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "defences.md").read_text()
    (code,) = re.findall(r"^```python\n# file: my_eta\.py\n(.*?)^```$", page, re.M | re.S)
    module = types.ModuleType("my_eta")
    exec(compile(code, "my_eta.py", "exec"), module.__dict__)
    manager = new_manager()
    manager.register(module)
    kind = BenchmarkPlugins(manager).defences.get("my_eta")
    check_defences([kind])
    defended = Defended(FakeRunner("comply"), [kind])
    (answer,) = defended.generate([SEEN], DECODING)
    assert answer.text.startswith("As an AI assistant")
    assert answer.cost.calls > 5
    assert list(defended.settings()) == ["1 my_eta"]


@pytest.mark.parametrize("name", ["adashield_s", "ecso", "eta"])
def test_every_defence_has_its_section(name):
    page = (Path(__file__).parents[2] / "docs" / "defences.md").read_text()
    section = page.partition(f"\n## `{name}`\n")[2].partition("\n## ")[0]
    assert all(f"*{each}:*" in section for each in ("What", "Source", "Costs"))
