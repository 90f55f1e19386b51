"""The runner of ShareGPT4V: greedy answers are those of the real checkout's own generate.

REGAP_SHARE4V_SRC=path/to/ShareGPT4V pytest tests/benchmarks/test_runners_sharegpt4v.py
"""

import dataclasses

import pytest

from regap_benchmarks.decoding import Decoding
from regap_benchmarks.runners import share4v_checkpoint
from regap_benchmarks.runners.runner import MissingRequirementError, ModelOptions, Request
from regap_benchmarks.runners.sharegpt4v import SHAREGPT4V

torch = pytest.importorskip("torch", reason="pip install torch")
transformers = pytest.importorskip("transformers", reason="pip install transformers")
pytest.importorskip("PIL", reason="pip install pillow")

from upstream import share4v_source

from regap_benchmarks.miniature.pictures import draw_picture

# What upstream and its transformers warn of under a newer torch is theirs.
pytestmark = pytest.mark.filterwarnings("ignore")
needs_share4v = pytest.mark.skipif(
    share4v_source.REAL is None or not transformers.__version__.startswith("4.31."),
    reason="the real ShareGPT4V by REGAP_SHARE4V_SRC, with transformers 4.31: the stand-in has no"
    " builder and no conversations",
)
PROMPTS = ("What is there?", "Describe it in a few words, please.", "Is the circle red?")
NEW = Decoding(max_new_tokens=12)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    share4v_source.make_importable()
    from tiny_models.share4v import write_checkpoints

    return write_checkpoints(tmp_path_factory.mktemp("share"))


@pytest.fixture(scope="module")
def loaded(checkpoints):
    return {
        "full": _load(checkpoints.full),
        "whole": _load(checkpoints.whole),
        "projector": _load(checkpoints.projector, base=str(checkpoints.base)),
    }


def _load(path, **options):
    options = ModelOptions(str(path), **{"dtype": "float32", **options})
    SHAREGPT4V.check(options)
    return SHAREGPT4V.load(options)


def _picture(number):
    return draw_picture(seed=3, index=number).image


def _requests(pictures=1):
    return [
        Request(f"r{number}", prompt, tuple(_picture(number + each) for each in range(pictures)))
        for number, prompt in enumerate(PROMPTS)
    ]


def _upstreams(runner, request, conversation="share4v_v0"):
    """As share4v/eval/model_vqa_loader.py asks, greedily, and run_share4v.py reads."""
    from share4v.constants import DEFAULT_IMAGE_TOKEN, IMAGE_TOKEN_INDEX
    from share4v.conversation import SeparatorStyle, conv_templates
    from share4v.mm_utils import KeywordsStoppingCriteria, process_images, tokenizer_image_token

    conv = conv_templates[conversation].copy()
    asked = f"{DEFAULT_IMAGE_TOKEN}\n" * len(request.images) + request.prompt
    conv.append_message(conv.roles[0], asked)
    conv.append_message(conv.roles[1], None)
    prompt = conv.get_prompt()
    images = process_images(list(request.images), runner.image_processor, runner.model.config)
    ids = tokenizer_image_token(
        prompt, runner.tokenizer, IMAGE_TOKEN_INDEX, return_tensors="pt"
    ).unsqueeze(0)
    stop = conv.sep if conv.sep_style != SeparatorStyle.TWO else conv.sep2
    with torch.inference_mode():
        found = runner.model.generate(
            ids,
            images=images,
            do_sample=False,
            max_new_tokens=NEW.max_new_tokens,
            use_cache=True,
            stopping_criteria=[KeywordsStoppingCriteria([stop], runner.tokenizer, ids)],
        )
    text = runner.tokenizer.batch_decode(found[:, ids.shape[1] :], skip_special_tokens=True)[0]
    text = text.strip()
    return prompt, text[: -len(stop)].strip() if text.endswith(stop) else text


@needs_share4v
@pytest.mark.parametrize("kind", ["full", "whole", "projector"])
def test_greedy_answers_are_upstreams(loaded, kind):
    runner = loaded[kind]
    answers = runner.generate(_requests(), NEW)
    expected = [_upstreams(runner, request) for request in _requests()]
    assert [(each.rendered_prompt, each.text) for each in answers] == expected
    if kind != "projector":  # whose language model is not spread
        assert len({each.text for each in answers}) > 1
    assert all(each.text for each in answers)


@needs_share4v
@pytest.mark.parametrize("conversation", ["vicuna_v1", "share4v_v1"])
def test_other_conversations_too(checkpoints, conversation):
    runner = _load(checkpoints.full, conversation=conversation)
    request = _requests()[1]
    (answer,) = runner.generate([request], NEW)
    assert (answer.rendered_prompt, answer.text) == _upstreams(runner, request, conversation)
    assert runner.describe()["conversation"] == conversation


@needs_share4v
def test_a_batch_gives_the_tokens_of_each_alone(loaded):
    runner = loaded["full"]
    for pictures in (0, 1, 2):
        together = runner.generate(_requests(pictures), NEW)
        alone = [runner.generate([each], NEW)[0] for each in _requests(pictures)]
        assert [each.token_ids for each in together] == [each.token_ids for each in alone]


@needs_share4v
def test_sampling_is_of_the_request_alone(loaded):
    runner = loaded["full"]
    warm = Decoding(max_new_tokens=12, temperature=1.0, seed=5)
    together = [each.token_ids for each in runner.generate(_requests(), warm)]
    assert together == [runner.generate([each], warm)[0].token_ids for each in _requests()]
    other = dataclasses.replace(warm, seed=6)
    assert together != [each.token_ids for each in runner.generate(_requests(), other)]


@needs_share4v
def test_the_picture_decides(loaded):
    one, two = (
        loaded["full"].generate([Request("r", PROMPTS[0], (_picture(number),))], NEW)
        for number in (0, 5)
    )
    assert one[0].token_ids != two[0].token_ids


@needs_share4v
def test_what_it_says_of_itself(loaded, checkpoints):
    described = {kind: runner.describe() for kind, runner in loaded.items()}
    assert described["full"]["runner"] == "sharegpt4v"
    assert (described["full"]["kind"], described["projector"]["kind"]) == ("full", "stage 1")
    fingerprints = {kind: each["vision_tower_fingerprint"] for kind, each in described.items()}
    assert fingerprints["whole"] != fingerprints["full"]
    assert described["projector"]["base"] == checkpoints.base.name
    assert loaded["full"].length("a b", 1, None) > loaded["full"].length("a", 1, None)


@needs_share4v
def test_what_cannot_be_asked_is_told(loaded, checkpoints):
    runner = loaded["full"]
    with pytest.raises(ValueError, match="found the placeholder '<image>'"):
        runner.generate([Request("r", "a <image>")], NEW)
    with pytest.raises(ValueError, match="within the model's context"):
        runner.generate([Request("r", "word " * 3000)], NEW)
    with pytest.raises(ValueError, match="--conversation: expected one of"):
        _load(checkpoints.full, conversation="none such")
    with pytest.raises(ValueError, match="--image-aspect: expected pad or crop"):
        _load(checkpoints.full, image_aspect="round")


@needs_share4v
def test_by_the_command_line(checkpoints, tmp_path):
    from regap_benchmarks import cli
    from regap_benchmarks.records import Response, read_run

    words = ["--tasks", "drawn_questions", "--limit", "3", "--max-new-tokens", "4"]
    model = ["--model", f"sharegpt4v:{checkpoints.full}", "--device", "cpu", "--batch-size", "2"]
    assert cli.main(["generate", *model, *words, "--output", str(tmp_path)]) == 0
    header, responses = read_run(tmp_path / "responses.jsonl", Response)
    assert header.settings["model"]["runner"] == "sharegpt4v"
    assert {each.finish for each in responses} <= {"stop", "length"}


def test_it_says_what_is_missing(monkeypatch):
    monkeypatch.setattr(share4v_checkpoint, "version", lambda name: "5.0.0")
    with pytest.raises(MissingRequirementError, match=r"expected a checkout of ShareGPT4Omni"):
        SHAREGPT4V.check(ModelOptions("anything"))
