"""What every formula needs to work in float32, whatever the training's autocast and TF32 are."""

from contextlib import contextmanager
from typing import Any, Iterator, Tuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def at_least_float32(tensor: Tensor) -> Tensor:
    """The tensor in float32; in float64 if it is that."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """No autocast and no TF32 inside; the settings of the caller afterwards."""
    with torch.autocast(device.type, enabled=False):
        if device.type != "cuda":
            yield
            return
        # From torch 2.9 on the older name raises once the newer one was used, and the other way
        # round; each version's own name can always be read and set back.
        matmul: Any = torch.backends.cuda.matmul
        renamed = hasattr(matmul, "fp32_precision")
        name = "fp32_precision" if renamed else "allow_tf32"
        exact: Any = "ieee" if renamed else False
        previous = getattr(matmul, name)
        setattr(matmul, name, exact)
        try:
            yield
        finally:
            setattr(matmul, name, previous)


def product(left: Tensor, right: Tensor) -> Tensor:
    """The product left @ right.T, whose backward keeps full precision too. Differentiable once.

    Args:
        left: [n, d].
        right: [m, d].

    Returns:
        [n, m].
    """
    made: Tensor = _Product.apply(left, right)  # type: ignore[no-untyped-call]
    return made


class _Product(torch.autograd.Function):
    # The backward pass runs after the formula, under whatever the caller has set by then.
    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor) -> Tensor:
        ctx.save_for_backward(left, right)
        return left @ right.t()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> Tuple[Any, Any]:
        left, right = ctx.saved_tensors
        wants_left, wants_right = ctx.needs_input_grad
        with full_precision(left.device):
            to_left = grad_output @ right if wants_left else None
            to_right = grad_output.t() @ left if wants_right else None
        return to_left, to_right
