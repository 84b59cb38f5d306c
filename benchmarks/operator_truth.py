"""The truth beside derivatives of operators that gradcheckd refuses, or leaves undecided: `python -m` this module.

A refused derivative is held against derivatives with 50 digits, by a formula of the operator's own definition. It is
off if the largest error exceeds that of a small difference, 1e-8 of the derivative in float64. Without such a formula,
forward mode is held against backward mode where that agrees with central differences of sixth order. Of second
derivatives that round badly both errors are printed: that of torch's, and that of differences of torch's gradient. A
refusal that none of these explains counts as one of a right derivative.

A function without a derivative at the point has no right gradient. It shows by differences of one side, over moves
that shrink: those of a jump grow, and those of a kink are not the same on both sides.
"""

from benchmarks import one_thread  # isort: skip # noqa: F401 - before anything that computes

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import mpmath
import torch
from torch.autograd import forward_ad

from benchmarks import saved_results
from benchmarks.lowrank_truth import measure_second_order_errors
from benchmarks.operator_samples import SECTIONS, OperatorSample, Section, as_tensors, draw_samples, list_operators
from benchmarks.operator_tables import get_operator_name, is_formula_off, lacks_derivative
from gradcheckd.torch.gradient_function import GradientFunction, make_grad_outputs

DIGITS = 50
FORMULA_ERROR = 1e-8
"""Relative error from which on a formula in float64 is off."""
_STEP = 2.0**-12
"""Smallest of the steps of the central differences beside backward mode."""
_STEPS = (2.0**-24, -(2.0**-24), 2.0**-30, -(2.0**-30))
_SINGULAR_CHANGE = 1e-2
"""Relative difference of both sides, or over smaller moves, from which on there is no derivative."""
_TRIED_DIRECTIONS = 8


def _hardsigmoid(x: Any) -> Any:
    return min(max(x + 3, mpmath.mpf(0)), mpmath.mpf(6)) / 6


TRUTHS: Mapping[str, Callable[[Any], Any]] = {
    "nn_functional_hardsigmoid": _hardsigmoid,
    "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
}
"""Operators of one input, element by element, by their definitions."""
LOW_RANK_OPERATORS = ("svd_lowrank", "pca_lowrank")
_CENTRED_SAMPLE = "pca_lowrank[1]"
"""Sample with `center=True`; the other samples of both operators that are examined have `center=False`, or `M=None`."""


def measure_formula_error(sample: OperatorSample, truth: Callable[[Any], Any]) -> float:
    """Return the largest relative error of the gradient of an operator that works element by element."""
    (tensor,) = (tensor.detach().clone().requires_grad_() for tensor in sample.inputs)
    (output,) = as_tensors(sample.function(tensor))
    (gradient,) = torch.autograd.grad(output.sum(), tensor)
    with mpmath.workdps(DIGITS):
        errors = [
            _measure_error(mpmath.diff(truth, mpmath.mpf(x)), mpmath.mpf(derivative))
            for x, derivative in zip(tensor.flatten().tolist(), gradient.flatten().tolist(), strict=True)
        ]
    return max(errors)


def _measure_error(right: Any, derivative: Any) -> float:
    return float(abs(derivative - right) / abs(right)) if right else float("inf" if derivative else 0)


def measure_forward_error(sample: OperatorSample) -> float:
    """Return the largest error of forward mode, relative to the largest derivative, of a function of one input.

    Backward mode is the truth if it agrees with central differences, extrapolated twice, to a tenth of `FORMULA_ERROR`;
    else the result is NaN.
    """
    (tensor,) = (tensor.detach() for tensor in sample.inputs)
    jacobian: Any = torch.autograd.functional.jacobian
    backward = jacobian(sample.function, tensor)
    forward, differences = (
        torch.stack([derive(sample.function, tensor, index) for index in range(tensor.numel())], dim=-1)
        for derive in (_push_forward, _difference)
    )
    largest = float(backward.abs().max())
    if float((differences.reshape(backward.shape) - backward).abs().max()) > FORMULA_ERROR / 10 * largest:
        return float("nan")
    return float((forward.reshape(backward.shape) - backward).abs().max()) / largest


def _push_forward(function: Callable[..., Any], tensor: torch.Tensor, index: int) -> torch.Tensor:
    tangent = _make_unit(tensor, index)
    with forward_ad.dual_level():
        primal, product = forward_ad.unpack_dual(function(forward_ad.make_dual(tensor, tangent)))
        return torch.zeros_like(primal) if product is None else product.clone()


def _make_unit(tensor: torch.Tensor, index: int) -> torch.Tensor:
    # Contiguous, whatever the strides of the tensor: only then is the flat form a view.
    unit = torch.zeros(tensor.shape, dtype=tensor.dtype)
    unit.reshape(-1)[index] = 1.0
    return unit


def _difference(function: Callable[..., Any], tensor: torch.Tensor, index: int) -> torch.Tensor:
    """Return the derivative by an element: steps h, 2 h and 4 h leave an error of h^6."""
    one, two, four = (_difference_once(function, tensor, index, factor * _STEP) for factor in (1, 2, 4))
    finer, coarser = (4 * one - two) / 3, (4 * two - four) / 3
    return (16 * finer - coarser) / 15


def _difference_once(function: Callable[..., Any], tensor: torch.Tensor, index: int, step: float) -> torch.Tensor:
    move = step * _make_unit(tensor, index)
    return (function(tensor + move) - function(tensor - move)) / (2 * step)


def has_derivative(sample: OperatorSample) -> bool:
    """Tell whether the function has the same derivative on both sides along some directions, over two moves each."""
    generator = torch.Generator().manual_seed(sample.seed)
    for index, tensor in enumerate(sample.inputs):
        for _ in range(_TRIED_DIRECTIONS):
            direction = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
            slopes = torch.stack([_change(sample, index, step * direction) / step for step in _STEPS])
            if (slopes - slopes[0]).norm(dim=1).max() > _SINGULAR_CHANGE * (1 + slopes.norm(dim=1).min()):
                return False
    return True


def take_judged_function(sample: OperatorSample, section: Section) -> OperatorSample:
    """Return the function whose derivative a section judges, in float64: that of a sample, or its gradient."""
    sample = sample.reference or sample
    if section.order == 1:
        return sample
    upstream = make_grad_outputs(sample.function, sample.inputs, noncontiguous=False)
    function = GradientFunction(sample.function, sample.inputs, upstream)
    return replace(sample, function=function, inputs=(*sample.inputs, *upstream))


def _change(sample: OperatorSample, index: int, move: torch.Tensor) -> torch.Tensor:
    """Return the change of all outputs by a move of one input."""
    moved = list(sample.inputs)
    moved[index] = moved[index] + move.to(moved[index].dtype)
    with torch.no_grad():
        pairs = zip(as_tensors(sample.function(*moved)), as_tensors(sample.function(*sample.inputs)), strict=True)
        changes = [(there - here).flatten() for there, here in pairs]
    return torch.cat([torch.view_as_real(part).flatten() if part.is_complex() else part for part in changes]).double()


def examine_section(section: Section, counts: Mapping[str, Any], seed: int) -> Iterator[tuple[str, str]]:
    """Yield the refused and undecided samples of a section with the truth on each."""
    others = counts["others"]
    names = [*others["refused"], *others["undecided"]]
    for sample in _draw_named(section, names, seed):
        if sample.name in others["undecided"]:
            is_smooth = has_derivative(take_judged_function(sample, section))
            yield sample.name, f"undecided: has {'a' if is_smooth else 'no'} derivative"
        elif truth := TRUTHS.get(get_operator_name(sample.name)):
            yield sample.name, f"refused: off by {measure_formula_error(sample, truth):.1e}"
        elif section.order == 2 and get_operator_name(sample.name) in LOW_RANK_OPERATORS:
            yield sample.name, f"refused: {describe_second_order(sample)}"
        elif section.is_forward and len(sample.inputs) == 1:
            yield sample.name, f"refused: forward mode is off by {measure_forward_error(sample):.1e}"
        else:
            yield sample.name, "refused: no truth is known"


def describe_second_order(sample: OperatorSample) -> str:
    """Describe the errors of second derivatives of a low-rank decomposition."""
    errors = measure_second_order_errors(sample, is_centred=sample.name == _CENTRED_SAMPLE)
    return f"off by {errors.formula:.1e}, differences of the gradient by {errors.differences:.1e}"


def _draw_named(section: Section, names: Sequence[str], seed: int) -> Iterator[OperatorSample]:
    operators = {get_operator_name(name) for name in names}
    for operator in list_operators(section):
        if operator.formatted_name in operators:
            yield from (sample for sample in draw_samples(operator, section, seed) if sample.name in names)


def main() -> None:
    """Print the truth on what the last run of `make operators` did not pass."""
    document = json.loads((saved_results.RESULTS / "operator_database.json").read_text())
    for section in (section for section in SECTIONS if section.name in document["sections"]):
        for name, finding in examine_section(section, document["sections"][section.name], document["seed"]):
            known = is_formula_off(section.name, name) or lacks_derivative(name)
            print(f"{section.name}: {name}: {finding}{'' if known else ' (in no table)'}")


if __name__ == "__main__":
    main()
