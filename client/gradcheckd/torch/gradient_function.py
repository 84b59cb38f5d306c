"""The gradient of a function as a function of its inputs and of the gradients of its outputs."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from gradcheckd.torch.function_values import as_tuple, is_differentiable


class GradientFunction:
    """A function that returns the gradients of another one's inputs.

    It takes the inputs, and then the gradients of the outputs. Its results have a graph if gradients are recorded.

    Parameters
    ----------
    func
        The other function.
    inputs
        Its inputs, of which those that require a gradient have one.
    grad_outputs
        Gradients of its differentiable outputs.
    """

    def __init__(self, func: Callable[..., Any], inputs: Sequence[Any], grad_outputs: Sequence[Any]) -> None:
        self._func, self._input_count = func, len(inputs)
        # Forward mode takes the arguments without their history.
        self._requires_grad = [is_differentiable(value) for value in (*inputs, *grad_outputs)]
        self.gradient_inputs: list[int] = []
        """Number of the input of each result of the last call."""

    def __call__(self, *arguments: Any) -> tuple[Tensor, ...]:
        """Return the gradients of the inputs; those that do not exist are left out, as by torch's checker."""
        create_graph = torch.is_grad_enabled()
        with torch.enable_grad():
            arguments = tuple(
                value.requires_grad_() if requires_grad else value
                for value, requires_grad in zip(arguments, self._requires_grad, strict=True)
            )
            inputs = arguments[: self._input_count]
            outputs = tuple(filter(is_differentiable, as_tuple(self._func(*inputs))))
            indices = [index for index, _ in enumerate(inputs) if self._requires_grad[index]]
            gradients: Any = torch.autograd.grad(
                outputs,
                [inputs[index] for index in indices],
                arguments[self._input_count :],
                create_graph=create_graph,
                allow_unused=True,
            )
        present = [pair for pair in zip(indices, gradients, strict=True) if pair[1] is not None]
        self.gradient_inputs = [index for index, _ in present]
        return tuple(gradient for _, gradient in present)


def make_grad_outputs(func: Callable[..., Any], inputs: Sequence[Any], *, noncontiguous: bool) -> tuple[Tensor, ...]:
    """Make random gradients of the outputs of a function, in [-1, 1]."""
    return tuple(
        torch.testing.make_tensor(
            output.shape,
            dtype=output.dtype,
            device=output.device,
            low=-1,
            high=1,
            requires_grad=True,
            noncontiguous=noncontiguous,
        )
        for output in filter(is_differentiable, as_tuple(func(*inputs)))
    )
