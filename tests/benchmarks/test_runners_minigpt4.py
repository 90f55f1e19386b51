"""The runner of MiniGPT-4 and v2: greedy answers are those of upstream's own demo and evaluation.

REGAP_MINIGPT4_SRC=path/to/MiniGPT-4 pytest tests/benchmarks/test_runners_minigpt4.py
"""

import importlib.util
import json
import os
from pathlib import Path

import pytest

from regap_benchmarks.decoding import Decoding
from regap_benchmarks.runners import minigpt4_checkpoint
from regap_benchmarks.runners.minigpt4 import MINIGPT4
from regap_benchmarks.runners.runner import MissingRequirementError, ModelOptions, Request

torch = pytest.importorskip("torch", reason="pip install torch")
pytest.importorskip("PIL", reason="pip install pillow")

from regap_benchmarks.miniature.pictures import draw_picture

# What upstream and its libraries warn of under a newer torch is theirs.
pytestmark = pytest.mark.filterwarnings("ignore")
SOURCE = os.environ.get("REGAP_MINIGPT4_SRC")
needs_minigpt4 = pytest.mark.skipif(
    not SOURCE or any(importlib.util.find_spec(name) is None for name in ("timm", "omegaconf")),
    reason="the real MiniGPT-4 by REGAP_MINIGPT4_SRC, with timm and omegaconf: the stand-in has no"
    " processors and no conversations",
)
KINDS = ("qformer", "no_qformer", "v2")
PROMPTS = ("What is there?", "Describe it in a few words, please.", "Is the circle red?")
NEW = Decoding(max_new_tokens=12)


@pytest.fixture(scope="module")
def yamls(tmp_path_factory):
    from tiny_models import minigpt4 as tiny

    root = Path(SOURCE).absolute()
    with pytest.MonkeyPatch.context() as patch:
        tiny.make_importable(root, patch)
        yield tiny.write_checkpoints(tmp_path_factory.mktemp("mini"), root)


@pytest.fixture(scope="module")
def loaded(yamls):
    return {kind: _load(yamls[kind]) for kind in KINDS}


def _load(path, **options):
    options = ModelOptions(str(path), **{"dtype": "float32", **options})
    MINIGPT4.check(options)
    return MINIGPT4.load(options)


def _picture(number):
    return draw_picture(seed=3, index=number).image


def _requests(pictures=1):
    return [
        Request(f"r{number}", prompt, tuple(_picture(number + each) for each in range(pictures)))
        for number, prompt in enumerate(PROMPTS)
    ]


def _of_the_demo(runner, request):
    """As demo.py asks by `Chat`, but greedily and without a penalty, and as `answer` reads."""
    from minigpt4.conversation import conversation

    chat = conversation.Chat(runner.model, runner._loaded.preprocess, device="cpu")
    state = getattr(conversation, runner.describe()["conversation"]).copy()
    images = []
    chat.upload_img(request.images[0], state, images)
    chat.encode_img(images)
    chat.ask(request.prompt, state)
    prepared = chat.answer_prepare(
        state, images, max_new_tokens=NEW.max_new_tokens, repetition_penalty=1.0
    )
    with torch.inference_mode():
        tokens = chat.model_generate(**{**prepared, "do_sample": False})[0]
    text = runner.model.llama_tokenizer.decode(tokens, skip_special_tokens=True)
    return state.get_prompt(), text.split("###")[0].split("Assistant:")[-1].strip()


@needs_minigpt4
@pytest.mark.parametrize("kind", KINDS)
def test_greedy_answers_are_those_of_the_demo(loaded, kind):
    runner = loaded[kind]
    answers = runner.generate(_requests(), NEW)
    expected = [_of_the_demo(runner, request) for request in _requests()]
    assert [(each.rendered_prompt, each.text) for each in answers] == expected
    assert len({each.text for each in answers}) > 1
    assert all(each.text for each in answers)


@needs_minigpt4
def test_greedy_answers_of_v2_are_those_of_its_evaluation(loaded):
    from minigpt4.common.eval_utils import prepare_texts
    from minigpt4.conversation.conversation import CONV_VISION_minigptv2

    runner = loaded["v2"]
    requests = _requests()
    texts = prepare_texts([each.prompt for each in requests], CONV_VISION_minigptv2.copy())
    images = torch.stack([runner._loaded.preprocess(each.images[0]) for each in requests])
    expected = runner.model.generate(
        images, texts, max_new_tokens=NEW.max_new_tokens, do_sample=False
    )
    found = runner.generate(requests, NEW)
    assert [each.rendered_prompt for each in found] == texts
    assert [each.text for each in found] == expected


@needs_minigpt4
@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_gives_the_tokens_of_each_alone(loaded, kind):
    runner = loaded[kind]
    for pictures in (0, 1, 2):
        together = runner.generate(_requests(pictures), NEW)
        alone = [runner.generate([each], NEW)[0] for each in _requests(pictures)]
        assert [each.token_ids for each in together] == [each.token_ids for each in alone]


@needs_minigpt4
def test_sampling_is_of_the_request_alone(loaded):
    runner = loaded["qformer"]
    warm = Decoding(max_new_tokens=12, temperature=1.0, top_p=0.9, repetition_penalty=1.05, seed=5)
    together = [each.token_ids for each in runner.generate(_requests(), warm)]
    assert together == [runner.generate([each], warm)[0].token_ids for each in _requests()]


@needs_minigpt4
@pytest.mark.parametrize(
    ("kind", "raw", "text", "finish"),
    [
        ("qformer", "a chair ###Human: and", "a chair", "stop"),
        ("qformer", "so. Assistant: a chair", "a chair", "length"),
        ("v2", "[INST] x [/INST] a chair</s> more", "a chair", "length"),
        ("v2", "a ### chair", "a ### chair", "length"),
    ],
)
def test_answers_are_cut_as_upstream_cuts_them(loaded, monkeypatch, kind, raw, text, finish):
    runner = loaded[kind]
    monkeypatch.setattr(runner, "_tokenizer", _Saying(runner._tokenizer, raw))
    answer = runner._answer("prompt", 1, (5, 6), "length")
    assert (answer.text, answer.finish) == (text, finish)


class _Saying:
    def __init__(self, tokenizer, said):
        self._tokenizer, self._said = tokenizer, said

    def decode(self, tokens, **settings):
        return self._said

    def __call__(self, *arguments, **settings):
        return self._tokenizer(*arguments, **settings)


@needs_minigpt4
def test_what_it_says_of_itself(loaded, yamls):
    described = {kind: runner.describe() for kind, runner in loaded.items()}
    assert described["v2"]["conversation"] == "CONV_VISION_minigptv2"
    assert described["qformer"]["has_qformer"] != described["no_qformer"]["has_qformer"]
    assert len({each["fingerprint"] for each in described.values()}) == 3
    assert json.dumps(described)
    runner = loaded["qformer"]
    assert runner.length("a b", 1, None) > runner.length("a", 1, None) > runner.length("a", 0, None)


@needs_minigpt4
def test_what_cannot_be_asked_is_told(loaded):
    runner = loaded["qformer"]
    with pytest.raises(ValueError, match="found the placeholder '<ImageHere>'"):
        runner.generate([Request("r", "a <ImageHere>")], NEW)
    with pytest.raises(ValueError, match="within the model's context"):
        runner.generate([Request("r", "word " * 3000)], NEW)


@needs_minigpt4
def test_by_the_command_line(yamls, tmp_path):
    from regap_benchmarks import cli
    from regap_benchmarks.records import Response, read_run

    words = ["--tasks", "drawn_questions", "--limit", "3", "--max-new-tokens", "4"]
    model = ["--model", f"minigpt4:{yamls['qformer']}", "--device", "cpu", "--batch-size", "2"]
    assert cli.main(["generate", *model, *words, "--output", str(tmp_path)]) == 0
    header, responses = read_run(tmp_path / "responses.jsonl", Response)
    assert header.settings["model"]["runner"] == "minigpt4"
    assert {each.finish for each in responses} <= {"stop", "length"}


def test_it_says_what_is_missing(monkeypatch):
    monkeypatch.setattr(minigpt4_checkpoint, "version", lambda name: "5.0.0")
    with pytest.raises(MissingRequirementError, match=r"expected a checkout of Vision-CAIR"):
        MINIGPT4.check(ModelOptions("anything"))
