"""Differences of two runs of an operator, and the differences that rounding explains."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gradcheckd.torch.operator_calls import Gradients, Operator, OperatorRun, is_dense

_PROBES = 4
"""Runs from which the effect of rounding is measured."""


@dataclass(frozen=True)
class RoundingLimits:
    """Differences that rounding explains, by output and by gradient; infinite where nothing can be compared."""

    outputs: tuple[float, ...]
    gradients: tuple[float, ...]


@dataclass(frozen=True)
class TensorDifference:
    """The largest difference of one tensor from its reference, and the allowed difference."""

    subject: str
    value: float
    allowed: float

    @property
    def is_allowed(self) -> bool:
        """Tell whether the difference is within the allowed one."""
        return self.value <= self.allowed

    def describe(self) -> str:
        """Return the difference in words."""
        if math.isinf(self.value):
            return f"{self.subject} has another shape than its reference, or other elements that are not finite"
        return f"{self.subject} differs by {self.value:.3g}; allowed are {self.allowed:.3g}"


def measure_rounding(
    operator: Operator, upstream: Mapping[int, Tensor], reference: OperatorRun, seed: int
) -> RoundingLimits:
    """Measure the differences that rounding explains.

    Notes
    -----
    Inputs and upstream gradients are moved by one unit roundoff of their datatype, up or down at random, in 4 runs. The
    largest change of a tensor is the effect of rounding its terms, one by one; a run that is not the same twice adds
    its spread. With the unit roundoff of the largest element, for the rounding of the result, it is multiplied by
    4 + sqrt(n) for sums over up to n numbers, where n is the largest number of elements of an input or an output.
    """
    generator = torch.Generator().manual_seed(seed)
    outputs, gradients = [0.0] * len(reference.outputs), [0.0] * len(reference.gradients)
    for _ in range(_PROBES):
        moved = operator.with_inputs([_move_input(value, generator) for value in operator.inputs])
        run = moved.run({number: _move_tensor(tensor, generator) for number, tensor in upstream.items()})
        outputs = _take_larger(outputs, measure_distances(run.outputs, reference.outputs))
        gradients = _take_larger(gradients, measure_distances(run.gradients, reference.gradients))
    factor = 4 + math.sqrt(max(tensor.numel() for tensor in (*_get_tensors(operator), *reference.outputs)))
    return RoundingLimits(
        _add_unit_roundoff(outputs, reference.outputs, factor),
        _add_unit_roundoff(gradients, reference.gradients, factor),
    )


def compare_gradients(gradients: Gradients, reference: Gradients, allowed: Sequence[float]) -> list[TensorDifference]:
    """Return the difference of each gradient."""
    distances = measure_distances(gradients, reference)
    return [
        TensorDifference(f"gradient {number}", distance, limit)
        for number, (distance, limit) in enumerate(zip(distances, allowed, strict=True))
    ]


def compare_outputs(
    outputs: Sequence[Tensor], reference: Sequence[Tensor], allowed: Sequence[float]
) -> list[TensorDifference]:
    """Return the difference of each output; one of more or fewer outputs is infinite."""
    if len(outputs) != len(reference):
        return [TensorDifference("number of outputs", math.inf, 0.0)]
    distances = measure_distances(outputs, reference)
    return [
        TensorDifference(f"output {number}", distance, limit)
        for number, (distance, limit) in enumerate(zip(distances, allowed, strict=True))
    ]


def measure_distances(tensors: Sequence[Tensor | None], references: Sequence[Tensor | None]) -> list[float]:
    """Return the largest distance of an element for each pair of tensors; None stands for zeros."""
    return [measure_distance(tensor, reference) for tensor, reference in zip(tensors, references, strict=True)]


def measure_distance(tensor: Tensor | None, reference: Tensor | None) -> float:
    """Return the largest distance of an element.

    Elements that are not finite are at distance 0 from the same, and else infinitely far away, as are shapes.
    """
    if tensor is None or reference is None:
        present = reference if tensor is None else tensor
        return 0.0 if present is None else measure_distance(present, torch.zeros_like(present))
    first, second = _widen(tensor), _widen(reference)
    if first.shape != second.shape:
        return math.inf
    finite = torch.isfinite(first) & torch.isfinite(second)
    if not torch.equal(_keep_others(first, finite), _keep_others(second, finite)):
        return math.inf
    distances = (first - second)[finite].abs()
    return float(distances.max()) if distances.numel() else 0.0


def get_unit_roundoff(tensor: Tensor) -> float:
    """Return the distance of 1 to the next number of the datatype; 0 for whole numbers."""
    return torch.finfo(tensor.dtype).eps if tensor.is_floating_point() or tensor.is_complex() else 0.0


def _keep_others(tensor: Tensor, finite: Tensor) -> Tensor:
    """Return elements that are not finite as real numbers, NaN as a number that equals itself."""
    return torch.nan_to_num(torch.view_as_real(tensor[~finite]), nan=0.5)


def _widen(tensor: Tensor) -> Tensor:
    return tensor.detach().to_dense().to(torch.complex128)


def _move_input(value: object, generator: torch.Generator) -> object:
    return _move_tensor(value, generator) if isinstance(value, Tensor) else value


def _move_tensor(value: Tensor, generator: torch.Generator) -> Tensor:
    if not is_dense(value) or not get_unit_roundoff(value):
        return value
    detached = value.detach()
    signs = (torch.randint(0, 2, value.shape, generator=generator) * 2 - 1).to(detached)
    return detached * (1 + get_unit_roundoff(value) * signs)


def _get_tensors(operator: Operator) -> list[Tensor]:
    return [value for value in operator.inputs if isinstance(value, Tensor)]


def _take_larger(numbers: Sequence[float], others: Sequence[float]) -> list[float]:
    return [max(number, other) for number, other in zip(numbers, others, strict=True)]


def _add_unit_roundoff(spreads: Sequence[float], tensors: Sequence[Tensor | None], factor: float) -> tuple[float, ...]:
    return tuple(
        factor * (spread + (0.0 if tensor is None else get_unit_roundoff(tensor) * _find_largest(tensor)))
        for spread, tensor in zip(spreads, tensors, strict=True)
    )


def _find_largest(tensor: Tensor) -> float:
    wide = _widen(tensor).abs()
    finite = wide[torch.isfinite(wide)]
    return float(finite.max()) if finite.numel() else 0.0
