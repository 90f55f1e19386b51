"""What LLaVA and its descendants share: how images enter the sequence and where the loss is made.

In all of them `prepare_inputs_labels_for_multimodal` replaces every image placeholder by the
rows of the projector's output, and returns a tuple that ends with
(attention_mask, past_key_values, inputs_embeds, labels). They differ in padding: LLaVA 1.2 strips
it and pads again, ShareGPT4V keeps the embeddings of padding tokens, where only the mask tells.
"""

import inspect
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any, Callable, Iterator, List, Mapping, Optional, Sequence, Tuple

import torch
from torch import Tensor

from regap_plugin.config import ReGapConfig
from regap_plugin.embeddings import TokenEmbeddings
from regap_plugin.errors import InactiveRegularizerError, UpstreamShapeError
from regap_plugin.patching import Shape, wrap_method
from regap_plugin.plugins import load_plugins
from regap_plugin.training_run import TrainingRun
from regap_plugin.upstream import LocatedTokens, Upstream

from ._huggingface_arguments import listen
from ._upstream_class import find_class

_IGNORED = -100
_PREPARE = "prepare_inputs_labels_for_multimodal"
_IMAGE_PLACEHOLDER = -200
_SWITCHES = ("use_cache", "output_attentions", "output_hidden_states", "return_dict")
_MASK, _EMBEDS, _LABELS = -4, -2, -1  # counted from the end, where all members of the family agree


class LlavaFamily(Upstream):
    """An upstream of the LLaVA family; a subclass gives the names.

    Attributes:
        meta_class: module and class that define `prepare_inputs_labels_for_multimodal`.
        prepare_shapes: the parameters that it may have.
        model_classes: modules and classes whose `forward` makes the loss; the first must exist.
        forward_shapes: the parameters that `forward` may have.
    """

    meta_class: Tuple[str, str]
    prepare_shapes: Sequence[Shape]
    model_classes: Sequence[Tuple[str, str]]
    forward_shapes: Sequence[Shape]

    def __init__(self) -> None:
        self._applied = ExitStack()
        self._is_applied = False
        self.run: Optional[TrainingRun] = None

    def apply(self) -> None:
        """Add the flags to the trainer's parser; the rest follows when they are given."""
        if not self._is_applied:
            self._applied.callback(listen(self.start))
            self._is_applied = True

    def revert(self) -> None:
        """Undo `apply` and `start`."""
        self._applied.close()
        self._is_applied = False
        self.run = None

    def start(self, config: ReGapConfig) -> None:
        """Wrap the model's classes and the trainer for one run.

        Raises:
            UpstreamShapeError: a class or method is missing or has other parameters.
        """
        from ._huggingface_trainer import drive

        with ExitStack() as stack:
            self.run = TrainingRun(config, load_plugins(), self)
            stack.callback(self.run.close)
            meta = find_class(*self.meta_class)
            stack.callback(
                wrap_method(meta, _PREPARE, _prepare_located, shapes=self.prepare_shapes)
            )
            for model_class in self._loaded_model_classes():
                stack.callback(
                    wrap_method(model_class, "forward", self._forward, shapes=self.forward_shapes)
                )
            stack.callback(drive(self.run, self._check_model, _holds_image))
            self._applied.push(stack.pop_all())

    def locate_tokens(self, model: Any, batch: Mapping[str, Any]) -> LocatedTokens:
        """Find the tokens by sending their indices through upstream's own `labels`.

        Args:
            model: upstream's model, or a wrapper with `get_base_model` (PEFT).
            batch: `input_ids` [B, L], `images`, and where there are any `labels`,
                `attention_mask`, `image_sizes`.
        """
        model = model.get_base_model() if hasattr(model, "get_base_model") else model
        prepare = getattr(type(model), _PREPARE)
        names = list(inspect.signature(prepare).parameters)[1:]
        arguments = {name: batch.get(name) for name in names}
        return _locate(prepare, model, (), arguments)[1]

    def hidden_states(
        self, model: Any, batch: Mapping[str, Any]
    ) -> Tuple[LocatedTokens, Sequence[Tensor]]:
        """Find the tokens on the way of the batch through upstream's own forward."""
        asked = {"use_cache": False, "output_hidden_states": True, "return_dict": True}
        with _capturing() as captured:
            outputs = model(**batch, **asked)
        if not captured:
            raise UpstreamShapeError(
                f"{type(model).__name__}: expected a forward through {_PREPARE}, found none: "
                "where its tokens are is not known. Drop --regap_mir_every."
            )
        return captured[-1], outputs["hidden_states"]

    def _loaded_model_classes(self) -> Iterator[type]:
        yield find_class(*self.model_classes[0])
        for module, name in self.model_classes[1:]:
            # The others depend on what the installed transformers has, also for upstream itself.
            try:
                yield find_class(module, name)
            except UpstreamShapeError:
                continue

    def _forward(self, original: Callable[..., Any], model: Any, *args: Any, **kwargs: Any) -> Any:
        run = self.run
        assert run is not None
        call = inspect.signature(original).bind(model, *args, **kwargs)
        if not model.training or call.arguments.get("labels") is None:
            return original(model, *args, **kwargs)
        layer = run.config.layer
        asked = call.arguments.get("output_hidden_states")
        as_dict = call.arguments.get("return_dict")
        as_tuple = layer and not (model.config.use_return_dict if as_dict is None else as_dict)
        if layer:
            # From the model itself: a hook on a layer would see it inside a reentrant checkpoint,
            # where the states have no gradient.
            call.arguments.update(output_hidden_states=True, return_dict=True)
        with _capturing() as captured:
            outputs = original(*call.args, **call.kwargs)
        states = outputs["hidden_states"][layer] if layer else None
        embeddings = _embeddings(captured, states, run.config)
        if run.watcher is not None:
            run.watcher.see(_inputs(call.arguments), embeddings)
        if layer and not asked:
            kept = {name: value for name, value in outputs.items() if name != "hidden_states"}
            outputs = type(outputs)(**kept)
        if as_tuple:
            outputs = outputs.to_tuple()
        if isinstance(outputs, tuple):
            return (run.add_to_loss(outputs[0], embeddings), *outputs[1:])
        outputs.loss = run.add_to_loss(outputs.loss, embeddings)
        return outputs

    def _check_model(self, model: Any) -> None:
        run = self.run
        assert run is not None
        layers = model.config.num_hidden_layers
        if run.config.layer > layers:
            raise ValueError(
                f"--regap_layer: expected 0 to {layers}, the layers of this LLM, found "
                f"{run.config.layer}. Pass 0 for the paper's own place."
            )
        # An embedding that requires a gradient for gradient checkpointing's sake would hide a
        # frozen projector from the check in the forward.
        image_side = [
            parameter.requires_grad
            for name, parameter in model.named_parameters()
            if "mm_projector" in name or "vision_tower" in name
        ]
        if run.config.weight > 0 and run.config.layer == 0 and not any(image_side):
            raise InactiveRegularizerError(
                f"{type(model).__name__}: expected a trained projector or vision tower, found "
                "both frozen: the gap at the input embeddings could change nothing. Train the "
                "projector (no --freeze_mm_mlp_adapter), or drop --regap_weight."
            )


_captured: "ContextVar[Optional[List[LocatedTokens]]]" = ContextVar("_captured", default=None)


@contextmanager
def _capturing() -> Iterator[List[LocatedTokens]]:
    located: List[LocatedTokens] = []
    token = _captured.set(located)
    try:
        yield located
    finally:
        _captured.reset(token)


def _prepare_located(prepare: Callable[..., Any], model: Any, *args: Any, **kwargs: Any) -> Any:
    captured = _captured.get()
    if captured is None:
        return prepare(model, *args, **kwargs)
    outputs, located = _locate(prepare, model, args, kwargs)
    captured.append(located)
    return outputs


def _locate(
    prepare: Callable[..., Any], model: Any, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Tuple[Tuple[Any, ...], LocatedTokens]:
    """Call upstream's method once, with the flat index of each token for labels.

    In the labels that come back, an index says which source token stands there; -100 under a true
    mask is an image token. The true labels are gathered by the indices, and so is the mask that
    went in, to hold upstream's own merged mask to it.
    """
    call = inspect.signature(prepare).bind(model, *args, **kwargs)
    input_ids, labels = call.arguments["input_ids"], call.arguments["labels"]
    mask = call.arguments["attention_mask"]
    call.arguments["labels"] = torch.arange(input_ids.numel(), device=input_ids.device).view_as(
        input_ids
    )
    if mask is None:  # upstream reads this as all ones, but then would not return where padding is
        call.arguments["attention_mask"] = torch.ones_like(input_ids, dtype=torch.bool)
    source_mask = call.arguments["attention_mask"]
    outputs = list(prepare(*call.args, **call.kwargs))
    embeds, source, merged_mask = outputs[_EMBEDS], outputs[_LABELS], outputs[_MASK].bool()
    if embeds is None:
        outputs[_LABELS], outputs[_MASK] = labels, mask
        image = torch.zeros_like(merged_mask)
        return tuple(outputs), LocatedTokens(None, image, merged_mask, labels, merged_mask)
    is_text = source != _IGNORED
    is_token = source_mask.bool().reshape(-1)[source.clamp(min=0)]
    if bool((is_text & (is_token != merged_mask)).any()):
        raise ValueError(
            f"{type(model).__name__}.{_PREPARE}: expected a merged attention mask that is true "
            "where a token of the batch stands and false at padding, found another: upstream "
            "itself would attend to padding. Pad on the side that its own collator pads on."
        )
    if labels is not None:
        gathered = labels.reshape(-1)[source.clamp(min=0)]
        labels = torch.where(is_text, gathered, torch.full_like(gathered, _IGNORED))
    outputs[_LABELS] = labels
    if mask is None:
        outputs[_MASK] = None
    return tuple(outputs), LocatedTokens(
        embeds, merged_mask & ~is_text, merged_mask & is_text, labels, merged_mask
    )


def _inputs(arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    """The batch among the arguments of a forward: neither the model nor what it is to return."""
    batch = dict(list(arguments.items())[1:])
    return {n: value for n, value in batch.items() if value is not None and n not in _SWITCHES}


def _holds_image(sample: Mapping[str, Any]) -> bool:
    """Whether a sample of upstream's data set holds one; a text-only one may lack the key."""
    return "image" in sample and bool((sample["input_ids"] == _IMAGE_PLACEHOLDER).any())


def _embeddings(
    captured: Sequence[LocatedTokens], states: Optional[Tensor], config: ReGapConfig
) -> Optional[TokenEmbeddings]:
    if not captured or captured[-1].embeddings is None:
        return None
    located = captured[-1]
    assert located.embeddings is not None
    text_mask = located.text_mask
    if config.text_tokens == "labels" and located.labels is not None:
        text_mask = text_mask & (located.labels != _IGNORED)
    return TokenEmbeddings.from_sequence(
        located.embeddings if states is None else states,
        located.image_mask,
        text_mask,
        layer=config.layer,
    )
