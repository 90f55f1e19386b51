"""The way from pixels to a target's loss: gradients and losses held to the model as it is asked."""

import dataclasses
import functools
import importlib.util

import pytest

from regap_benchmarks.runners.fake import FakeRunner
from regap_benchmarks.runners.runner import ModelOptions, Request

torch = pytest.importorskip("torch", reason="pip install torch")
transformers = pytest.importorskip("transformers", reason="pip install transformers")
Image = pytest.importorskip("PIL.Image", reason="pip install pillow")
if importlib.util.find_spec("numpy") is None:
    pytest.skip("needs numpy", allow_module_level=True)

from regap_benchmarks.attacks.pgd import PgdSettings, attack_picture
from regap_benchmarks.attacks.target_loss import as_picture, normalised, target_ids

IS_FIVE = int(transformers.__version__.split(".")[0]) >= 5
HAS_LLAVA = importlib.util.find_spec("llava") is not None
TARGET = "Sure, here is"
pytestmark = pytest.mark.filterwarnings("ignore")


def _kinds():
    return [
        pytest.param("huggingface", marks=pytest.mark.skipif(not IS_FIVE, reason="transformers 5")),
        pytest.param("llava", marks=pytest.mark.skipif(not HAS_LLAVA, reason="the real LLaVA")),
    ]


@pytest.fixture(scope="module", params=_kinds())
def runner(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    if request.param == "huggingface":
        from tiny_models.image_text import write_llava

        from regap_benchmarks.runners.huggingface import HuggingFaceRunner

        return HuggingFaceRunner(ModelOptions(str(write_llava(folder)), dtype="float32"))
    from tiny_models.llava import write_checkpoints

    from regap_benchmarks.runners.llava import LlavaRunner

    return LlavaRunner(ModelOptions(str(write_checkpoints(folder).full), dtype="float32"))


def _request(side=(23, 17)):
    generator = torch.Generator().manual_seed(5)
    letters = torch.randint(256, (3 * side[0] * side[1],), generator=generator)
    picture = Image.frombytes("RGB", side, bytes(letters.tolist()))
    return Request("t/1", "What is in the picture?", (picture,))


@pytest.fixture
def in_float64(runner, monkeypatch):
    """All of it: LLaMA's norm and 4.37's logits go through float32, which makes noise of them."""
    norms = [each for each in runner.model.modules() if type(each).__name__ == "LlamaRMSNorm"]
    assert norms
    for norm in norms:
        monkeypatch.setattr(norm, "forward", functools.partial(_norm_in_float64, norm))
    monkeypatch.setattr(torch.Tensor, "float", _kept_float64)
    runner.model.double()
    yield runner
    runner.model.to(torch.float32)


def _kept_float64(tensor):
    return tensor if tensor.dtype == torch.float64 else tensor.to(torch.float32)


def _norm_in_float64(norm, states):
    size = states.pow(2).mean(-1, keepdim=True)
    return norm.weight * states * torch.rsqrt(size + norm.variance_epsilon)


def test_the_start_is_the_picture_at_the_models_size_in_whole_levels(runner):
    start = runner.target_loss(_request(), TARGET).start
    assert tuple(start.shape) == (3, 16, 16)
    assert torch.equal((start * 255).round() / 255, start)
    again = runner.target_loss(dataclasses.replace(_request(), images=(as_picture(start),)), TARGET)
    assert torch.equal(again.start, start)


def test_the_loss_is_that_of_the_target_behind_the_prompt(runner):
    """Held to the runner's own generation: greedy decoding takes the most likely tokens, so the
    tokens that it says have the smallest loss of all first tokens."""
    request = _request()
    start = runner.target_loss(request, TARGET).start
    request = dataclasses.replace(request, images=(as_picture(start),))
    steps = []
    head = runner.model.get_output_embeddings()
    handle = head.register_forward_hook(lambda *found: steps.append(found[2][:, -1].clone()))
    from regap_benchmarks.decoding import Decoding

    runner.generate([request], Decoding(max_new_tokens=1))
    handle.remove()
    spoken = torch.log_softmax(steps[0][0].float(), dim=-1)
    losses = {}
    for target in ("S", "w", "t"):
        made = runner.target_loss(request, target)
        if made.target_tokens == 1:
            tokenizer = getattr(runner, "tokenizer", None) or runner._tokenizer
            forced = runner.render(dataclasses.replace(request, answer_start=target), 1)
            (token,) = tokenizer(forced, add_special_tokens=False)["input_ids"][-1:]
            losses[target] = (float(made.loss(start)), -float(spoken[token]))
    assert losses
    for found, expected in losses.values():
        assert found == pytest.approx(expected, abs=2e-4)


def test_the_gradient_is_that_of_finite_differences(in_float64):
    target = in_float64.target_loss(_request(), TARGET)
    generator = torch.Generator().manual_seed(1)
    start = target.start.double() * 0.8 + 0.1
    directions = torch.randn(6, *start.shape, generator=generator, dtype=torch.float64)

    def along(steps):
        return target.loss(start + torch.tensordot(steps, directions, dims=1))

    zero = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(along, (zero,), eps=1e-6, atol=1e-6, rtol=1e-4)
    (gradient,) = torch.autograd.grad(along(zero), zero)
    assert float(gradient.abs().min()) > 1e-4  # a gradient of nothing would pass, too


def test_single_pixels_have_the_gradient_of_their_own(in_float64):
    target = in_float64.target_loss(_request(), TARGET)
    leaf = target.start.double().requires_grad_(True)
    (gradient,) = torch.autograd.grad(target.loss(leaf), leaf)
    assert gradient.shape == leaf.shape
    for place in ((0, 3, 4), (1, 8, 15), (2, 0, 0)):
        step = torch.zeros_like(leaf)
        step[place] = 1e-5
        with torch.no_grad():
            slope = (target.loss(leaf + step) - target.loss(leaf - step)) / 2e-5
        assert float(gradient[place]) == pytest.approx(float(slope), rel=1e-4, abs=1e-8)


def test_the_models_weights_get_no_gradient_and_its_answers_do_not_change(runner):
    from regap_benchmarks.decoding import Decoding

    request = _request()
    before = runner.generate([request], Decoding(max_new_tokens=5))
    target = runner.target_loss(request, TARGET)
    target.loss(target.start.requires_grad_(True)).backward()
    assert all(each.grad is None for each in runner.model.parameters())
    assert runner.generate([request], Decoding(max_new_tokens=5)) == before


def test_earlier_turns_and_system_text_are_in_the_prompt(runner):
    start = runner.target_loss(_request(), TARGET)
    other = runner.target_loss(dataclasses.replace(_request(), system="Be brief."), TARGET)
    assert float(start.loss(start.start)) != float(other.loss(start.start))


@pytest.mark.parametrize("target", ["", "  "])
def test_a_target_of_nothing_is_refused(runner, target):
    with pytest.raises(
        ValueError, match=r"--target '.*': expected a text that begins with a token"
    ):
        runner.target_loss(_request(), target)


def test_a_target_that_changes_the_prompts_tokens_is_refused():
    assert target_ids([1, 2, 3, 4], [1, 2], "x") == [3, 4]
    with pytest.raises(ValueError, match="found 3 tokens before and 4 with it"):
        target_ids([1, 2, 5, 4], [1, 2, 3], "x")


def test_a_processor_that_does_something_else_is_refused(runner, monkeypatch):
    """A normalisation of other numbers than it names would be an attack on other pixels."""
    processor = getattr(runner, "image_processor", None) or runner._processor.image_processor
    made = normalised(torch.rand(3, 16, 16), processor, torch.float32, "cpu")
    assert tuple(made.shape) == (1, 3, 16, 16)
    from regap_benchmarks.attacks import target_loss

    monkeypatch.setattr(target_loss, "normalised", lambda *given: made + 1)
    with pytest.raises(ValueError, match="expected preprocessing that is a resize or crop"):
        runner.target_loss(_request(), TARGET)


@pytest.mark.skipif(not IS_FIVE, reason="transformers 5")
def test_tiles_are_refused(tmp_path):
    from tiny_models.image_text import write_idefics3

    from regap_benchmarks.runners.huggingface import HuggingFaceRunner

    tiled = HuggingFaceRunner(ModelOptions(str(write_idefics3(tmp_path)), dtype="float32"))
    with pytest.raises(ValueError, match=r"The attack\s+knows no tiles"):
        tiled.target_loss(_request(), TARGET)


def test_a_runner_without_such_a_way_says_so():
    with pytest.raises(ValueError, match=r"found FakeRunner\. Use llava or huggingface"):
        FakeRunner("comply").target_loss(_request(), TARGET)


def test_an_attack_lowers_the_loss_and_its_file_is_what_the_model_sees(runner):
    """The saved picture, asked like any other, has the loss that is recorded."""
    target = runner.target_loss(_request(), TARGET)
    found = attack_picture(target, PgdSettings(epsilon=16, step_size=2, steps=20), 0)
    assert found.loss_saved < found.loss_before - 0.05
    saved = dataclasses.replace(_request(), images=(as_picture(found.pixels),))
    again = runner.target_loss(saved, TARGET)
    assert torch.equal((again.start * 255).round(), (found.pixels * 255).round())
    assert float(again.loss(again.start)) == pytest.approx(found.loss_saved, abs=1e-5)
    assert found.loss_before == pytest.approx(float(target.loss(target.start)), abs=1e-5)
