"""Operators whose derivative is wrong in a stated way: the identity before one input alters what passes back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd import forward_ad

from benchmarks.operator_samples import OperatorSample, Section, as_tensors

KINDS = DOUBLED, SIGN, ALL, ELEMENT = "one doubled", "sign of one", "all", "one x 1.0001"
ELEMENT_ERROR = 1e-4
MATTERING_FRACTION = 1e-2
"""Share of the largest derivative from which on an altered one counts."""
_TRIED_ELEMENTS = 8


@dataclass(frozen=True)
class PlantedError:
    """Factors by which the derivative by one input is wrong.

    Attributes
    ----------
    input_index
        Number of the input.
    factors
        Factors of the shape of the input.
    """

    input_index: int
    factors: torch.Tensor


def plant_error(sample: OperatorSample, section: Section, error: PlantedError) -> Callable[..., Any]:
    """Return the function of a sample with an error: in backward mode, in forward mode, or in the second backward."""
    identity: Any = _SecondBackward if section.order == 2 else _Forward if section.is_forward else _Backward

    def evaluate(*inputs: torch.Tensor) -> Any:
        moved = list(inputs)
        moved[error.input_index] = identity.apply(inputs[error.input_index], error.factors)
        return sample.function(*moved)

    return evaluate


def draw_errors(sample: OperatorSample, section: Section) -> dict[str, PlantedError]:
    """Draw one error of each kind that changes the derivatives by a part that matters; none where there is none.

    A derivative of zero has no factor, and an element of 1e-9 of the largest one is lost in the rounding of others. One
    that changes an output by less than its roundoff, over the whole input, is zero as far as values show.
    """
    generator = torch.Generator().manual_seed(sample.seed)
    places = [(index, position) for index, tensor in enumerate(sample.inputs) for position in range(tensor.numel())]
    order = torch.randperm(len(places), generator=generator)[:_TRIED_ELEMENTS].tolist()
    derivatives = _differentiate(sample.function, sample, section)
    largest = _measure_largest(derivatives)
    if is_zero_to_rounding(sample, section, largest):
        return {}
    for index, position in (places[number] for number in order):
        doubled = _scale_element(sample.inputs[index], position, 2.0)
        wrong = _differentiate(plant_error(sample, section, PlantedError(index, doubled)), sample, section)
        change = _measure_largest([one - other for one, other in zip(wrong, derivatives, strict=True)])
        if change >= MATTERING_FRACTION * largest > 0:
            return _make_errors(sample.inputs[index], index, position, section)
    return {}


def is_zero_to_rounding(sample: OperatorSample, section: Section, largest: float) -> bool:
    """Tell whether the largest derivative changes no output by as much as its roundoff, over the size of the inputs."""
    if section.order == 2:
        return False
    roundoff = torch.finfo(section.dtype).eps / 2
    change = largest * _measure_largest(sample.inputs)
    return change < roundoff * _measure_largest(as_tensors(sample.function(*sample.inputs)))


def _make_errors(tensor: torch.Tensor, index: int, position: int, section: Section) -> dict[str, PlantedError]:
    factors = {
        DOUBLED: _scale_element(tensor, position, 2.0),
        SIGN: _scale_element(tensor, position, -1.0),
        ALL: torch.full(tensor.shape, 1.0 + section.scale_error, dtype=torch.float64),
    }
    if section.dtype == torch.float64 or section.dtype.is_complex:
        factors[ELEMENT] = _scale_element(tensor, position, 1.0 + ELEMENT_ERROR)
    return {kind: PlantedError(index, factor) for kind, factor in factors.items()}


def _scale_element(tensor: torch.Tensor, position: int, factor: float) -> torch.Tensor:
    factors = torch.ones(tensor.shape, dtype=torch.float64)
    factors.reshape(-1)[position] = factor
    return factors


def _measure_largest(tensors: Sequence[torch.Tensor]) -> float:
    return max(
        (float(tensor.detach().abs().nan_to_num(0, 0, 0).max()) for tensor in tensors if tensor.numel()), default=0.0
    )


def _differentiate(function: Callable[..., Any], sample: OperatorSample, section: Section) -> list[torch.Tensor]:
    """Return products of the derivatives with fixed random numbers."""
    generator = torch.Generator().manual_seed(sample.seed)
    inputs = [tensor.detach().clone().requires_grad_() for tensor in sample.inputs]
    if section.is_forward:
        return _push_forward(function, inputs, [_draw_like(tensor, generator) for tensor in inputs])
    outputs = [output for output in as_tensors(function(*inputs)) if output.requires_grad]
    cotangents = [_draw_like(output, generator) for output in outputs]
    products = _multiply(outputs, inputs, cotangents, create_graph=section.order == 2)
    if section.order == 1:
        return products
    seconds = [product for product in products if product.requires_grad]
    return _multiply(seconds, inputs, [_draw_like(product, generator) for product in seconds], create_graph=False)


def _push_forward(
    function: Callable[..., Any], inputs: Sequence[torch.Tensor], tangents: Sequence[torch.Tensor]
) -> list[torch.Tensor]:
    with forward_ad.dual_level():
        duals = [forward_ad.make_dual(*pair) for pair in zip(map(torch.Tensor.detach, inputs), tangents, strict=True)]
        pairs = [forward_ad.unpack_dual(output) for output in as_tensors(function(*duals))]
        return [torch.zeros_like(primal) if tangent is None else tangent.clone() for primal, tangent in pairs]


def _multiply(
    outputs: Sequence[torch.Tensor],
    inputs: Sequence[torch.Tensor],
    cotangents: Sequence[torch.Tensor],
    *,
    create_graph: bool,
) -> list[torch.Tensor]:
    if not outputs:
        return []
    gradients: Any = torch.autograd.grad(outputs, inputs, cotangents, create_graph=create_graph, allow_unused=True)
    return [
        torch.zeros_like(tensor) if gradient is None else gradient
        for gradient, tensor in zip(gradients, inputs, strict=True)
    ]


def _draw_like(tensor: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    # Bounded away from zero, so that no part of a derivative is hidden.
    drawn = torch.rand(tensor.shape, generator=generator, dtype=torch.float64) + 0.5
    return drawn.to(tensor.dtype)


def _scale(tensor: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    return tensor * factors.to(tensor.real.dtype if tensor.is_complex() else tensor.dtype)


class _Backward(torch.autograd.Function):
    """The identity with a wrong gradient."""

    @staticmethod
    def forward(tensor: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
        return tensor.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.factors = inputs[1]

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        return _scale(gradient, ctx.factors), None


class _Forward(_Backward):
    """The identity with a wrong tangent."""

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        return gradient, None

    @staticmethod
    def jvp(ctx: Any, tangent: torch.Tensor, _: Any) -> Any:
        return _scale(tangent, ctx.factors)


class _SecondBackward(_Backward):
    """The identity with a right gradient, whose own gradient is wrong."""

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        return _Backward.apply(gradient, ctx.factors), None
