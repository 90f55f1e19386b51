"""alpha: measured over the warm-up, frozen, saved, restored; refused where it makes no sense."""

import json
import math
from typing import Any, Dict, List, Optional

import pytest

pytest.importorskip("torch", reason="the gap is a tensor: install torch")

import torch
from hypothesis import given
from hypothesis import strategies as st

from regap_plugin.collapse import collapse_statistics
from regap_plugin.config import ReGapConfig
from regap_plugin.embeddings import TokenEmbeddings
from regap_plugin.errors import InactiveRegularizerError, NonFiniteGapError, ResumeError
from regap_plugin.gap_losses import pairwise_l2
from regap_plugin.hookspecs import TrainingStep
from regap_plugin.regularizer import GapRegularizer

Record = Dict[str, float]


def _regularizer(weight: float = 0.5, **settings: Any) -> GapRegularizer:
    return GapRegularizer(ReGapConfig(weight, **settings), pairwise_l2)


def _begun(steps: int = 2, weight: float = 0.5) -> GapRegularizer:
    regularizer = _regularizer(weight, warmup_steps=steps)
    regularizer.begin(warmup_steps=0, total_steps=1000)
    return regularizer


def _record(lm_loss: float, gap: float) -> Record:
    return {"lm_loss": lm_loss, "gap": gap}


# ---- how long


@pytest.mark.parametrize(
    ("own", "wanted", "expected"),
    [
        (0, None, 1),  # at least one step, also without a warm-up
        (1, None, 1),
        (65, None, 65),  # the run's own warm-up
        (100, None, 100),
        (5000, None, 100),  # MiniGPT-4's, capped
        (5000, 300, 300),  # the flag moves the cap
        (65, 3, 3),
    ],
)
def test_the_calibration_is_as_long_as_the_warm_up(
    own: int, wanted: Optional[int], expected: int
) -> None:
    regularizer = _regularizer(warmup_steps=wanted)
    regularizer.begin(warmup_steps=own, total_steps=20_000)
    assert regularizer.calibration_steps == expected


@pytest.mark.parametrize(
    ("settings", "own", "total"),
    [({}, 10, 10), ({}, 200, 100), ({}, 0, 1), ({"warmup_steps": 50}, 1, 20)],
)
def test_a_calibration_as_long_as_the_run_is_refused(
    settings: Dict[str, Any], own: int, total: int
) -> None:
    with pytest.raises(
        InactiveRegularizerError,
        match=rf"alpha: expected a calibration shorter than the run, found \d+ of {total} "
        r"optimizer steps: the gap would never be added\..*--regap_warmup_steps",
    ):
        _regularizer(**settings).begin(warmup_steps=own, total_steps=total)


@pytest.mark.parametrize(
    ("weight", "settings", "total"),
    [
        (0.5, {}, 11),
        (0.5, {}, None),  # not known before: nothing to compare with
        (0.0, {}, 5),  # nothing is added in any case
        (0.5, {"alpha": 2.0}, 1),  # nothing is calibrated
    ],
)
def test_a_calibration_that_ends_in_time_is_taken(
    weight: float, settings: Dict[str, Any], total: Optional[int]
) -> None:
    _regularizer(weight, **settings).begin(warmup_steps=10, total_steps=total)


# ---- alpha


@given(
    st.lists(
        st.lists(st.tuples(st.floats(0.01, 100.0), st.floats(0.01, 100.0)), max_size=4),
        min_size=1,
        max_size=6,
    ),
    st.integers(1, 6),
)
def test_alpha_is_mean_over_mean_of_the_calibrations_micro_batches(
    steps: List[List[Any]], calibration: int
) -> None:
    regularizer = _begun(calibration)
    for number, micro_batches in enumerate(steps, 1):
        regularizer.observe(number, [_record(lm, gap) for lm, gap in micro_batches])
    in_time = [pair for micro_batches in steps[:calibration] for pair in micro_batches]
    if not in_time:  # it goes on until the first step that has an image
        late = [micro_batches for micro_batches in steps[calibration:] if micro_batches]
        in_time = late[0] if late else []
    if not in_time or len(steps) < calibration:
        assert regularizer.alpha is None
        return
    lm_mean = math.fsum(lm for lm, _ in in_time) / len(in_time)
    gap_mean = math.fsum(gap for _, gap in in_time) / len(in_time)
    assert regularizer.alpha == pytest.approx(lm_mean / gap_mean, rel=1e-12)


def test_alpha_is_frozen_for_good() -> None:
    regularizer = _begun(1)
    regularizer.observe(1, [_record(6.0, 2.0)])
    for step in range(2, 5):
        regularizer.observe(step, [_record(1000.0, 1e-6)])
    assert regularizer.alpha == 3.0


def test_a_micro_batch_whose_own_loss_is_not_finite_is_left_out() -> None:
    regularizer = _begun(1)
    regularizer.observe(1, [_record(math.nan, 5.0), _record(4.0, 2.0), _record(math.inf, 5.0)])
    assert regularizer.alpha == 2.0
    assert regularizer.state_dict()["calibration"]["micro_batches"] == 1


@pytest.mark.parametrize(
    ("lm_loss", "gap", "found"),
    [(1.0, 0.0, "L_LM 1.0 and L_gap 0.0"), (0.0, 1.0, "L_LM 0.0"), (-1.0, 1.0, "L_LM -1.0")],
)
def test_an_alpha_that_is_no_positive_number_is_refused(
    lm_loss: float, gap: float, found: str
) -> None:
    with pytest.raises(
        NonFiniteGapError, match=rf"alpha = mean.*expected a positive finite number, found {found}"
    ):
        _begun(1).observe(1, [_record(lm_loss, gap)])


def test_a_fixed_alpha_is_never_measured() -> None:
    regularizer = _regularizer(alpha=2.5)
    regularizer.begin(warmup_steps=100, total_steps=1000)
    assert regularizer.calibration_steps == 0
    regularizer.observe(1, [_record(100.0, 1.0)])
    assert regularizer.alpha == 2.5


# ---- the term


def _step(weight: float) -> TrainingStep:
    torch.manual_seed(0)
    states = torch.randn(2, 6, 4, requires_grad=True)
    image_mask = torch.tensor([[1, 1, 1, 0, 0, 0], [0, 1, 1, 0, 0, 0]]).bool()
    embeddings = TokenEmbeddings.from_sequence(states, image_mask, ~image_mask)
    return TrainingStep(0, embeddings, torch.tensor(1.0), ReGapConfig(weight))


def test_the_term_is_measured_but_not_added_during_calibration() -> None:
    step = _step(0.5)
    (term,) = _begun().regap_loss_terms(step)
    assert (term.name, term.weight) == ("gap", 0.0)
    assert not term.value.requires_grad
    assert torch.equal(term.value, pairwise_l2(step.embeddings))


def test_the_term_is_weighted_by_lambda_times_alpha_afterwards() -> None:
    regularizer, step = _begun(1), _step(0.5)
    regularizer.observe(1, [_record(6.0, 2.0)])
    (term,) = regularizer.regap_loss_terms(step)
    assert term.weight == 0.5 * 3.0
    assert term.value.requires_grad
    assert torch.equal(term.value, pairwise_l2(step.embeddings))


def test_at_weight_zero_the_term_is_measured_only() -> None:
    regularizer = _regularizer(0.0, alpha=2.0)
    (term,) = regularizer.regap_loss_terms(_step(0.0))
    assert term.weight == 0.0
    assert not term.value.requires_grad
    assert term.value.item() > 0


def test_the_signs_of_a_collapse_are_logged_beside_it() -> None:
    step = _step(0.5)
    (term,) = _begun().regap_loss_terms(step)
    expected = collapse_statistics(step.embeddings)
    assert list(term.scalars) == list(expected)
    assert all(torch.equal(term.scalars[name], expected[name]) for name in expected)


# ---- saved and restored

RECORDS = [[_record(3.0, 1.1)], [_record(0.1, 0.7), _record(2.3, 0.9)], [_record(1.7, 0.2)]]


def _observe(regularizer: GapRegularizer, first: int, last: int) -> None:
    for step in range(first, last + 1):
        regularizer.observe(step, RECORDS[step - 1])


@pytest.mark.parametrize("saved_after", [0, 1, 2, 3])
def test_a_calibration_goes_on_where_it_was_saved(saved_after: int) -> None:
    whole = _begun(3)
    _observe(whole, 1, 3)
    first = _begun(3)
    _observe(first, 1, saved_after)
    second = _begun(3)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    _observe(second, saved_after + 1, 3)
    assert second.alpha is not None
    assert second.alpha == whole.alpha, "to the last bit"
    assert second.state_dict() == whole.state_dict()


def test_the_length_of_a_calibration_is_the_saved_ones() -> None:
    first = _begun(3)
    second = _regularizer()
    second.begin(warmup_steps=7, total_steps=1000)
    second.load_state_dict(first.state_dict())
    assert second.calibration_steps == 3


def _state(**changes: Any) -> Dict[str, Any]:
    calibration = {"steps": 3, "lm_loss_sum": 4.0, "gap_sum": 2.0, "micro_batches": 2}
    state = {"alpha": None, "calibration": calibration}
    for name, value in changes.items():
        (state if name in state else calibration)[name] = value
    return state


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"alpha": 1.0},
        {"calibration": {}},
        {"calibration": _state()["calibration"]},  # no alpha at all is not "not yet"
        _state(calibration=None),
        _state(calibration=[3, 4.0]),
        _state(steps="three"),
        _state(lm_loss_sum=None),
        _state(gap_sum={}),
        _state(micro_batches="many"),
        _state(alpha="one"),
        _state(alpha=[1.0]),
        # Of the right type and yet wrong: these would add nothing, or noise, without a word.
        _state(alpha=0.0),
        _state(alpha=-1.0),
        _state(alpha=math.nan),
        _state(alpha=math.inf),
        _state(gap_sum=math.nan),
        _state(lm_loss_sum=math.inf),
    ],
)
def test_a_damaged_state_is_refused(state: Dict[str, Any]) -> None:
    with pytest.raises(ResumeError, match=r"ReGap state: expected alpha and calibration \{steps"):
        _begun().load_state_dict(state)


@pytest.mark.parametrize("alpha", [None, 3.0])
def test_a_state_that_denies_the_fixed_alpha_is_refused(alpha: Optional[float]) -> None:
    regularizer = _regularizer(alpha=2.0)
    with pytest.raises(ResumeError, match="alpha is not the fixed one"):
        regularizer.load_state_dict(_state(alpha=alpha))
    regularizer.load_state_dict(_state(alpha=2.0))
    assert regularizer.alpha == 2.0
