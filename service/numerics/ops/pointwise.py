"""Common parts of the functions that work element by element."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from service.numerics.core.batching import Array, sum_broadcast_axes
from service.numerics.ops.elementwise import UnaryOp
from service.numerics.ops.op import Gradients
from service.numerics.ops.rounding_errors import ErrorModel


class AnalyticUnary(UnaryOp):
    """An analytic function of one tensor, element by element, which NumPy has as one function."""

    supports_complex_step = True
    numpy_function: ClassVar[Callable[[Array], Array]]
    """Function of a real or a complex array."""
    torch_module: ClassVar[str] = ""
    """Module of PyTorch that holds the function of the op's name, such as `special`; torch itself by default."""

    def forward(self, input: Array) -> Array:
        return type(self).numpy_function(input)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return find_torch_function(torch, self.torch_module, self.name)(input)


_ANY_MAGNITUDE = 1e30
"""Magnitude beyond any, so that the largest error decides."""


class SingleConstantUnary(UnaryOp):
    """A function whose backward pass PyTorch computes with a constant of single precision, in float64 too."""

    @abstractmethod
    def estimate_constant_error(self, x: Array, y: Array) -> Array:
        """Return the largest error that the constant makes in the derivative."""

    def backward_with_errors(self, errors: ErrorModel, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        (by_input,) = super().backward_with_errors(errors, gradient, output, *inputs)
        assert by_input is not None
        largest = self.estimate_constant_error(inputs[0], output)
        if not largest.any():
            return (by_input,)
        constant_errors = errors(np.zeros_like(largest), np.full_like(largest, _ANY_MAGNITUDE), 1, largest)
        return (by_input + gradient * constant_errors,)


def compute_in_single_precision(torch: Any, function: Callable[[Any], Any], input: Any) -> Any:
    """Return a function of a tensor, by way of float32 where PyTorch has none of half precision."""
    if input.dtype in (torch.float16, torch.bfloat16):
        return function(input.float()).to(input.dtype)
    return function(input)


def find_torch_function(torch: Any, module: str, name: str) -> Callable[..., Any]:
    """Return PyTorch's function of a name.

    Parameters
    ----------
    torch
        The module torch.
    module
        Path of the module that holds the function, such as `nn.functional`; empty for torch itself.
    name
        Name of the function.
    """
    for part in filter(None, module.split(".")):
        torch = getattr(torch, part)
    return getattr(torch, name)


def sum_to_operands(gradients: Sequence[Array], operands: Sequence[Array]) -> Gradients:
    """Return the gradients of operands, each summed over the axes along which the operand was broadcast.

    Parameters
    ----------
    gradients
        Gradients by element of the output, or of a part of its axes, one for each operand.
    operands
        The operands, behind a tile axis.
    """
    shape = np.broadcast_shapes(*(gradient.shape[1:] for gradient in gradients))
    return tuple(
        sum_broadcast_axes(np.broadcast_to(gradient, (len(gradient), *shape)), operand.shape[1:])
        for gradient, operand in zip(gradients, operands, strict=True)
    )
