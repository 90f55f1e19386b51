"""One regularised training run: what a patch calls in the forward, after a step, at a save."""

import dataclasses
import math
from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple

import torch
from torch import Tensor

from regap_plugin import __version__
from regap_plugin.config import WATCHING, ReGapConfig
from regap_plugin.embeddings import TokenEmbeddings
from regap_plugin.errors import (
    InactiveRegularizerError,
    NonFiniteGapError,
    ReGapError,
    ResumeError,
)
from regap_plugin.hookspecs import LossTerm, TrainingStep
from regap_plugin.mir_watcher import NAMES as _MIR_NAMES
from regap_plugin.mir_watcher import MirWatcher
from regap_plugin.plugins import Plugins
from regap_plugin.ranks import gather
from regap_plugin.regularizer import GapRegularizer
from regap_plugin.upstream import Upstream

LOG_PREFIX = "regap/"
_REGULARIZER = "regap-built-in-term"
_ADDED = "added"  # of a record: 1 where something was added to the loss
# What the log holds beside the terms.
_RESERVED = ("lm_loss", "weighted", "alpha", _ADDED, *_MIR_NAMES)
WATCHED = tuple(LOG_PREFIX + name for name in _MIR_NAMES)  # of the model, not of micro-batches

Record = Dict[str, float]


class TrainingRun:
    """Ties the settings, the plugins and one upstream together, from its start to its end.

    A patch calls `begin` when training begins, `add_to_loss` in every training forward, `end_step`
    after every optimizer step on every rank, `check_before_save` before a checkpoint is written
    and `finish` at the end. Where there is a `watcher`, the forward shows it each batch.

    Args:
        config: the settings.
        plugins: the loaded plugins; the built-in term is registered among them.
        upstream: where the tokens come from.

    Attributes:
        watcher: measures MIR; None without `mir_every`.

    Raises:
        ValueError: an unknown formula, or `mir_every` with an upstream that cannot be measured.
    """

    def __init__(self, config: ReGapConfig, plugins: Plugins, upstream: Upstream) -> None:
        self.config = config
        self.upstream = upstream
        self.regularizer = GapRegularizer(config, plugins.loss(config.loss))
        self.watcher = None if config.mir_every is None else MirWatcher(config, upstream)
        self._plugins = plugins
        plugins.manager.register(self.regularizer, _REGULARIZER)
        self._total_steps: Optional[int] = None
        self._begun = False
        self._step = 0
        self._forwards = 0
        self._micro_batches = 0
        self._additions = 0
        self._pending: List[Dict[str, Tensor]] = []
        self._unlogged: List[Record] = []
        self._unlogged_mir: Record = {}

    @property
    def micro_batches(self) -> int:
        """Micro-batches with an image and text so far, over all ranks and closed steps."""
        return self._micro_batches

    def close(self) -> None:
        """Take the built-in term out of the plugins again."""
        if self._plugins.manager.has_plugin(_REGULARIZER):
            self._plugins.manager.unregister(name=_REGULARIZER)

    def begin(
        self,
        *,
        warmup_steps: int,
        total_steps: Optional[int] = None,
        step: int = 0,
        state: Optional[Mapping[str, Any]] = None,
    ) -> None:
        """Start, or go on.

        Args:
            warmup_steps: upstream's learning-rate warm-up, in optimizer steps.
            total_steps: optimizer steps of the whole run, if known.
            step: optimizer steps completed before.
            state: `state_dict` of the checkpoint that is resumed.

        Raises:
            InactiveRegularizerError: the calibration would last as long as the run.
            ResumeError: the state is missing, or of other settings.
        """
        self._total_steps = total_steps
        self._step = step
        self.regularizer.begin(warmup_steps=warmup_steps, total_steps=total_steps)
        if state is not None:
            self._resume(state)
        elif step > 0:
            raise ResumeError(
                f"Resumed run: expected the ReGap state of step {step}, found none. Pass the "
                "state of the checkpoint, or start anew."
            )
        self._begun = True

    def add_to_loss(self, lm_loss: Tensor, embeddings: Optional[TokenEmbeddings]) -> Tensor:
        """Upstream's loss plus the weighted terms of all plugins.

        Args:
            lm_loss: upstream's loss, a scalar.
            embeddings: of this batch; None if it holds no image.

        Returns:
            A scalar of the same dtype and device. The very same tensor where nothing is added: at
            weight 0, during calibration, and for a batch in which no sample has both an image
            token and a text token.

        Raises:
            InactiveRegularizerError: training had not begun, no plugin gave a term, or there is
                no parameter that the gap could train.
            ReGapError: two terms of one name.
        """
        if not self._begun:
            raise InactiveRegularizerError(
                f"{self.upstream.name}: expected its own trainer to drive the steps, found a "
                "training forward before that began. Train through the codebase's own script, or "
                "call TrainingRun.begin and end_step from your loop."
            )
        self._forwards += 1
        if embeddings is None or not embeddings.has_pairs():
            return lm_loss
        embeddings = dataclasses.replace(embeddings, step=self._step)
        adds = self.config.weight > 0 and torch.is_grad_enabled()
        if not adds:
            embeddings = embeddings.detach()
        elif self.config.detach_text:
            embeddings = embeddings.detach_text()
        if adds and not (embeddings.image.requires_grad or embeddings.text.requires_grad):
            raise InactiveRegularizerError(
                f"Image embeddings at layer {embeddings.layer}: expected a gradient to some "
                "trained parameter, found none: the gap could change nothing. Train the projector "
                "(or drop --regap_weight)."
            )
        step = TrainingStep(self._step, embeddings, lm_loss.detach(), self.config)
        with torch.autocast(embeddings.image.device.type, enabled=False):
            terms = self._terms(step)
            weighted = [(t.value * t.weight).to(lm_loss) for t in terms if adds and t.weight]
            added = torch.stack(weighted).sum() if weighted else None
        self._remember(step, terms, added)
        return lm_loss if added is None else lm_loss + added

    def end_step(self, step: int, model: Any = None) -> None:
        """Close an optimizer step: gather over ranks, calibrate, check, tell the plugins.

        Every rank calls it, also one without any image: it is the only place with a collective.

        Args:
            step: optimizer steps completed.
            model: upstream's model without DDP or an engine around it, for `mir_every`.

        Raises:
            InactiveRegularizerError: no training forward has come through the patch.
            NonFiniteGapError: a term was not finite, on whichever rank: raised on all of them.
        """
        self._step = step
        forwards, records, are_ready = self._gather()
        if not forwards:
            raise InactiveRegularizerError(
                f"{self.upstream.name}: expected training forwards through the patched class, "
                f"found none in optimizer step {step}: the gap loss is not in the training. The "
                "model is of another class than the patch covers: see `regap doctor`."
            )
        self._check_finite(step, records)
        self._micro_batches += len(records)
        self._additions += sum(record.pop(_ADDED) > 0 for record in records)
        self.regularizer.observe(step, records)
        self._unlogged += records
        mir = self._measured(step, are_ready, model)
        self._unlogged_mir = mir or self._unlogged_mir
        self._plugins.manager.hook.regap_on_step(step=step, values={**self._means(records), **mir})

    def pop_log(self) -> Dict[str, float]:
        """Means over the micro-batches with an image since the last call, over all ranks.

        Returns:
            `regap/...` to its mean; empty if there was no image. `regap/alpha` from its freeze on,
            and the last MIR, if it was measured since.
        """
        values = {**self._means(self._unlogged), **self._unlogged_mir}
        self._unlogged, self._unlogged_mir = [], {}
        return values

    def check_before_save(self) -> None:
        """Refuse to save what was never regularised.

        Raises:
            InactiveRegularizerError: no sample with an image and text has been seen.
        """
        if not self._micro_batches:
            raise InactiveRegularizerError(
                f"{self.upstream.name}: expected samples with an image and a caption, found none "
                f"in {self._step} optimizer steps: nothing was regularised. Check the data and "
                "its image tokens, or drop --regap_weight."
            )

    def finish(self) -> None:
        """Refuse to end as regularised a run to which nothing was ever added.

        Raises:
            InactiveRegularizerError: as `check_before_save`, or the weight is above 0 and training
                ended before the calibration did.
        """
        self.check_before_save()
        if self.config.weight > 0 and not self._additions:
            raise InactiveRegularizerError(
                f"{self.upstream.name}: expected the gap in the loss of some step, found it added "
                f"in none of {self._step}: training ended before alpha was frozen and used, or "
                "no term had a gradient. Train longer, lower --regap_warmup_steps, fix "
                "--regap_alpha, or look at regap/gap in the log."
            )
        self._begun = False

    def state_dict(self) -> Dict[str, Any]:
        """What was active and what a resumed run needs; JSON values, the same on every rank."""
        return {
            "schema": 1,
            "regap_plugin": __version__,
            "upstream": {"name": self.upstream.name, "versions": self.upstream.versions()},
            "config": self.config.to_dict(),
            "step": self._step,
            "total_steps": self._total_steps,
            "micro_batches_with_image": self._micro_batches,
            "micro_batches_added_to": self._additions,
            **self.regularizer.state_dict(),
        }

    def banner(self) -> str:
        """What is active, with all values, for the start of the training's own output."""
        config, regularizer = self.config, self.regularizer
        versions = ", ".join(f"{n} {v}" for n, v in self.upstream.versions().items())
        if config.alpha is not None:
            alpha = f"{config.alpha:g}, fixed"
        elif regularizer.alpha is not None:
            alpha = f"{regularizer.alpha:g}, frozen before this start"
        else:
            alpha = (
                f"calibrated over {regularizer.calibration_steps} of "
                f"{self._total_steps or 'an unknown number of'} optimizer steps, then frozen"
            )
        others = sorted(
            name
            for name, plugin in self._plugins.manager.list_name_plugin()
            if plugin not in (None, regularizer) and name not in self._plugins.upstream_names
        )
        effect = "added to the loss" if config.weight > 0 else "measured, not added"
        return "\n".join(
            [
                f"ReGap {__version__} is active on {self.upstream.name} "
                f"({versions or 'version unknown'}): the gap is {effect}.",
                f"  weight (lambda)  {config.weight:g}",
                f"  loss             {config.loss}",
                f"  alpha            {alpha}",
                f"  text tokens      {config.text_tokens}, "
                f"{'detached' if config.detach_text else 'with gradient'}",
                f"  layer            {config.layer}",
                *self._watching(),
                f"  plugins          {', '.join(others) or 'none beside the built-in term'}",
            ]
        )

    def _watching(self) -> List[str]:
        if self.watcher is None:
            return []
        batch = (
            "a held-out batch"
            if self.watcher.is_held_out
            else "the training's first batch with an image"
        )
        return [f"  MIR              every {self.config.mir_every} optimizer steps, on {batch}"]

    def _measured(self, step: int, are_ready: List[bool], model: Any) -> Record:
        if self.watcher is None:
            return {}
        values = self.watcher.end_step(step, are_ready, model)
        return {LOG_PREFIX + name: value for name, value in values.items()}

    def _terms(self, step: TrainingStep) -> List[LossTerm]:
        answers = self._plugins.manager.hook.regap_loss_terms(step=step)
        terms = [term for answer in answers for term in _as_list(answer)]
        # Scalars too: one called "gap" would take the gap's place in the measurement of alpha.
        names = [name for term in terms for name in (term.name, *term.scalars)]
        if not terms:
            raise InactiveRegularizerError(
                "regap_loss_terms: expected a term from at least one plugin, found none. "
                "Load the built-in term or a plugin of your own."
            )
        for term in terms:
            if term.value.ndim:
                raise ReGapError(
                    f"Loss term {term.name!r}: expected a scalar, found a tensor of shape "
                    f"{list(term.value.shape)}. Reduce it in the plugin."
                )
        for name in names:
            if names.count(name) > 1 or name in _RESERVED:
                raise ReGapError(
                    f"Loss term or scalar {name!r}: expected a name of its own, found it "
                    f"{'reserved' if name in _RESERVED else 'twice'}. Rename it in the plugin."
                )
        return terms

    def _remember(self, step: TrainingStep, terms: List[LossTerm], added: Optional[Tensor]) -> None:
        record = {"lm_loss": step.lm_loss}
        for term in terms:
            record[term.name] = term.value
            record.update(term.scalars)
        # What has no gradient is in the loss and changes nothing.
        counts = added is not None and added.requires_grad
        record[_ADDED] = torch.full_like(step.lm_loss, 1.0 if counts else 0.0)
        # Last: a term that is not finite is then reported by its own name, not by the sum's.
        record["weighted"] = torch.zeros_like(step.lm_loss) if added is None else added
        self._pending.append({name: value.detach() for name, value in record.items()})

    def _gather(self) -> Tuple[int, List[Record], List[bool]]:
        """Number of forwards and the records of this step's micro-batches, over all ranks.

        And of each rank whether it could measure MIR.
        """
        records = [_to_floats(record) for record in self._pending]
        is_ready = self.watcher is not None and self.watcher.is_ready
        shares = gather((self._forwards, records, is_ready))
        self._pending = []
        self._forwards = 0
        return (
            sum(share[0] for share in shares),
            [record for share in shares for record in share[1]],
            [share[2] for share in shares],
        )

    def _check_finite(self, step: int, records: List[Record]) -> None:
        for record in records:
            for name, value in record.items():
                # L_LM is upstream's own affair; what is added to it is ours.
                if name != "lm_loss" and not math.isfinite(value):
                    raise NonFiniteGapError(
                        f"regap/{name}: expected a finite number, found {value} in optimizer step "
                        f"{step} (L_LM {record['lm_loss']}). Lower the learning rate or "
                        "--regap_weight, or train in bf16 instead of fp16; the last checkpoint "
                        "is from before this step."
                    )

    def _means(self, records: List[Record]) -> Dict[str, float]:
        if not records:
            return {}
        names = {name: None for record in records for name in record}
        means = {}
        for name in names:
            values = [record[name] for record in records if name in record]
            means[LOG_PREFIX + name] = sum(values) / len(values)
        if self.regularizer.alpha is not None:
            means[LOG_PREFIX + "alpha"] = self.regularizer.alpha
        return means

    def _resume(self, state: Mapping[str, Any]) -> None:
        saved, wanted = state.get("config"), _of_the_training(self.config.to_dict())
        known = _of_the_training(saved) if isinstance(saved, Mapping) else {}
        if known != wanted:
            other = [n for n in {**wanted, **known} if n not in known or n not in wanted]
            other += [n for n in wanted if n in known and known[n] != wanted[n]]
            raise ResumeError(
                "Resumed run: expected the settings of the checkpoint, found others for "
                + ", ".join(f"{n} ({known.get(n)!r} then, {wanted.get(n)!r} now)" for n in other)
                + ". Pass the same flags, or start anew in another output directory."
            )
        try:
            self._micro_batches = int(state["micro_batches_with_image"])
            self._additions = int(state["micro_batches_added_to"])
        except (KeyError, TypeError, ValueError) as error:
            raise ResumeError(
                "ReGap state: expected whole numbers under micro_batches_with_image and "
                f"micro_batches_added_to, found {state.get('micro_batches_with_image')!r} and "
                f"{state.get('micro_batches_added_to')!r}. Resume from another checkpoint."
            ) from error
        self.regularizer.load_state_dict(state)


def _of_the_training(settings: Mapping[str, Any]) -> Dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in WATCHING}


def _as_list(answer: Any) -> Iterator[LossTerm]:
    return iter([answer] if isinstance(answer, LossTerm) else answer)


def _to_floats(record: Mapping[str, Tensor]) -> Record:
    if not record:
        return {}
    device = next(iter(record.values())).device
    values = torch.stack([value.float().to(device) for value in record.values()]).tolist()
    return dict(zip(record, values))
