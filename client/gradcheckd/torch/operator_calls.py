"""Calls of an operator: fresh copies of its inputs, its tensors of outputs, and its gradients."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from gradcheckd.errors import RequestError, TensorError, hide_frames
from gradcheckd.torch.function_values import as_tuple

__tracebackhide__ = hide_frames

Arrange = Callable[[Tensor], Tensor]
"""Returns a tensor of the same numbers in another layout."""
Tensors = tuple[Tensor, ...]
Gradients = tuple[Tensor | None, ...]
_MIN_BITS = 16
"""Bits of the narrowest datatype in which torch adds and multiplies."""


def copy_contiguously(tensor: Tensor) -> Tensor:
    """Return a copy with a memory of its own, contiguous if it is dense."""
    detached = tensor.detach()
    return detached.clone(memory_format=torch.contiguous_format) if is_dense(tensor) else detached.clone()


def is_dense(tensor: Tensor) -> bool:
    """Tell whether a tensor has strides."""
    return tensor.layout == torch.strided


@dataclass(frozen=True)
class OperatorRun:
    """The tensors of one call: outputs, and the gradient of each differentiable input, None where it is zero."""

    outputs: Tensors
    gradients: Gradients


class Operator:
    """An operator with its inputs.

    Parameters
    ----------
    func
        Takes the inputs as arguments, and returns a tensor, or a tuple, list or mapping with tensors.
    inputs
        Tensors and other arguments. The differentiable ones are those with `requires_grad`, or, if none has it, all
        tensors of floating-point or complex numbers.

    Raises
    ------
    TensorError
        No input is differentiable, or one has a datatype without arithmetic.
    RequestError
        The function is none.
    """

    def __init__(self, func: Callable[..., Any], inputs: Tensor | Sequence[Any]) -> None:
        if not callable(func):
            raise RequestError(f"func takes the inputs as arguments; {type(func).__qualname__} was given.")
        self._func, self.inputs = func, as_tuple(inputs)
        self.differentiable = _find_differentiable(self.inputs)
        if not self.differentiable:
            raise TensorError("No input is a tensor of floats. Give one, for instance in torch.float64.")
        for index in self.differentiable:
            _refuse_without_arithmetic(self.inputs[index], index)

    def with_inputs(self, inputs: Sequence[Any]) -> "Operator":
        """Return the same operator with other inputs, of which the same ones are differentiable.

        Raises
        ------
        RequestError
            There are more or fewer inputs.
        """
        if len(inputs) != len(self.inputs):
            raise RequestError(f"{len(inputs)} inputs were given; the operator has {len(self.inputs)}.")
        other = Operator(self._func, inputs)
        other.differentiable = self.differentiable
        return other

    def copy_inputs(self, arrange: Arrange | None = None) -> tuple[Any, ...]:
        """Return copies of the inputs that no other call has, in another layout if `arrange` is given."""
        copies: list[Any] = []
        for index, value in enumerate(self.inputs):
            if isinstance(value, Tensor):
                copy = copy_contiguously(value)
                if arrange is not None and is_dense(copy):
                    copy = arrange(copy)
                copies.append(copy.requires_grad_(index in self.differentiable))
            else:
                copies.append(value)
        return tuple(copies)

    def call(self, inputs: Sequence[Any]) -> Tensors:
        """Return the tensors among the outputs.

        Raises
        ------
        TensorError
            There is none.
        """
        outputs = tuple(_iterate_tensors(self._func(*inputs)))
        if not outputs:
            raise TensorError("The operator returned no tensor. Return one, or a tuple of tensors.")
        return outputs

    def get_differentiable(self, inputs: Sequence[Any]) -> Tensors:
        """Return the differentiable ones of inputs."""
        return tuple(inputs[index] for index in self.differentiable)

    def backward(
        self, outputs: Tensors, inputs: Sequence[Any], upstream: Mapping[int, Tensor], *, keep_graph: bool = False
    ) -> Gradients:
        """Return the gradients of differentiable inputs.

        Parameters
        ----------
        outputs, inputs
            Those of one call.
        upstream
            Upstream gradients by the number of their output.
        keep_graph
            True if another backward pass follows.
        """
        numbers = [number for number in upstream if outputs[number].requires_grad]
        return torch.autograd.grad(
            [outputs[number] for number in numbers],
            self.get_differentiable(inputs),
            [upstream[number] for number in numbers],
            retain_graph=keep_graph,
            allow_unused=True,
        )

    def run(self, upstream: Mapping[int, Tensor], arrange: Arrange | None = None) -> OperatorRun:
        """Call the operator with copies of its inputs, and its backward pass with upstream gradients."""
        inputs = self.copy_inputs(arrange)
        outputs = self.call(inputs)
        gradients = self.backward(outputs, inputs, upstream)
        return OperatorRun(tuple(output.detach() for output in outputs), gradients)


def make_upstream(outputs: Tensors, generator: torch.Generator) -> dict[int, Tensor]:
    """Return random, contiguous upstream gradients of the differentiable outputs, by number.

    Raises
    ------
    TensorError
        No output is differentiable.
    """
    upstream = {
        number: torch.randn(output.shape, generator=generator, dtype=_get_drawn_dtype(output)).to(output)
        for number, output in enumerate(outputs)
        if output.requires_grad
    }
    if not upstream:
        raise TensorError("No output of the operator depends on its inputs for autograd. Does it detach them?")
    return upstream


def _get_drawn_dtype(output: Tensor) -> torch.dtype:
    return torch.complex128 if output.is_complex() else torch.float64


def _find_differentiable(inputs: tuple[Any, ...]) -> tuple[int, ...]:
    floats = [
        index
        for index, value in enumerate(inputs)
        if isinstance(value, Tensor) and (value.is_floating_point() or value.is_complex())
    ]
    chosen = [index for index in floats if inputs[index].requires_grad]
    return tuple(chosen or floats)


def _refuse_without_arithmetic(tensor: Tensor, index: int) -> None:
    if torch.finfo(tensor.dtype).bits < _MIN_BITS:
        raise TensorError(
            f"Input {index} has datatype {tensor.dtype}, in which torch does not compute. Give it in torch.bfloat16 or "
            "a wider one, and have the operator convert it."
        )


def _iterate_tensors(outputs: Any) -> Iterator[Tensor]:
    if isinstance(outputs, Tensor):
        yield outputs
    elif isinstance(outputs, Mapping):
        for value in cast("Mapping[Any, Any]", outputs).values():
            yield from _iterate_tensors(value)
    elif isinstance(outputs, list | tuple):
        for value in cast("Sequence[Any]", outputs):
            yield from _iterate_tensors(value)
