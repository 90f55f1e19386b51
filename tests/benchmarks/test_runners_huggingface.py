"""The runner on transformers 5: a batch answers as each request alone, as transformers does."""

import dataclasses
import importlib.util
import json
import shutil
import subprocess
import sys

import pytest

from regap_benchmarks.conversation import Turn
from regap_benchmarks.decoding import Decoding
from regap_benchmarks.runners import huggingface
from regap_benchmarks.runners.huggingface import HUGGINGFACE, HuggingFaceRunner
from regap_benchmarks.runners.runner import MissingRequirementError, ModelOptions, Request

torch = pytest.importorskip("torch", reason="pip install torch")
transformers = pytest.importorskip("transformers", reason="pip install transformers")
if int(transformers.__version__.split(".")[0]) < huggingface.FIRST_TRANSFORMERS:
    pytest.skip("needs transformers 5", allow_module_level=True)
Image = pytest.importorskip("PIL.Image", reason="pip install pillow")

from tiny_models import image_text as tiny

PROMPTS = ("Hi", "What is in the picture?", "Count.", "Tell me, in many words, what you see here.")
DECODING = Decoding(max_new_tokens=10)
ARCHITECTURES = ("llava", "idefics3", "qwen2_vl")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {name: tmp_path_factory.mktemp(name) for name in ARCHITECTURES}


@pytest.fixture(scope="module")
def runners(folders):
    made = {}
    for name in ARCHITECTURES:
        found = getattr(tiny, f"write_{name}")(folders[name])
        made[name] = _load(folders[name], None if found == folders[name] else found)
    return made


def _load(folder, processor=None, **options):
    """A runner; a processor takes the place of the one in the folder."""
    with pytest.MonkeyPatch.context() as patch:
        if processor is not None:
            patch.setattr(huggingface, "_load_processor", lambda path: processor)
        options = ModelOptions(str(folder), **{"dtype": "float32", **options})
        HUGGINGFACE.check(options)
        return HUGGINGFACE.load(options)


def _requests(pictures):
    """Prompts of different lengths, pictures of different sizes."""
    requests = []
    for number, prompt in enumerate(PROMPTS):
        sizes = [(20 + 9 * number + 5 * each, 16 + 7 * number) for each in range(pictures)]
        generator = torch.Generator().manual_seed(number)
        images = tuple(
            Image.frombytes(
                "RGB",
                size,
                bytes(torch.randint(256, (3 * size[0] * size[1],), generator=generator).tolist()),
            )
            for size in sizes
        )
        requests.append(Request(str(number), prompt, images))
    return requests


def _logits_of(runner, requests, decoding):
    """Answers, and the logits of each step, [steps][rows, V]."""
    steps = []
    head = runner.model.get_output_embeddings()
    handle = head.register_forward_hook(lambda *found: steps.append(found[2][:, -1].clone()))
    try:
        return runner.generate(requests, decoding), steps
    finally:
        handle.remove()


@pytest.mark.parametrize("pictures", [0, 1, 2])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_batch_gives_the_tokens_and_logits_of_each_request_alone(runners, name, pictures):
    runner, requests = runners[name], _requests(pictures)
    together, steps = _logits_of(runner, requests, DECODING)
    assert len({each.token_ids for each in together}) > 1
    for row, request in enumerate(requests):
        (alone,), alone_steps = _logits_of(runner, [request], DECODING)
        assert together[row] == alone
        for batched, single in zip(steps, alone_steps):
            assert (batched[row] - single[0]).abs().max() < 1e-5


@pytest.mark.parametrize("pictures", [0, 1])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_it_answers_as_transformers_own_way_does(runners, folders, name, pictures):
    """By transformers' documented calls, one request at a time, on a model loaded anew."""
    runner = runners[name]
    model = transformers.AutoModelForImageTextToText.from_pretrained(folders[name])
    processor = runner._processor
    for request in _requests(pictures):
        content = [{"type": "image", "image": each} for each in request.images]
        content.append({"type": "text", "text": request.prompt})
        inputs = processor.apply_chat_template(
            [{"role": "user", "content": content}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        )
        sequence = model.generate(
            **inputs, max_new_tokens=DECODING.max_new_tokens, do_sample=False
        )[0, inputs["input_ids"].shape[1] :].tolist()
        (answer,) = runner.generate([request], DECODING)
        end = processor.tokenizer.eos_token_id
        cut = sequence[: sequence.index(end)] if end in sequence else sequence
        assert list(answer.token_ids) == cut
        assert answer.finish == ("stop" if end in sequence else "length")
        assert answer.text == processor.tokenizer.decode(cut, skip_special_tokens=True).strip()


def test_answers_of_different_lengths_end_each_for_itself(folders, runners, tmp_path):
    """The end token becomes one that some answers have early, some late, some never."""
    requests = _requests(1)
    free = runners["llava"].generate(requests, DECODING)
    first_at = {}
    for answer in free:
        for token in set(answer.token_ids):
            first_at.setdefault(token, []).append(answer.token_ids.index(token))
    end, _ = max(first_at.items(), key=lambda each: (len(set(each[1])), max(each[1])))
    folder = shutil.copytree(folders["llava"], tmp_path / "early")
    file = folder / "generation_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "eos_token_id": [end, 1]}))
    answers = _load(folder).generate(requests, DECODING)
    for answer, unended in zip(answers, free):
        if end in unended.token_ids:
            assert answer.token_ids == unended.token_ids[: unended.token_ids.index(end)]
            assert answer.finish == "stop"
        else:
            assert (answer.token_ids, answer.finish) == (unended.token_ids, "length")
    assert len({len(answer.token_ids) for answer in answers}) > 1


def test_the_checkpoints_own_sampling_settings_do_not_leak(folders, runners, tmp_path):
    folder = shutil.copytree(folders["llava"], tmp_path / "sampling")
    file = folder / "generation_config.json"
    own = {"do_sample": True, "temperature": 1.7, "min_new_tokens": 9, "no_repeat_ngram_size": 1}
    file.write_text(json.dumps({**json.loads(file.read_text()), **own}))
    requests = _requests(1)
    assert _load(folder).generate(requests, DECODING) == runners["llava"].generate(
        requests, DECODING
    )


def test_forbidden_tokens_of_the_checkpoint_stay_forbidden_and_are_recorded(
    folders, runners, tmp_path
):
    requests = _requests(1)
    said = runners["llava"].generate(requests, DECODING)[0].token_ids[0]
    folder = shutil.copytree(folders["llava"], tmp_path / "forbidden")
    file = folder / "generation_config.json"
    own = {"suppress_tokens": [said]}
    file.write_text(json.dumps({**json.loads(file.read_text()), **own}))
    runner = _load(folder)
    assert said not in runner.generate(requests, DECODING)[0].token_ids
    assert runner.describe()["forbidden_tokens"] == own


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_sampled_answers_are_the_same_in_any_batch_and_order(runners, name):
    requests, decoding = _requests(1), Decoding(max_new_tokens=8, temperature=1.0, seed=3)
    together = runners[name].generate(requests, decoding)
    assert runners[name].generate(requests[::-1], decoding)[::-1] == together
    assert [runners[name].generate([each], decoding)[0] for each in requests] == together
    other = dataclasses.replace(decoding, seed=4)
    assert runners[name].generate(requests, other) != together


def test_a_repetition_penalty_depends_on_no_padding(runners):
    requests, decoding = _requests(1), Decoding(max_new_tokens=10, repetition_penalty=1.8)
    together = runners["llava"].generate(requests, decoding)
    assert [runners["llava"].generate([each], decoding)[0] for each in requests] == together
    assert together != runners["llava"].generate(requests, DECODING)


def test_a_system_text_and_the_length_of_a_prompt(runners):
    runner = runners["llava"]
    (answer,) = runner.generate([Request("1", "Hi", (), "Be kind.")], DECODING)
    assert answer.rendered_prompt == "<|system|>Be kind.<|user|>Hi<|assistant|>"
    # Every byte is a token, "<image>" is one.
    assert runner.length("Hi", 0, "Be kind.") == answer.prompt_tokens == 41
    assert runner.length("Hi", 2, "Be kind.") == 43


def test_what_does_not_fit_is_refused_by_name(runners):
    long = Request("long-one", "word " * 40)
    with pytest.raises(ValueError, match=r"'long-one'.* context of 256 positions, found 221 \+ 40"):
        runners["llava"].generate([Request("1", "Hi"), long], Decoding(max_new_tokens=40))
    runners["llava"].generate([long], Decoding(max_new_tokens=35))


def test_different_numbers_of_pictures_are_refused(runners):
    with pytest.raises(ValueError, match=r"one number of pictures, found \[0, 1\]"):
        runners["llava"].generate([*_requests(0), *_requests(1)], DECODING)


def test_a_placeholder_in_a_prompt_is_refused(runners):
    with pytest.raises(ValueError, match="found the placeholder '<image>'"):
        runners["llava"].generate([Request("1", "see <image>")], DECODING)


def test_a_template_that_drops_the_system_text_is_refused(folders, tmp_path):
    folder = shutil.copytree(folders["llava"], tmp_path / "silent")
    (folder / "chat_template.jinja").write_text(
        "{% for m in messages %}{% if m['role'] == 'user' %}{{ m['content'][0]['text'] }}"
        "{% endif %}{% endfor %}"
    )
    with pytest.raises(ValueError, match="expected the system text in what it renders"):
        _load(folder).generate([Request("1", "Hi", (), "Be kind.")], DECODING)


def test_a_checkpoint_without_a_template_is_refused(folders, tmp_path):
    folder = shutil.copytree(folders["llava"], tmp_path / "bare")
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(ValueError, match="expected a chat template, found none"):
        _load(folder)


def test_missing_weights_are_refused(folders, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(folders["llava"], tmp_path / "partial")
    weights = load_file(folder / "model.safetensors")
    left = {name: each for name, each in weights.items() if "projector" not in name}
    assert len(left) < len(weights)
    save_file(left, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"found none for .*projector.* would be random"):
        _load(folder)


def test_a_truncated_file_is_refused(folders, tmp_path):
    folder = shutil.copytree(folders["llava"], tmp_path / "truncated")
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[:-100])
    with pytest.raises(ValueError, match="expected an image-text-to-text model that transformers"):
        _load(folder)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(ValueError, match="expected a processor that transformers loads"):
        HuggingFaceRunner(ModelOptions(str(tmp_path)))


@pytest.mark.parametrize(
    "option", [{"base": "x"}, {"conversation": "llava_v1"}, {"image_aspect": "pad"}]
)
def test_options_of_another_runner_are_refused(folders, option):
    with pytest.raises(ValueError, match="expected with the runner llava"):
        _load(folders["llava"], **option)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_weights_have_the_dtype_that_was_asked_for(folders, runners, dtype):
    runner = _load(folders["llava"], dtype=dtype)
    assert {str(each.dtype) for each in runner.model.parameters()} == {f"torch.{dtype}"}
    measured = runner.environment()["weight_bytes_by_dtype"][dtype]
    held = [*runner.model.parameters(), *runner.model.buffers()]
    size = 4 if dtype == "float32" else 2
    assert measured == size * sum(each.numel() for each in held if str(each.dtype)[6:] == dtype)
    for answer in runner.generate(_requests(1), DECODING):
        assert len(answer.token_ids) == 10 or answer.finish == "stop"


def test_the_description_is_json_and_of_the_checkpoint_alone(folders, runners):
    again = _load(folders["llava"])
    assert json.loads(json.dumps(again.describe())) == runners["llava"].describe()
    assert str(folders["llava"].parent) not in json.dumps(again.describe())
    other = _load(folders["llava"], dtype="bfloat16").describe()
    assert {key for key, value in other.items() if again.describe()[key] != value} == {"dtype"}
    json.dumps(again.environment())


def test_an_older_transformers_is_told(monkeypatch):
    monkeypatch.setattr(huggingface, "version", lambda package: "4.37.2")
    with pytest.raises(MissingRequirementError, match="expected transformers 5 or later, found 4"):
        HUGGINGFACE.check(ModelOptions("x"))


def test_a_missing_package_is_told(monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "PIL" else real(name)
    )
    with pytest.raises(MissingRequirementError, match="found no PIL"):
        HUGGINGFACE.check(ModelOptions("x"))


def test_a_gpu_that_is_not_there_is_told(folders, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="--device cuda: expected a GPU"):
        _load(folders["llava"], device="cuda")


def test_an_unknown_dtype_is_told(folders):
    with pytest.raises(ValueError, match="expected float32, float16 or bfloat16, found 'half'"):
        _load(folders["llava"], dtype="half")


def test_importing_it_imports_nothing_heavy():
    code = (
        "import sys, regap_benchmarks.runners.huggingface;"
        "print(sorted({'torch', 'transformers', 'PIL', 'bitsandbytes'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_earlier_turns_stand_before_the_question_and_pictures_in_the_first(runners):
    runner = runners["llava"]
    history = (Turn("Hi", "Hello."), Turn("How?", ""))
    (plain,) = _requests(1)[:1]
    request = dataclasses.replace(plain, history=history, answer_start="Well,")
    (answer,) = runner.generate([request], DECODING)
    assert answer.rendered_prompt == (
        "<|user|><image>Hi<|assistant|>Hello.<|user|>How?<|assistant|>"
        f"<|user|>{plain.prompt}<|assistant|>Well,"
    )
    named = dataclasses.replace(plain, history=(Turn("Hi", "An <image>"),))
    with pytest.raises(ValueError, match="found the placeholder '<image>'"):
        runner.generate([named], DECODING)


def test_going_on_from_an_answers_start_says_what_would_have_followed(runners):
    """The first tokens of an answer, given as its start, are followed by the others."""
    runner = runners["llava"]
    for request in _requests(1):
        (whole,) = runner.generate([request], DECODING)
        said = runner._tokenizer.decode(list(whole.token_ids[:4]))
        if runner._tokenizer(said)["input_ids"] != list(whole.token_ids[:4]):
            continue  # bytes that are no text
        start = dataclasses.replace(request, answer_start=said)
        (rest,) = runner.generate([start], dataclasses.replace(DECODING, max_new_tokens=6))
        assert rest.token_ids == whole.token_ids[4:]
        assert f"{said}{rest.text}".strip() == whole.text
        return
    raise AssertionError("no answer begins with whole letters: choose other prompts")


def test_eta_goes_on_from_its_own_sentences_on_a_real_runner(runners):
    from regap_benchmarks.defences.defence import Defended
    from regap_benchmarks.defences.eta import EtaSettings, eta_kind

    class Rule:
        def describe(self):
            return {"name": "rule"}

        def score(self, first, second):
            return -1.0 if isinstance(second, str) else [1.0] * len(second)

    few = EtaSettings(candidates=2, sentence_tokens=5)
    kind = eta_kind(Rule, Rule, settings=few)
    defended = Defended(runners["llava"], [kind])
    requests = _requests(1)[:2]
    answers = defended.generate(requests, DECODING)
    assert [each.text[:15] for each in answers] == ["As an AI assist"] * 2
    assert all(len(each.token_ids) <= DECODING.max_new_tokens for each in answers)
    assert all(each.cost.calls % 2 == 1 for each in answers)
    backwards = defended.generate(requests[::-1], DECODING)[::-1]
    assert [each.text for each in backwards] == [each.text for each in answers]
