"""A function of a caller between torch's tensors and the real numbers of a check, and its products by autograd."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from gradcheckd.errors import GradcheckdError
from gradcheckd.lazy_attribute import lazy_attribute
from gradcheckd.torch.check_settings import CheckSettings
from gradcheckd.torch.function_values import as_tuple, is_complex, is_differentiable, is_floating
from gradcheckd.torch.gradient_function import GradientFunction
from gradcheckd.torch.moved_input import (
    MovedInput,
    RealNumbers,
    as_numbers,
    copy_numbers,
    read_moved_input,
    read_numbers,
)
from gradcheckd.torch.torch_internals import NONDETERMINISM_NOTE, GradcheckError, densify

_forward_ad: Any = forward_ad
Numbers = Mapping[str, RealNumbers]
"""Real numbers by the name of an input or an output."""


class OutputShapeError(GradcheckdError):
    """Outputs of other shapes than at the base: the function has no value to compare there."""


class TorchFunction:
    """A function with the inputs that are moved and the outputs that are judged.

    Parameters
    ----------
    func
        Function of the caller.
    inputs
        Its inputs.
    results
        Its results at these inputs, with their graph.
    settings
        Settings of the check.

    Raises
    ------
    UnjudgeableError
        An input has a layout that only torch's own comparison takes.
    """

    def __init__(
        self, func: Callable[..., Any], inputs: Sequence[Any], results: Sequence[Any], settings: CheckSettings
    ) -> None:
        self._func, self._inputs, self._results, self._settings = func, inputs, results, settings
        # As torch does: a function that is not masked reads zeros where a sparse input has no element.
        self._numerical_inputs: Sequence[Any] = inputs if settings.masked else densify(tuple(inputs))
        self.moved = [
            read_moved_input(index, tensor, self._numerical_inputs[index])
            for index, tensor in enumerate(inputs)
            if is_differentiable(tensor)
        ]
        self.is_constant = not any(map(is_differentiable, results))
        is_judged = is_floating if self.is_constant else is_differentiable
        self._judged = {
            f"output{index}": index for index, result in enumerate(results) if is_judged(result) and result.numel()
        }
        self._needs_grad: bool | None = None
        self._shapes = tuple(map(_get_shape, results))
        self.tangent_inputs: list[str] = []
        """Name of the input that each tangent so far moves."""
        self._tangent_squares: dict[str, list[float]] = {name: [] for name in self._judged}

    @property
    def point(self) -> dict[str, RealNumbers]:
        """Return the numbers of the inputs; empty ones have none."""
        return {moved.name: moved.base_numbers for moved in self.nonempty_inputs}

    @lazy_attribute
    def nonempty_inputs(self) -> list[MovedInput]:
        """Return the inputs that are not empty."""
        return [moved for moved in self.moved if moved.base.numel()]

    @property
    def size(self) -> int:
        """Return the count of real numbers of the inputs."""
        return sum(moved.base.numel() for moved in self.moved)

    @property
    def unit_roundoff(self) -> float:
        """Return that of the least precise datatype of inputs and outputs."""
        tensors = [moved.tensor for moved in self.moved] + [self._results[index] for index in self._judged.values()]
        return max(torch.finfo(tensor.dtype).eps / 2 for tensor in tensors)

    @property
    def sizes(self) -> dict[str, float] | None:
        """Return the largest size of each input, and of that whose gradient an output is; None for other functions."""
        if not isinstance(self._func, GradientFunction):
            return None
        inputs = {moved.index: float(moved.base.abs().max()) or 1.0 for moved in self.nonempty_inputs}
        outputs = {f"output{number}": inputs.get(index, 1.0) for number, index in enumerate(self._func.gradient_inputs)}
        return outputs | {f"input{index}": size for index, size in inputs.items()}

    @property
    def has_complex_tensors(self) -> bool:
        """Tell whether an input that is moved or an output that is judged is complex."""
        return any(map(is_complex, (*(moved.tensor for moved in self.moved), *self._results)))

    @property
    def is_vacuous(self) -> bool:
        """Tell whether there is nothing to move, or nothing to judge."""
        return not (self.point and self._judged)

    @property
    def has_unmoved_elements(self) -> bool:
        """Tell whether an input has elements that stay: those that are not stored, or infinite."""
        return any(moved.positions is not None or moved.infinite is not None for moved in self.moved)

    def evaluate(self, point: Numbers) -> dict[str, RealNumbers]:
        """Return the numbers of the outputs with the inputs moved to a point, and move them back.

        Raises
        ------
        OutputShapeError
            The outputs have other shapes than at the base.
        """
        changed = [moved for moved in self.nonempty_inputs if not moved.is_at_base(point[moved.name])]
        try:
            # Others stay untouched: they may be views of the same memory.
            for moved in changed:
                moved.move(point[moved.name])
            return self._evaluate_here()
        finally:
            for moved in changed:
                moved.move_back()

    def _evaluate_here(self) -> dict[str, RealNumbers]:
        results = None
        if self._needs_grad is None:
            results = self._find_results_without_grad()
            self._needs_grad = results is None
        if results is None:
            with torch.set_grad_enabled(self._needs_grad):
                results = as_tuple(self._func(*self._numerical_inputs))
            self._refuse_other_shapes(results)
        # A copy: a result may be a view of an input.
        return {name: copy_numbers(results[index]) for name, index in self._judged.items()}

    def _find_results_without_grad(self) -> Sequence[Any] | None:
        """Return the results of the function without recording; None where others than with, as of its own gradients.

        Only at the base are those with recording known.
        """
        try:
            with torch.no_grad():
                results = as_tuple(self._func(*self._numerical_inputs))
            self._refuse_other_shapes(results)
        except Exception:  # noqa: BLE001 - of any kind: with recording, the caller sees it
            return None
        is_same = all(
            torch.equal(read_numbers(results[index]), read_numbers(self._results[index]))
            for index in self._judged.values()
        )
        return results if is_same else None

    def _refuse_other_shapes(self, results: Sequence[Any]) -> None:
        shapes = tuple(map(_get_shape, results))
        if shapes != self._shapes:
            here, base = ([None if shape is None else list(shape) for shape in each] for each in (shapes, self._shapes))
            raise OutputShapeError(f"outputs have shapes {here} here, and {base} at the base")

    def compute_vjp(self, _: Numbers, cotangents: Numbers) -> dict[str, Tensor]:
        """Return the gradient of the output whose cotangent is not zero; the graph is that at the base.

        Raises
        ------
        GradcheckError
            A second backward pass differs by more than `nondet_tol`, or a gradient has another shape or datatype.
        """
        if self.is_constant:
            return {moved.name: torch.zeros_like(moved.base) for moved in self.nonempty_inputs}
        first, second = self._differentiate(cotangents), self._differentiate(cotangents)
        for name, gradient in first.items():
            if gradient.numel() and (gradient - second[name]).abs().max() > self._settings.nondet_tol:
                raise GradcheckError(
                    "Backward is not reentrant, i.e., running backward with same input and grad_output multiple times "
                    f"gives different values for {name}. The tolerance for nondeterminism was "
                    f"{self._settings.nondet_tol}.{NONDETERMINISM_NOTE}"
                )
        return first

    def _differentiate(self, cotangents: Numbers) -> dict[str, Tensor]:
        # Outputs without a cotangent stay undefined in the backward pass, as in torch's checker.
        chosen = [name for name, cotangent in cotangents.items() if cotangent.any()]
        outputs = [self._results[self._judged[name]] for name in chosen]
        moved = self.nonempty_inputs
        gradients: Sequence[Tensor | None] = torch.autograd.grad(
            outputs,
            [each.tensor for each in moved],
            [_restore(cotangents[name], output) for name, output in zip(chosen, outputs, strict=True)],
            retain_graph=True,
            allow_unused=True,
        )
        return {each.name: self._read_gradient(each, gradient) for each, gradient in zip(moved, gradients, strict=True)}

    def _read_gradient(self, moved: MovedInput, gradient: Tensor | None) -> Tensor:
        if gradient is not None and self._settings.check_grad_dtypes and gradient.dtype != moved.tensor.dtype:
            raise GradcheckError(
                f"Gradient has dtype mismatch: {gradient.dtype}; input {moved.index} has {moved.tensor.dtype}."
            )
        return moved.read_gradient(gradient, masked=bool(self._settings.masked))

    @property
    def tangent_size(self) -> float:
        """Return the root mean square of all tangents of an output so far; the smallest one of several, or 0."""
        sizes = [math.sqrt(sum(squares) / len(squares)) for squares in self._tangent_squares.values() if squares]
        return min((size for size in sizes if 0 < size < math.inf), default=0.0)

    def compute_jvp(self, _: Numbers, tangents: Numbers) -> dict[str, Tensor]:
        """Return the tangents of the outputs by forward mode.

        Raises
        ------
        GradcheckError
            A tangent is complex where its output is real, or the reverse.
        """
        self.tangent_inputs.append(next(name for name, tangent in tangents.items() if tangent.any()))
        if self.is_constant:
            return {name: torch.zeros_like(read_numbers(self._results[index])) for name, index in self._judged.items()}
        arguments = list(self._inputs)
        with _forward_ad.dual_level():
            for moved in self.moved:
                primal = moved.tensor.detach()
                tangent = tangents.get(moved.name)
                arguments[moved.index] = _forward_ad.make_dual(
                    primal, torch.zeros_like(primal) if tangent is None else moved.make_tangent(tangent)
                )
            results = as_tuple(self._func(*arguments))
            products = {name: self._read_tangent(results[index]) for name, index in self._judged.items()}
        for name, product in products.items():
            self._tangent_squares[name].append(float(product.double().square().mean()))
        return products

    def _read_tangent(self, result: Tensor) -> Tensor:
        primal, tangent = _forward_ad.unpack_dual(result)
        if tangent is None:
            return torch.zeros_like(read_numbers(primal))
        if tangent.is_complex() != primal.is_complex():
            if self._settings.check_grad_dtypes:
                raise GradcheckError("Forward AD gradient has dtype mismatch.")
            tangent = tangent.to(primal.dtype)
        return read_numbers(tangent).clone()


def _restore(numbers: RealNumbers, like: Tensor) -> Tensor:
    restored = as_numbers(numbers).to(like.device)
    return torch.view_as_complex(restored) if like.is_complex() else restored


def _get_shape(value: Any) -> torch.Size | None:
    return value.shape if isinstance(value, Tensor) else None
