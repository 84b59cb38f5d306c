"""Inputs and outputs of a function as torch's checkers take them."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor

from gradcheckd.errors import TensorError


def is_differentiable(value: Any) -> bool:
    """Tell whether a value is a tensor that requires a gradient."""
    return isinstance(value, Tensor) and value.requires_grad


def as_tuple(value: Any) -> tuple[Any, ...]:
    """Return inputs or outputs as a tuple; a single one as a tuple of one."""
    return tuple(cast("Sequence[Any]", value)) if isinstance(value, list | tuple) else (value,)


def refuse_unfit_inputs(inputs: Sequence[Any]) -> None:
    """Refuse inputs as torch's checker does, with its kinds of error.

    Raises
    ------
    ValueError
        No input requires a gradient.
    RuntimeError
        An input has elements that share memory, so that none can be moved alone.
    """
    if not any(map(is_differentiable, inputs)):
        raise ValueError(
            "gradcheck expects at least one input tensor to require gradient, but none of them have requires_grad=True."
        )
    for index, tensor in enumerate(inputs):
        if is_differentiable(tensor) and tensor.layout == torch.strided and _shares_elements(tensor):
            raise RuntimeError(
                f"The {index}th input has a dimension with stride 0: its elements share memory, and none can be moved "
                "alone. Call .contiguous() on the input before passing it to gradcheck."
            )


def refuse_unfit_results(results: Sequence[Any]) -> None:
    """Refuse results that are no tensors; torch's checker fails with an `AttributeError` in its own code.

    Raises
    ------
    TensorError
        A result is no tensor.
    """
    for index, result in enumerate(results):
        if not isinstance(result, Tensor):
            kind = "None" if result is None else type(result).__qualname__
            raise TensorError(
                f"The function returned {kind} as output {index}. Have it return a tensor, or a tuple of tensors."
            )


def _shares_elements(tensor: Tensor) -> bool:
    return any(stride == 0 and size > 1 for stride, size in zip(tensor.stride(), tensor.shape, strict=True))


def is_complex(value: Any) -> bool:
    """Tell whether a value is a complex tensor."""
    return isinstance(value, Tensor) and value.is_complex()


def is_floating(value: Any) -> bool:
    """Tell whether a value is a tensor of floats or complex numbers."""
    return isinstance(value, Tensor) and (value.is_floating_point() or value.is_complex())
