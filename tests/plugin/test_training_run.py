"""One run from `begin` to `finish`: what it adds, what it logs, and where it refuses to go on."""

import json
import math
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional

import pytest

pytest.importorskip("torch", reason="a training run trains tensors: install torch")

import torch
from torch import Tensor, nn

from regap_plugin import __version__
from regap_plugin.config import ReGapConfig
from regap_plugin.embeddings import TokenEmbeddings
from regap_plugin.errors import (
    InactiveRegularizerError,
    NonFiniteGapError,
    ReGapError,
    ResumeError,
)
from regap_plugin.gap_losses import pairwise_l2
from regap_plugin.hookspecs import LossTerm, TrainingStep, hookimpl
from regap_plugin.plugins import Plugins, new_manager
from regap_plugin.training_run import TrainingRun

MakeRun = Callable[..., TrainingRun]


class Watcher:
    """A plugin that writes down what it is called with."""

    def __init__(self) -> None:
        self.steps: List[Any] = []
        self.forwards: List[TrainingStep] = []

    @hookimpl
    def regap_on_step(self, step: int, values: Mapping[str, float]) -> None:
        self.steps.append((step, dict(values)))

    @hookimpl
    def regap_loss_terms(self, step: TrainingStep) -> None:
        self.forwards.append(step)


class Adding:
    """A plugin that adds what it is given."""

    def __init__(self, make_terms: Callable[[TrainingStep], Any]) -> None:
        self._make_terms = make_terms

    @hookimpl
    def regap_loss_terms(self, step: TrainingStep) -> Any:
        return self._make_terms(step)


@pytest.fixture
def make_run(make_upstream: Callable[[], Any]) -> MakeRun:
    """A run over plugins of its own, independent of what is installed."""

    def make(weight: float = 0.5, *plugins: Any, **settings: Any) -> TrainingRun:
        manager = new_manager()
        for plugin in plugins:
            manager.register(plugin)
        return TrainingRun(ReGapConfig(weight, **settings), Plugins(manager), make_upstream())

    return make


def _begin(run: TrainingRun, **arguments: Any) -> TrainingRun:
    run.begin(**{"warmup_steps": 1, "total_steps": 100, **arguments})
    return run


def _projector() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(3, 4)


def _embeddings(projector: nn.Module, seed: int = 0, samples: int = 2) -> TokenEmbeddings:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randn(samples, 5, 3, generator=generator)
    text = torch.randn(samples, 2, 4, generator=generator)
    masks = [torch.ones(samples, tokens, dtype=torch.bool) for tokens in (5, 2)]
    return TokenEmbeddings(projector(pixels), masks[0], text, masks[1])


def _without_text(projector: nn.Module) -> TokenEmbeddings:
    embeddings = _embeddings(projector)
    return TokenEmbeddings(
        embeddings.image,
        embeddings.image_mask,
        embeddings.text,
        torch.zeros_like(embeddings.text_mask),
    )


def _lm_loss(value: float) -> Tensor:
    return torch.tensor(value, requires_grad=True) * 1.0


def _naive_gap(embeddings: TokenEmbeddings) -> Tensor:
    image, text = embeddings.image, embeddings.text
    return (image[:, :, None] - text[:, None]).norm(dim=-1).mean()


# ---- what is added


def test_the_gap_is_measured_first_and_then_added(make_run: MakeRun) -> None:
    run, projector = _begin(make_run(0.5), warmup_steps=2), _projector()
    gaps, lm_losses = [], [3.0, 5.0]
    for number, value in enumerate(lm_losses, 1):
        embeddings, lm_loss = _embeddings(projector, number), _lm_loss(value)
        assert run.add_to_loss(lm_loss, embeddings) is lm_loss, "the very same tensor"
        run.end_step(number)
        gaps.append(_naive_gap(embeddings).item())
    alpha = sum(lm_losses) / sum(gaps)
    assert run.regularizer.alpha == pytest.approx(alpha, rel=1e-6)
    embeddings = _embeddings(projector, 3)
    total = run.add_to_loss(_lm_loss(2.0), embeddings)
    expected = 2.0 + 0.5 * alpha * _naive_gap(embeddings)
    torch.testing.assert_close(total, expected)
    (wanted,) = torch.autograd.grad(expected, projector.weight, retain_graph=True)
    (found,) = torch.autograd.grad(total, projector.weight)
    torch.testing.assert_close(found, wanted)


def test_formulas_see_the_step_so_that_what_they_draw_is_alike_everywhere(
    make_run: MakeRun,
) -> None:
    seen: List[int] = []

    class Drawing:
        @hookimpl
        def regap_register_gap_losses(self, register: Callable[..., None]) -> None:
            register("drawing", self)

        def __call__(self, embeddings: TokenEmbeddings) -> Tensor:
            seen.append(embeddings.step)
            return embeddings.image.square().mean()

    run, projector = _begin(make_run(0.5, Drawing(), loss="drawing")), _projector()
    for number in (1, 2):
        for micro_batch in range(2):
            run.add_to_loss(_lm_loss(1.0), _embeddings(projector, micro_batch))
        run.end_step(number)
    state = run.state_dict()
    run.close()
    resumed = make_run(0.5, Drawing(), loss="drawing")
    _begin(resumed, step=2, state=state)
    resumed.add_to_loss(_lm_loss(1.0), _embeddings(projector))
    assert seen == [0, 0, 1, 1, 2]


def test_a_gap_that_never_had_a_gradient_is_no_regularised_run(make_run: MakeRun) -> None:
    run, projector = _begin(make_run(0.5, loss="info_nce", alpha=1.0)), _projector()
    run.add_to_loss(_lm_loss(1.0), _embeddings(projector, samples=1))
    run.end_step(1)
    with pytest.raises(InactiveRegularizerError, match=r"or no term had a gradient\. Train"):
        run.finish()
    run.add_to_loss(_lm_loss(1.0), _embeddings(projector, samples=2))
    run.end_step(2)
    run.finish()


def test_alpha_is_over_the_micro_batches_with_an_image(make_run: MakeRun) -> None:
    run, projector = _begin(make_run(), warmup_steps=2), _projector()
    pairs = []
    steps: List[List[Optional[float]]] = [[4.0, None, 7.0], [None, None]]
    for number, micro_batches in enumerate(steps, 1):
        for value in micro_batches:
            if value is None:
                run.add_to_loss(_lm_loss(1000.0), None)
                run.add_to_loss(_lm_loss(1000.0), _without_text(projector))
            else:
                embeddings = _embeddings(projector, int(value))
                run.add_to_loss(_lm_loss(value), embeddings)
                pairs.append((value, _naive_gap(embeddings).item()))
        assert run.regularizer.alpha is None
        run.end_step(number)
    assert len(pairs) == 2
    expected = sum(lm for lm, _ in pairs) / sum(gap for _, gap in pairs)
    assert run.regularizer.alpha == pytest.approx(expected, rel=1e-6)


def test_a_fixed_alpha_adds_from_the_first_forward(make_run: MakeRun) -> None:
    run = _begin(make_run(0.25, alpha=4.0), total_steps=1)
    embeddings = _embeddings(_projector())
    total = run.add_to_loss(_lm_loss(2.0), embeddings)
    torch.testing.assert_close(total, 2.0 + _naive_gap(embeddings))


@pytest.mark.parametrize(
    "name", ["pairwise_l2", "pairwise_squared_l2", "centroid_l2", "registered"]
)
def test_the_formula_is_the_one_that_was_named(make_run: MakeRun, name: str) -> None:
    class Formula:
        @hookimpl
        def regap_register_gap_losses(self, register: Callable[..., None]) -> None:
            register("registered", lambda embeddings: embeddings.image.sum())

    run = _begin(make_run(1.0, Formula(), alpha=1.0, loss=name))
    embeddings = _embeddings(_projector())
    image, text = embeddings.image, embeddings.text
    expected = {
        "pairwise_l2": _naive_gap(embeddings),
        "pairwise_squared_l2": (image[:, :, None] - text[:, None]).square().sum(-1).mean(),
        "centroid_l2": (image.mean(1) - text.mean(1)).norm(dim=-1).mean(),
        "registered": image.sum(),
    }[name]
    torch.testing.assert_close(run.add_to_loss(_lm_loss(2.0), embeddings), 2.0 + expected)


@pytest.mark.parametrize("with_image", [False, True])
def test_a_batch_without_a_pair_is_left_as_it_is(make_run: MakeRun, with_image: bool) -> None:
    watcher = Watcher()
    run, lm_loss = _begin(make_run(0.5, watcher, alpha=1.0)), _lm_loss(2.0)
    embeddings = _without_text(_projector()) if with_image else None
    assert run.add_to_loss(lm_loss, embeddings) is lm_loss
    assert watcher.forwards == []


def test_at_weight_zero_nothing_is_added_and_all_is_logged(make_run: MakeRun) -> None:
    watcher = Watcher()
    adding = Adding(lambda step: LossTerm("other", step.embeddings.image.sum(), 1.0))
    run, projector = _begin(make_run(0.0, watcher, adding, alpha=1.0)), _projector()
    embeddings, lm_loss = _embeddings(projector), _lm_loss(2.0)
    assert run.add_to_loss(lm_loss, embeddings) is lm_loss
    (step,) = watcher.forwards
    assert not step.embeddings.image.requires_grad
    run.end_step(1)
    log = run.pop_log()
    assert log["regap/gap"] == pytest.approx(_naive_gap(embeddings).item(), rel=1e-6)
    assert log["regap/other"] == pytest.approx(embeddings.image.sum().item(), rel=1e-6)
    assert log["regap/weighted"] == 0.0


def test_weight_zero_measures_where_no_parameter_could_be_trained(make_run: MakeRun) -> None:
    run, projector = _begin(make_run(0.0)), _projector().requires_grad_(False)
    run.add_to_loss(_lm_loss(2.0), _embeddings(projector))
    run.end_step(1)
    assert run.pop_log()["regap/gap"] > 0


def test_without_gradients_nothing_is_added(make_run: MakeRun) -> None:
    run, lm_loss = _begin(make_run(alpha=1.0)), torch.tensor(2.0)
    with torch.no_grad():
        assert run.add_to_loss(lm_loss, _embeddings(_projector())) is lm_loss


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_the_loss_keeps_its_dtype(make_run: MakeRun, dtype: torch.dtype) -> None:
    run = _begin(make_run(alpha=1.0))
    embeddings = _embeddings(_projector())
    total = run.add_to_loss(torch.tensor(2.0, dtype=dtype), embeddings)
    assert total.dtype is dtype
    assert total.shape == ()
    expected = 2.0 + 0.5 * _naive_gap(embeddings).to(dtype)
    torch.testing.assert_close(total, expected, rtol=1e-2, atol=0.0)


def test_autocast_changes_no_bit_of_the_term(make_run: MakeRun) -> None:
    inside: List[bool] = []

    def look(step: TrainingStep) -> None:
        product = step.embeddings.image[0] @ step.embeddings.text[0].T
        inside.append(product.dtype is torch.float32)

    embeddings = _embeddings(_projector())
    expected = _begin(make_run(alpha=1.0)).add_to_loss(_lm_loss(2.0), embeddings)
    run = _begin(make_run(0.5, Adding(look), alpha=1.0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (embeddings.image[0] @ embeddings.text[0].T).dtype is torch.bfloat16
        total = run.add_to_loss(_lm_loss(2.0), embeddings)
    assert torch.equal(total, expected)
    assert inside == [True], "plugins are called without autocast"


@pytest.mark.parametrize("detach_text", [True, False])
def test_the_gradient_reaches_the_text_only_where_asked(
    make_run: MakeRun, detach_text: bool
) -> None:
    run = _begin(make_run(alpha=1.0, detach_text=detach_text))
    torch.manual_seed(0)
    states = torch.randn(1, 6, 4, requires_grad=True)
    image_mask = torch.tensor([[True, True, False, False, False, False]])
    run.add_to_loss(
        _lm_loss(2.0), TokenEmbeddings.from_sequence(states, image_mask, ~image_mask)
    ).backward()
    assert states.grad is not None
    reached = (states.grad.abs().sum(2) > 0)[0].tolist()
    assert reached == [True, True] + [not detach_text] * 4


# ---- the terms of other plugins


def test_each_plugins_terms_are_added_with_their_weights(make_run: MakeRun) -> None:
    one = Adding(lambda step: LossTerm("one", step.embeddings.image.sum(), 0.5))
    several = Adding(
        lambda step: [
            LossTerm("two", step.embeddings.image.square().sum(), 0.25),
            LossTerm("three", step.embeddings.image.sum(), 0.0),
        ]
    )
    none = Adding(lambda step: None)
    run = _begin(make_run(0.5, one, several, none, alpha=2.0))
    embeddings = _embeddings(_projector())
    image = embeddings.image
    total = run.add_to_loss(_lm_loss(2.0), embeddings)
    added = _naive_gap(embeddings) + 0.5 * image.sum() + 0.25 * image.square().sum()
    torch.testing.assert_close(total, 2.0 + added)
    run.end_step(1)
    log = run.pop_log()
    assert log["regap/weighted"] == pytest.approx(added.item(), rel=1e-6)
    assert log["regap/two"] == pytest.approx(image.square().sum().item(), rel=1e-6)
    assert log["regap/three"] == pytest.approx(image.sum().item(), rel=1e-6)


def test_another_plugins_term_is_added_during_the_calibration_too(make_run: MakeRun) -> None:
    run = _begin(make_run(0.5, Adding(lambda step: LossTerm("one", torch.tensor(3.0), 2.0))))
    total = run.add_to_loss(_lm_loss(2.0), _embeddings(_projector()))
    assert total.item() == 8.0


def test_a_step_is_told_what_is_known(make_run: MakeRun) -> None:
    watcher = Watcher()
    run, projector = _begin(make_run(0.5, watcher), total_steps=20), _projector()
    for number in (1, 2):
        for _ in range(2):
            run.add_to_loss(_lm_loss(float(number)), _embeddings(projector))
        run.end_step(number)
    assert [step.number for step in watcher.forwards] == [0, 0, 1, 1]
    assert [step.lm_loss.item() for step in watcher.forwards] == [1.0, 1.0, 2.0, 2.0]
    assert not any(step.lm_loss.requires_grad for step in watcher.forwards)
    assert all(step.embeddings.image.requires_grad for step in watcher.forwards)
    assert all(step.config is run.config for step in watcher.forwards)


@pytest.mark.parametrize(
    ("make_terms", "name", "found"),
    [
        (lambda step: LossTerm("gap", torch.tensor(1.0), 1.0), "gap", "twice"),
        (lambda step: [LossTerm("a", torch.tensor(1.0), 1.0)] * 2, "a", "twice"),
        (lambda step: LossTerm("alpha", torch.tensor(1.0), 1.0), "alpha", "reserved"),
        (lambda step: LossTerm("lm_loss", torch.tensor(1.0), 1.0), "lm_loss", "reserved"),
        (lambda step: LossTerm("weighted", torch.tensor(1.0), 1.0), "weighted", "reserved"),
        # A scalar of such a name would take its place in the log and in alpha.
        (lambda step: LossTerm("a", torch.tensor(1.0), 1.0, {"gap": torch.ones(())}), "gap", "tw"),
        (lambda step: LossTerm("a", torch.tensor(1.0), 1.0, {"a": torch.ones(())}), "a", "twice"),
        (
            lambda step: LossTerm("a", torch.tensor(1.0), 1.0, {"lm_loss": torch.ones(())}),
            "lm_loss",
            "reserved",
        ),
    ],
)
def test_names_must_be_ones_own(
    make_run: MakeRun, make_terms: Callable[[TrainingStep], Any], name: str, found: str
) -> None:
    run = _begin(make_run(0.5, Adding(make_terms)))
    with pytest.raises(
        ReGapError, match=rf"{name!r}: expected a name of its own, found it {found}"
    ):
        run.add_to_loss(_lm_loss(2.0), _embeddings(_projector()))


def test_no_term_at_all_is_an_error(make_run: MakeRun) -> None:
    run = _begin(make_run())
    run.close()
    with pytest.raises(InactiveRegularizerError, match="expected a term from at least one plugin"):
        run.add_to_loss(_lm_loss(2.0), _embeddings(_projector()))


# ---- where it refuses to go on


def test_a_forward_before_the_beginning_is_an_error(make_run: MakeRun) -> None:
    run = make_run()
    with pytest.raises(
        InactiveRegularizerError,
        match="fakeupstream: expected its own trainer to drive the steps, found a training forward",
    ):
        run.add_to_loss(_lm_loss(2.0), _embeddings(_projector()))


def test_a_forward_after_the_end_is_an_error(make_run: MakeRun) -> None:
    run = _begin(make_run())
    for number in (1, 2):
        run.add_to_loss(_lm_loss(2.0), _embeddings(_projector()))
        run.end_step(number)
    run.finish()
    with pytest.raises(InactiveRegularizerError, match="found a training forward before that"):
        run.add_to_loss(_lm_loss(2.0), None)


def test_a_step_without_a_forward_is_an_error(make_run: MakeRun) -> None:
    run = _begin(make_run())
    run.add_to_loss(_lm_loss(2.0), _embeddings(_projector()))
    run.end_step(1)
    with pytest.raises(
        InactiveRegularizerError,
        match=r"expected training forwards through the patched class, found none in optimizer step "
        r"2: the gap loss is not in the training\..*`regap doctor`",
    ):
        run.end_step(2)


@pytest.mark.parametrize("check", ["check_before_save", "finish"])
def test_a_run_that_saw_no_image_is_not_saved(make_run: MakeRun, check: str) -> None:
    run, projector = _begin(make_run()), _projector()
    for number in (1, 2):
        run.add_to_loss(_lm_loss(2.0), None)
        run.add_to_loss(_lm_loss(2.0), _without_text(projector))
        run.end_step(number)
    with pytest.raises(
        InactiveRegularizerError,
        match="expected samples with an image and a caption, found none in 2 optimizer steps",
    ):
        getattr(run, check)()
    for number in (3, 4):
        run.add_to_loss(_lm_loss(2.0), _embeddings(projector))
        run.end_step(number)
    getattr(run, check)()


def test_a_run_that_ends_before_anything_was_added_is_an_error(make_run: MakeRun) -> None:
    run = _begin(make_run())
    run.add_to_loss(_lm_loss(2.0), _embeddings(_projector()))
    run.end_step(1)
    run.check_before_save()  # in the middle of the calibration a checkpoint is fine
    with pytest.raises(
        InactiveRegularizerError,
        match="expected the gap in the loss of some step, found it added in none of 1",
    ):
        run.finish()


def test_a_measured_run_may_end_without_an_addition(make_run: MakeRun) -> None:
    run = _begin(make_run(0.0))
    run.add_to_loss(_lm_loss(2.0), _embeddings(_projector()))
    run.end_step(1)
    run.finish()


def test_going_on_without_a_state_is_refused(make_run: MakeRun) -> None:
    with pytest.raises(ResumeError, match="expected the ReGap state of step 7, found none"):
        _begin(make_run(), step=7)


def test_an_image_side_without_a_gradient_is_an_error(make_run: MakeRun) -> None:
    run = _begin(make_run())
    with pytest.raises(
        InactiveRegularizerError,
        match=r"Image embeddings at layer 0: expected a gradient to some trained parameter, found",
    ):
        run.add_to_loss(_lm_loss(2.0), _embeddings(_projector().requires_grad_(False)))


def test_a_gradient_to_the_detached_text_is_none(make_run: MakeRun) -> None:
    text = torch.randn(1, 2, 4, requires_grad=True)
    mask = torch.ones(1, 2, dtype=torch.bool)
    embeddings = TokenEmbeddings(torch.randn(1, 2, 4), mask, text, mask)
    with pytest.raises(InactiveRegularizerError, match="expected a gradient to some trained"):
        _begin(make_run()).add_to_loss(_lm_loss(2.0), embeddings)
    run = _begin(make_run(alpha=1.0, detach_text=False))
    assert run.add_to_loss(_lm_loss(2.0), embeddings).requires_grad


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_a_gap_that_is_not_finite_stops_the_run(
    make_run: MakeRun, bad: float, weight: float
) -> None:
    run, projector = _begin(make_run(weight)), _projector()
    run.add_to_loss(_lm_loss(2.0), _embeddings(projector))
    run.end_step(1)
    with torch.no_grad():
        projector.bias.fill_(bad)
    run.add_to_loss(_lm_loss(2.0), _embeddings(projector))
    with pytest.raises(
        NonFiniteGapError,
        match=rf"regap/gap: expected a finite number, found {bad} in optimizer step 2 "
        r"\(L_LM 2\.0\)\. Lower the learning rate",
    ):
        run.end_step(2)


@pytest.mark.parametrize("name", ["other", "extra"])
def test_another_term_or_scalar_that_is_not_finite_stops_the_run(
    make_run: MakeRun, name: str
) -> None:
    values = {"other": torch.tensor(1.0), "extra": torch.tensor(1.0)}
    values[name] = torch.tensor(math.inf)
    adding = Adding(
        lambda step: LossTerm("other", values["other"], 0.0, {"extra": values["extra"]})
    )
    run = _begin(make_run(0.5, adding))
    run.add_to_loss(_lm_loss(2.0), _embeddings(_projector()))
    with pytest.raises(NonFiniteGapError, match=rf"regap/{name}: expected a finite number"):
        run.end_step(1)


def test_a_term_that_overflows_in_the_dtype_of_the_loss_stops_the_run(make_run: MakeRun) -> None:
    run = _begin(make_run(1e6, alpha=1.0))
    loss = torch.tensor(2.0, dtype=torch.float16)
    assert run.add_to_loss(loss, _embeddings(_projector())).isinf()
    with pytest.raises(NonFiniteGapError, match="regap/weighted: expected a finite number"):
        run.end_step(1)


def test_a_loss_of_upstream_that_is_not_finite_is_upstreams_affair(make_run: MakeRun) -> None:
    run, projector = _begin(make_run(), warmup_steps=1), _projector()
    run.add_to_loss(_lm_loss(math.nan), _embeddings(projector))
    run.end_step(1)
    assert run.regularizer.alpha is None, "nothing was measured yet"
    embeddings = _embeddings(projector)
    run.add_to_loss(_lm_loss(3.0), embeddings)
    run.end_step(2)
    assert run.regularizer.alpha == pytest.approx(3.0 / _naive_gap(embeddings).item(), rel=1e-6)


def test_a_calibration_as_long_as_the_run_is_an_error(make_run: MakeRun) -> None:
    with pytest.raises(InactiveRegularizerError, match="found 10 of 10 optimizer steps"):
        make_run().begin(warmup_steps=10, total_steps=10)


def test_an_unknown_formula_names_the_nearest(make_run: MakeRun) -> None:
    with pytest.raises(ValueError, match=r"found 'pairwise_l1'\. Did you mean 'pairwise_l2'\?"):
        make_run(loss="pairwise_l1")


def test_a_second_run_beside_the_first_is_refused(make_upstream: Callable[[], Any]) -> None:
    plugins = Plugins(new_manager())
    first = TrainingRun(ReGapConfig(0.5), plugins, make_upstream())
    with pytest.raises(ValueError, match="regap-built-in-term"):
        TrainingRun(ReGapConfig(0.5), plugins, make_upstream())
    first.close()
    first.close()
    TrainingRun(ReGapConfig(0.5), plugins, make_upstream()).close()


# ---- the log


def test_the_log_has_the_means_since_the_last_one(make_run: MakeRun) -> None:
    watcher = Watcher()
    run, projector = _begin(make_run(0.5, watcher), warmup_steps=2), _projector()
    gaps: Dict[int, List[float]] = {}
    for number in (1, 2, 3):
        for micro_batch in range(2):
            embeddings = _embeddings(projector, 10 * number + micro_batch)
            gaps.setdefault(number, []).append(_naive_gap(embeddings).item())
            run.add_to_loss(_lm_loss(float(number + micro_batch)), embeddings)
        run.add_to_loss(_lm_loss(1000.0), None)
        run.end_step(number)
        if number == 2:
            log = run.pop_log()
    assert log["regap/gap"] == pytest.approx(sum(gaps[1] + gaps[2]) / 4, rel=1e-6)
    assert log["regap/lm_loss"] == (1.0 + 2.0 + 2.0 + 3.0) / 4
    assert log["regap/weighted"] == 0.0
    assert log["regap/alpha"] == run.regularizer.alpha
    assert set(log) == {
        *("regap/lm_loss", "regap/weighted", "regap/gap", "regap/alpha"),
        *("regap/image_norm", "regap/text_norm", "regap/image_spread", "regap/centroid"),
    }
    log = run.pop_log()
    assert log["regap/gap"] == pytest.approx(sum(gaps[3]) / 2, rel=1e-6)
    added = 0.5 * run.regularizer.alpha * log["regap/gap"]
    assert log["regap/weighted"] == pytest.approx(added, rel=1e-6)
    assert run.pop_log() == {}
    assert [number for number, _ in watcher.steps] == [1, 2, 3]
    first, last = watcher.steps[0][1], watcher.steps[2][1]
    assert "regap/alpha" not in first, "not before it is frozen"
    assert first["regap/gap"] == pytest.approx(sum(gaps[1]) / 2, rel=1e-6)
    assert last == log


def test_a_step_without_an_image_has_no_values(make_run: MakeRun) -> None:
    watcher = Watcher()
    run = _begin(make_run(0.5, watcher, alpha=1.0))
    run.add_to_loss(_lm_loss(2.0), None)
    run.end_step(1)
    assert watcher.steps == [(1, {})]
    assert run.pop_log() == {}


def test_a_scalar_that_is_there_at_times_is_averaged_over_those_times(make_run: MakeRun) -> None:
    def make_terms(step: TrainingStep) -> LossTerm:
        scalars = {"extra": torch.tensor(4.0)} if step.lm_loss.item() == 2.0 else {}
        return LossTerm("other", torch.tensor(1.0), 0.0, scalars)

    run, projector = _begin(make_run(0.5, Adding(make_terms))), _projector()
    for value in (2.0, 3.0):
        run.add_to_loss(_lm_loss(value), _embeddings(projector))
    run.end_step(1)
    assert run.pop_log()["regap/extra"] == 4.0


# ---- saved and resumed


def _train(run: TrainingRun, first: int, last: int) -> Iterator[float]:
    projector = _projector()
    for number in range(first, last + 1):
        yield run.add_to_loss(_lm_loss(0.1 * number), _embeddings(projector, number)).item()
        run.end_step(number)


@pytest.mark.parametrize("saved_after", [1, 2, 3, 4])
def test_a_resumed_run_goes_on_as_if_uninterrupted(make_run: MakeRun, saved_after: int) -> None:
    whole = _begin(make_run(), warmup_steps=3)
    losses = list(_train(whole, 1, 6))
    first = _begin(make_run(), warmup_steps=3)
    list(_train(first, 1, saved_after))
    state = json.loads(json.dumps(first.state_dict()))
    second = _begin(make_run(), warmup_steps=3, step=saved_after, state=state)
    assert list(_train(second, saved_after + 1, 6)) == losses[saved_after:]
    assert second.regularizer.alpha is not None
    assert second.state_dict() == whole.state_dict()


def test_a_resumed_run_has_seen_the_images_before(make_run: MakeRun) -> None:
    first = _begin(make_run())
    list(_train(first, 1, 2))
    second = _begin(make_run(), step=2, state=first.state_dict())
    second.add_to_loss(_lm_loss(1.0), None)
    second.end_step(3)
    second.check_before_save()


def test_the_state_says_what_was_active(make_run: MakeRun) -> None:
    run = _begin(make_run(0.25, loss="centroid_l2", warmup_steps=2), total_steps=9)
    list(_train(run, 1, 3))
    state = run.state_dict()
    assert json.loads(json.dumps(state, allow_nan=False)) == state
    assert state["schema"] == 1
    assert state["regap_plugin"] == __version__
    assert state["config"] == run.config.to_dict()
    assert state["upstream"]["name"] == "fakeupstream"
    assert list(state["upstream"]["versions"]) == ["pluggy"]
    assert (state["step"], state["total_steps"], state["micro_batches_with_image"]) == (3, 9, 3)
    assert state["alpha"] == run.regularizer.alpha
    assert state["calibration"]["steps"] == 2
    assert state["calibration"]["micro_batches"] == 2


def test_other_settings_than_the_saved_ones_are_refused(make_run: MakeRun) -> None:
    state = _begin(make_run(0.5)).state_dict()
    with pytest.raises(
        ResumeError,
        match=r"expected the settings of the checkpoint, found others for weight \(0\.5 then, 1\.0 "
        r"now\), loss \('pairwise_l2' then, 'centroid_l2' now\)\. Pass the same flags",
    ):
        _begin(make_run(1.0, loss="centroid_l2"), state=state)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, r"others for weight \(None then, 0\.5 now\), loss"),
        ([], r"others for weight"),
        ({**ReGapConfig(0.5).to_dict(), "later": 1}, r"others for later \(1 then, None now\)"),
        (
            {k: v for k, v in ReGapConfig(0.5).to_dict().items() if k != "alpha"},
            r"others for alpha \(None then, None now\)",
        ),
    ],
)
def test_settings_of_another_shape_are_refused(
    make_run: MakeRun, config: Any, message: str
) -> None:
    state = {**_begin(make_run(0.5)).state_dict(), "config": config}
    with pytest.raises(ResumeError, match=message):
        _begin(make_run(0.5), state=state)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"micro_batches_with_image": "many"}, "whole numbers under micro_batches_with_image"),
        ({"micro_batches_with_image": None}, "whole numbers under micro_batches_with_image"),
        ({"calibration": None}, "expected alpha and calibration"),
        ({"alpha": -1.0}, "expected alpha and calibration"),
    ],
)
def test_a_damaged_state_is_refused(
    make_run: MakeRun, changes: Dict[str, Any], message: str
) -> None:
    state = {**_begin(make_run()).state_dict(), **changes}
    with pytest.raises(ResumeError, match=message):
        _begin(make_run(), state=state)


@pytest.mark.parametrize("missing", ["config", "micro_batches_with_image", "alpha", "calibration"])
def test_a_state_with_a_missing_part_is_refused(make_run: MakeRun, missing: str) -> None:
    state = _begin(make_run()).state_dict()
    del state[missing]
    with pytest.raises(ResumeError, match="expected"):
        _begin(make_run(), state=state)


# ---- the banner


def test_the_banner_says_what_is_active_with_all_values(make_run: MakeRun) -> None:
    run = _begin(make_run(0.25, loss="centroid_l2", text_tokens="all"), warmup_steps=3)
    text = run.banner()
    assert text.startswith(f"ReGap {__version__} is active on fakeupstream (pluggy ")
    assert "): the gap is added to the loss.\n" in text
    assert "  weight (lambda)  0.25\n" in text
    assert "  loss             centroid_l2\n" in text
    assert "  alpha            calibrated over 3 of 100 optimizer steps, then frozen\n" in text
    assert "  text tokens      all, detached\n" in text
    assert "  layer            0\n" in text
    assert text.endswith("  plugins          none beside the built-in term")


def test_the_banner_says_where_alpha_comes_from(make_run: MakeRun) -> None:
    assert "alpha            2.5, fixed" in _begin(make_run(alpha=2.5)).banner()
    unknown = _begin(make_run(), total_steps=None).banner()
    assert "calibrated over 1 of an unknown number of optimizer steps" in unknown
    first = _begin(make_run())
    list(_train(first, 1, 1))
    resumed = _begin(make_run(), step=1, state=first.state_dict())
    assert f"{first.regularizer.alpha:g}, frozen before this start" in resumed.banner()


def test_the_banner_names_the_plugins_and_a_mere_measurement(
    make_upstream: Callable[[], Any],
) -> None:
    manager = new_manager()
    manager.register(Watcher(), "my-plugin")
    run = TrainingRun(ReGapConfig(0.0, detach_text=False), Plugins(manager), make_upstream())
    text = _begin(run).banner()
    assert "the gap is measured, not added." in text
    assert "labels, with gradient" in text
    assert text.endswith("  plugins          my-plugin")


def test_the_reference_of_this_file_is_the_formula() -> None:
    embeddings = _embeddings(_projector())
    torch.testing.assert_close(_naive_gap(embeddings), pairwise_l2(embeddings))
