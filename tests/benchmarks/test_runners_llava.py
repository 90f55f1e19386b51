"""LLaVA in batches: the tokens of each request alone, and of upstream's own evaluation."""

import dataclasses
import importlib.util
import json
import shutil
import subprocess
import sys

import pytest

from regap_benchmarks.conversation import Turn
from regap_benchmarks.decoding import Decoding
from regap_benchmarks.runners import llava
from regap_benchmarks.runners.llava import LLAVA
from regap_benchmarks.runners.runner import ModelOptions, Request

torch = pytest.importorskip("torch", reason="pip install torch")

PROMPTS = ("Hi", "What is in the picture?", "Count.", "Say, in many words, what you see here.")
DECODING = Decoding(max_new_tokens=10)
needs_llava = pytest.mark.skipif(
    importlib.util.find_spec("llava") is None,
    reason="the real LLaVA: pip install --no-deps llava-torch==1.2.2.post1",
)
# What transformers 4.37 and upstream warn of under a newer torch is theirs.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    from tiny_models.llava import write_checkpoints

    return write_checkpoints(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def runner(checkpoints):
    return _load(checkpoints.full)


def _load(path, **options):
    options = ModelOptions(str(path), **{"dtype": "float32", **options})
    LLAVA.check(options)
    return LLAVA.load(options)


def _requests(pictures):
    """Prompts of different lengths, pictures of different shapes."""
    from PIL import Image

    requests = []
    for number, prompt in enumerate(PROMPTS):
        generator = torch.Generator().manual_seed(number)
        images = []
        for each in range(pictures):
            size = (12 + 9 * number + 5 * each, 16 + 3 * number)
            pixels = torch.randint(256, (3 * size[0] * size[1],), generator=generator)
            images.append(Image.frombytes("RGB", size, bytes(pixels.tolist())))
        requests.append(Request(str(number), prompt, tuple(images)))
    return requests


def _logits_of(runner, requests, decoding=DECODING):
    """Answers, and the logits of each step, [steps][rows, V]."""
    steps = []
    handle = runner.model.lm_head.register_forward_hook(
        lambda *found: steps.append(found[2][:, -1].clone())
    )
    try:
        return runner.generate(requests, decoding), steps
    finally:
        handle.remove()


def _upstream_answer(runner, request, decoding, conversation="llava_v1"):
    """As llava/eval/model_vqa.py asks: one request, upstream's own generate, greedy."""
    from llava.constants import DEFAULT_IMAGE_TOKEN, IMAGE_TOKEN_INDEX
    from llava.conversation import conv_templates
    from llava.mm_utils import process_images, tokenizer_image_token

    model, tokenizer = runner.model, runner.tokenizer
    question = request.prompt
    if request.images:
        question = DEFAULT_IMAGE_TOKEN + "\n" + question
    template = conv_templates[conversation].copy()
    template.append_message(template.roles[0], question)
    template.append_message(template.roles[1], None)
    prompt = template.get_prompt()
    ids = tokenizer_image_token(prompt, tokenizer, IMAGE_TOKEN_INDEX, return_tensors="pt")
    pictures = None
    if request.images:
        made = process_images(list(request.images), runner.image_processor, model.config)[0]
        pictures = made.unsqueeze(0).to(model.device, model.dtype)
    with torch.inference_mode():
        output = model.generate(
            ids.unsqueeze(0).to(model.device),
            images=pictures,
            image_sizes=[each.size for each in request.images] or None,
            do_sample=False,
            max_new_tokens=decoding.max_new_tokens,
            use_cache=True,
            eos_token_id=list(runner._special.ends),
            pad_token_id=0,
        )
    text = tokenizer.batch_decode(output, skip_special_tokens=True)[0].strip()
    assert output[0, 0] == tokenizer.bos_token_id  # transformers 4.37 puts it there
    return prompt, output[0, 1:].tolist(), text


@needs_llava
@pytest.mark.parametrize("pictures", [0, 1, 2])
def test_a_batch_gives_the_tokens_and_logits_of_each_request_alone(runner, pictures):
    requests = _requests(pictures)
    together, steps = _logits_of(runner, requests)
    assert len({each.token_ids for each in together}) == len(requests)
    assert len({each.prompt_tokens for each in together}) > 2
    for row, request in enumerate(requests):
        (alone,), alone_steps = _logits_of(runner, [request])
        assert together[row] == alone
        for batched, single in zip(steps, alone_steps):
            assert (batched[row] - single[0]).abs().max() < 1e-5


@needs_llava
@pytest.mark.parametrize("pictures", [0, 1])
def test_it_answers_as_upstreams_own_evaluation_does(runner, pictures):
    requests = _requests(pictures)
    for request, answer in zip(requests, runner.generate(requests, DECODING)):
        prompt, tokens, text = _upstream_answer(runner, request, DECODING)
        assert answer.rendered_prompt == prompt
        assert list(answer.token_ids) == [each for each in tokens if each != 2]
        assert answer.text == text


@needs_llava
@pytest.mark.parametrize("pictures", [0, 1])
def test_answers_of_different_lengths_end_each_for_itself(runner, pictures, monkeypatch):
    """The end token becomes one that some answers have early, some late, some never."""
    requests = _requests(pictures)
    free = runner.generate(requests, DECODING)
    first_at = {}
    for answer in free:
        for token in set(answer.token_ids):
            first_at.setdefault(token, []).append(answer.token_ids.index(token))
    end, _ = max(first_at.items(), key=lambda each: (len(set(each[1])), max(each[1])))
    monkeypatch.setattr(runner, "_special", dataclasses.replace(runner._special, ends=(end,)))
    answers = runner.generate(requests, DECODING)
    assert len({len(answer.token_ids) for answer in answers}) > 1
    for request, answer, unended in zip(requests, answers, free):
        if end in unended.token_ids:
            assert answer.token_ids == unended.token_ids[: unended.token_ids.index(end)]
            assert answer.finish == "stop"
        else:
            assert (answer.token_ids, answer.finish) == (unended.token_ids, "length")
        assert runner.generate([request], DECODING) == [answer]
        _, tokens, _ = _upstream_answer(runner, request, DECODING)
        assert tokens == [*answer.token_ids, *([end] if answer.finish == "stop" else [])]


@needs_llava
def test_the_test_would_see_padding_on_the_right(runner, monkeypatch):
    requests = _requests(1)
    expected = runner.generate(requests, DECODING)
    monkeypatch.setattr(runner.model.config, "tokenizer_padding_side", "right")
    assert runner.generate(requests, DECODING) != expected


@needs_llava
@pytest.mark.parametrize("pictures", [0, 1])
def test_sampled_answers_are_the_same_in_any_batch_and_order(runner, pictures):
    requests = _requests(pictures)
    decoding = Decoding(max_new_tokens=8, temperature=1.0, top_p=0.95, repetition_penalty=1.2)
    together = runner.generate(requests, decoding)
    assert runner.generate(requests[::-1], decoding)[::-1] == together
    assert [runner.generate([each], decoding)[0] for each in requests] == together
    other = dataclasses.replace(decoding, seed=4)
    assert runner.generate(requests, other) != together


@needs_llava
@pytest.mark.parametrize(
    ("name", "option", "expected"),
    [
        ("llava-v1.5-7b", None, "llava_v1"),
        ("llava-1.5-7b", None, "llava_v0"),  # as HADES' script has it
        ("llava-llama-2-13b", None, "llava_llama_2"),
        ("llava-v1.6-mistral-7b", None, "mistral_instruct"),
        ("llava-v1.6-34b", None, "chatml_direct"),
        ("llava-mpt-7b", None, "mpt"),
        ("llava-1.5-7b", "vicuna_v1", "vicuna_v1"),
    ],
)
def test_the_conversation_is_upstreams_choice_or_the_users(name, option, expected):
    assert llava._choose_conversation(ModelOptions(name, conversation=option)) == expected


@needs_llava
def test_a_conversation_is_recorded_and_changes_the_prompt(checkpoints, runner):
    other = _load(checkpoints.full, conversation="llava_v0")
    (answer,) = other.generate([Request("1", "Hi")], DECODING)
    assert answer.rendered_prompt.endswith("###Human: Hi###Assistant:")
    assert other.describe()["conversation"] == "llava_v0"
    assert runner.describe()["conversation"] == "llava_v1"
    with pytest.raises(ValueError, match=r"--conversation: expected one of .*, found 'v9'"):
        _load(checkpoints.full, conversation="v9")


@needs_llava
@pytest.mark.parametrize(
    ("conversation", "expected"),
    [
        ("llava_v1", "Be kind. USER: Hi ASSISTANT:"),
        ("llava_llama_2", "[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\nHi [/INST]"),
        (
            "chatml_direct",
            "<|im_start|>system\nBe kind.<|im_end|><|im_start|>user\nHi<|im_end|>"
            "<|im_start|>assistant\n",
        ),
    ],
)
def test_a_system_text_takes_the_place_of_the_templates(
    runner, monkeypatch, conversation, expected
):
    monkeypatch.setattr(runner, "_conversation", conversation)
    assert runner.render(Request("", "Hi", system="Be kind."), 0) == expected


@needs_llava
def test_the_aspect_is_the_checkpoints_or_the_users(checkpoints, runner):
    from llava.mm_utils import expand2square

    (request,) = _requests(1)[:1]
    (picture,) = request.images
    processor = runner.image_processor
    padded = expand2square(picture, tuple(int(each * 255) for each in processor.image_mean))
    expected = {
        "pad": processor(padded, return_tensors="pt")["pixel_values"],
        "crop": processor(picture, return_tensors="pt")["pixel_values"],
    }
    assert not torch.equal(expected["pad"], expected["crop"])
    assert torch.equal(runner.preprocess([picture]), expected["pad"])
    cropping = _load(checkpoints.full, image_aspect="crop")
    assert torch.equal(cropping.preprocess([picture]), expected["crop"])
    assert cropping.describe()["image_aspect_ratio"] == "square"
    with pytest.raises(ValueError, match="--image-aspect: expected pad or crop, found 'round'"):
        _load(checkpoints.full, image_aspect="round")


@needs_llava
def test_a_checkpoint_of_many_resolutions_answers_as_upstream(checkpoints, tmp_path):
    """LLaVA 1.6: tiles, whose number depends on the picture's shape."""
    folder = shutil.copytree(checkpoints.full, tmp_path / "llava-v1.6-tiny")
    config = json.loads((folder / "config.json").read_text())
    config.update(
        image_aspect_ratio="anyres",
        image_grid_pinpoints=[[16, 32], [32, 16], [32, 32]],
        mm_patch_merge_type="spatial",
    )
    (folder / "config.json").write_text(json.dumps(config))
    runner = _load(folder)
    requests = _requests(1)
    for request, answer in zip(requests, runner.generate(requests, DECODING)):
        _, tokens, _ = _upstream_answer(runner, request, DECODING)
        assert list(answer.token_ids) == [each for each in tokens if each != 2]


@needs_llava
def test_what_upstream_would_cut_is_refused_by_name(runner):
    picture = _requests(1)[0].images
    words = "square " * 15
    length = runner.length(words, 1, None) - 1 + 4  # four positions for the placeholder
    fits = Request("fits", words, picture)
    assert runner.prompt_limit == 256
    assert length <= 256
    runner.generate([fits], Decoding(max_new_tokens=2))
    with pytest.raises(ValueError, match=r"'long-one': expected a prompt of at most 256 positions"):
        runner.generate([fits, Request("long-one", words * 9, picture)], DECODING)
    too_many = 512 - length + 1
    message = rf"'fits': .*context of 512 positions, found {length} \+ {too_many}\."
    with pytest.raises(ValueError, match=message):
        runner.generate([fits], Decoding(max_new_tokens=too_many))


@needs_llava
def test_lengths_are_counted_as_they_are_in_answers(runner):
    for pictures in (0, 1, 2):
        for request, answer in zip(
            _requests(pictures), runner.generate(_requests(pictures), Decoding(max_new_tokens=1))
        ):
            assert runner.length(request.prompt, pictures, None) == answer.prompt_tokens


@needs_llava
def test_a_placeholder_in_a_prompt_is_refused(runner):
    with pytest.raises(ValueError, match="found the placeholder '<image>'"):
        runner.generate([Request("1", "see <image>")], DECODING)


@needs_llava
def test_the_description_is_json_and_of_the_checkpoint_alone(checkpoints, runner):
    again = _load(checkpoints.full)
    assert json.loads(json.dumps(again.describe())) == runner.describe()
    assert str(checkpoints.full.parent) not in json.dumps(again.describe())
    json.dumps(again.environment())
    assert runner.environment()["versions"]["transformers"] == "4.37.2"


def test_importing_it_imports_nothing_heavy():
    code = (
        "import sys, regap_benchmarks.runners.llava;"
        "print(sorted({'torch', 'transformers', 'llava', 'PIL'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@needs_llava
def test_earlier_turns_are_rendered_as_upstreams_own_conversation_does(runner):
    (plain,) = _requests(1)[:1]
    history = (Turn("Hi", "Hello."), Turn("How?", ""))
    request = dataclasses.replace(plain, history=history, answer_start="Well,")
    (answer,) = runner.generate([request], DECODING)
    assert answer.rendered_prompt.endswith(
        "USER: <image>\nHi ASSISTANT: Hello.</s>USER: How? ASSISTANT:  </s>"
        f"USER: {plain.prompt} ASSISTANT: Well,"
    )
    named = dataclasses.replace(plain, history=(Turn("Hi", "An <image>"),))
    with pytest.raises(ValueError, match="found the placeholder '<image>'"):
        runner.generate([named], DECODING)


@needs_llava
def test_a_conversation_is_the_same_prompt_in_one_piece(runner):
    """Upstream's own template, filled by hand and asked by its own generate."""
    from llava.conversation import conv_templates

    (plain,) = _requests(1)[:1]
    request = dataclasses.replace(plain, history=(Turn("Hi", "Hello."),))
    (answer,) = runner.generate([request], DECODING)
    conversation = conv_templates["llava_v1"].copy()
    for role, text in ((0, "<image>\nHi"), (1, "Hello."), (0, plain.prompt), (1, None)):
        conversation.append_message(conversation.roles[role], text)
    assert answer.rendered_prompt == conversation.get_prompt()


@needs_llava
def test_a_defended_model_says_what_it_says_when_asked_step_by_step(runner, monkeypatch):
    """ECSO's steps by hand; the tiny model never says yes, so what it says is taken for one."""
    from regap_benchmarks.defences import ecso
    from regap_benchmarks.defences.defence import Defended

    monkeypatch.setattr(runner, "prompt_limit", None)
    brief = Decoding(max_new_tokens=6)
    requests = _requests(1)[:2]
    plain = runner.generate(requests, brief)
    defended = Defended(runner, [ecso.ECSO])
    kept = defended.generate(requests, brief)
    assert [each.text for each in kept] == [each.text for each in plain]
    assert {each.cost.calls for each in kept} == {2}
    verdicts = [each.steps[-1].text.lower() for each in kept]
    monkeypatch.setattr(ecso, "UNSAFE", verdicts[:1])
    (again,) = defended.generate(requests[:1], brief)
    asked = requests[0]
    caption_prompt = ecso.CAPTION.format(query=asked.prompt)
    (caption,) = runner.generate([dataclasses.replace(asked, prompt=caption_prompt)], brief)
    prompt = ecso.ANSWER.format(query=asked.prompt, caption=caption.text)
    (expected,) = runner.generate([dataclasses.replace(asked, prompt=prompt, images=())], brief)
    assert (again.text, again.rendered_prompt) == (expected.text, expected.rendered_prompt)
    assert again.cost.calls == 4
    assert "<image>" not in again.rendered_prompt
