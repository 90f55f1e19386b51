"""The built-in term: lambda * alpha * L_gap, with alpha calibrated over the warm-up, then frozen.

alpha = mean(L_LM) / mean(L_gap) over the micro-batches with an image, over all ranks, in the
first optimizer steps of the run. Until it is frozen the gap is measured and not added. Source:
arXiv 2505.24208 and its public reviews; the details are our reading (docs/method.md).
"""

import math
from typing import Any, Dict, Iterable, List, Mapping, Optional

import torch

from regap_plugin.collapse import collapse_statistics
from regap_plugin.config import DEFAULT_WARMUP_CAP, ReGapConfig
from regap_plugin.errors import InactiveRegularizerError, NonFiniteGapError, ResumeError
from regap_plugin.gap_losses import GapLoss
from regap_plugin.hookspecs import LossTerm, TrainingStep, hookimpl

TERM = "gap"


class GapRegularizer:
    """The built-in plugin.

    Args:
        config: the run's settings.
        loss: the formula that `config.loss` names.

    Attributes:
        alpha: the frozen factor, or None during calibration.
        calibration_steps: optimizer steps over which alpha is measured; 0 if it is fixed.
    """

    def __init__(self, config: ReGapConfig, loss: GapLoss) -> None:
        self._config = config
        self._loss = loss
        self.alpha: Optional[float] = config.alpha
        self.calibration_steps = 0
        self._lm_sum = 0.0
        self._gap_sum = 0.0
        self._micro_batches = 0

    def begin(self, *, warmup_steps: int, total_steps: Optional[int]) -> None:
        """Fix the length of the calibration.

        Args:
            warmup_steps: the run's own learning-rate warm-up, in optimizer steps.
            total_steps: optimizer steps of the whole run, if known.

        Raises:
            InactiveRegularizerError: the calibration would last as long as the run, so that the
                gap would never be added.
        """
        if self._config.alpha is not None:
            return
        wanted = self._config.warmup_steps
        if wanted is None:
            wanted = max(1, min(warmup_steps, DEFAULT_WARMUP_CAP))
        if self._config.weight > 0 and total_steps is not None and wanted >= total_steps:
            raise InactiveRegularizerError(
                f"alpha: expected a calibration shorter than the run, found {wanted} of "
                f"{total_steps} optimizer steps: the gap would never be added. Train longer, "
                "lower --regap_warmup_steps, or fix --regap_alpha."
            )
        self.calibration_steps = wanted

    @hookimpl
    def regap_loss_terms(self, step: TrainingStep) -> List[LossTerm]:
        """The gap with its weight lambda * alpha, 0 while alpha is not known."""
        weight = 0.0 if self.alpha is None else step.config.weight * self.alpha
        with torch.set_grad_enabled(weight > 0 and torch.is_grad_enabled()):
            gap = self._loss(step.embeddings)
        return [LossTerm(TERM, gap, weight, collapse_statistics(step.embeddings))]

    def observe(self, step: int, records: Iterable[Mapping[str, float]]) -> None:
        """Take the micro-batches of one optimizer step, of all ranks; freeze alpha in time.

        Args:
            step: optimizer steps completed.
            records: `lm_loss` and `gap` of each micro-batch with an image. One whose L_LM is not
                finite is left out: upstream may skip such a step, and it says nothing of scale.

        Raises:
            NonFiniteGapError: alpha would not be a positive finite number.
        """
        if self.alpha is not None:
            return
        for record in records:
            if math.isfinite(record["lm_loss"]):
                self._lm_sum += record["lm_loss"]
                self._gap_sum += record[TERM]
                self._micro_batches += 1
        # Without a single image there is nothing to measure yet: the calibration goes on.
        if step >= self.calibration_steps and self._micro_batches:
            self.alpha = self._measured_alpha()

    def state_dict(self) -> Dict[str, Any]:
        """What a resumed run needs; the same on every rank."""
        return {
            "alpha": self.alpha,
            "calibration": {
                "steps": self.calibration_steps,
                "lm_loss_sum": self._lm_sum,
                "gap_sum": self._gap_sum,
                "micro_batches": self._micro_batches,
            },
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict`, in the middle of a calibration too.

        Raises:
            ResumeError: a key is missing, of another type or out of its range.
        """
        try:
            calibration = state["calibration"]
            self.calibration_steps = int(calibration["steps"])
            self._lm_sum = float(calibration["lm_loss_sum"])
            self._gap_sum = float(calibration["gap_sum"])
            self._micro_batches = int(calibration["micro_batches"])
            self.alpha = None if state["alpha"] is None else float(state["alpha"])
            if self.alpha is not None and not 0 < self.alpha < math.inf:
                raise ValueError("alpha is no positive finite number")
            if not (math.isfinite(self._lm_sum) and math.isfinite(self._gap_sum)):
                raise ValueError("a partial sum is not finite")
            if self._config.alpha not in (None, self.alpha):
                raise ValueError("alpha is not the fixed one")
        except (KeyError, TypeError, ValueError) as error:
            raise ResumeError(
                "ReGap state: expected alpha and calibration {steps, lm_loss_sum, gap_sum, "
                f"micro_batches}}, found {dict(state)!r} ({error}). Resume from another checkpoint."
            ) from error

    def _measured_alpha(self) -> float:
        alpha = self._lm_sum / self._gap_sum if self._gap_sum else math.nan
        if not 0 < alpha < math.inf:
            raise NonFiniteGapError(
                "alpha = mean(L_LM) / mean(L_gap): expected a positive finite number, found "
                f"L_LM {self._lm_sum / self._micro_batches} and L_gap "
                f"{self._gap_sum / self._micro_batches} over {self._micro_batches} micro-batches. "
                "Check the data and the projector's initial weights (info_nce is 0 where a "
                "micro-batch has one sample: enlarge it), or fix --regap_alpha."
            )
        return alpha
