"""Second derivatives of low-rank decompositions with 50 digits, beside those of torch: the truth on their refusals.

`svd_lowrank` and `pca_lowrank` of a matrix A = a b^T with as many columns in a and b as singular values are sought are
no approximations: they return the singular values of A, and U V^H, its polar factor. With the QR decompositions
a = Q_a R_a and conj(b) = Q_b R_b, and C = R_a R_b^H, of 2 columns,

    U V^H = Q_a C (C^H C)^(-1/2) Q_b^H,    (C^H C)^(1/2) = (C^H C + s I) / sqrt(trace(C^H C) + 2 s),

where s = sqrt(det(C^H C)). Nothing iterates, and nothing is random. The loss is Re sum(conj(w) outputs) for weights w;
an element of its Hessian times a direction is a mixed central difference, of which 50 digits leave 25.

torch's second derivatives round worse than the differences of its own gradient: another matrix, equal to 15 digits, has
another error of the same size.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import mpmath
import torch

from benchmarks.operator_samples import OperatorSample

DIGITS = 50
COLUMNS = 2
"""Columns of both factors, as in the database."""
_MP_STEP = mpmath.mpf(10) ** -12
_STEPS = (2.0**-9, 2.0**-8, 2.0**-7)
TRIALS = 4
"""Weights and directions that are tried."""
Matrix = Any
"""A matrix of mpmath."""


class SecondOrderErrors(NamedTuple):
    """Largest errors of a Hessian times directions, relative to the largest element of each.

    Attributes
    ----------
    formula
        Error of torch's second derivatives.
    differences
        Error of central differences of torch's gradient.
    """

    formula: float
    differences: float


def measure_second_order_errors(sample: OperatorSample, *, is_centred: bool, trials: int = TRIALS) -> SecondOrderErrors:
    """Measure the second derivatives of a decomposition along random directions.

    Parameters
    ----------
    sample
        Function of a and b, complex, with 2 columns each, that returns U V^H and the singular values.
    is_centred
        True if the function subtracts the mean of the rows of a first.
    trials
        Number of directions, each with random weights of the outputs.
    """
    generator = torch.Generator().manual_seed(sample.seed)
    rows = [_measure_along_direction(sample, generator, is_centred=is_centred) for _ in range(trials)]
    return SecondOrderErrors(*map(max, zip(*rows, strict=True)))


def _measure_along_direction(
    sample: OperatorSample, generator: torch.Generator, *, is_centred: bool
) -> tuple[float, float]:
    point = torch.cat([_list_reals(tensor.detach()) for tensor in sample.inputs])
    shapes = [tensor.shape for tensor in sample.inputs]
    weights = [
        torch.randn(output.shape, dtype=output.dtype, generator=generator) for output in sample.function(*sample.inputs)
    ]
    direction = torch.randn(point.shape, dtype=point.dtype, generator=generator)

    def compute_gradient(reals: torch.Tensor) -> torch.Tensor:
        reals = reals if reals.requires_grad else reals.clone().requires_grad_()
        outputs = sample.function(*_read_complex(reals, shapes))
        losses = [(weight.conj() * output).real.sum() for weight, output in zip(weights, outputs, strict=True)]
        return torch.autograd.grad(losses[0] + losses[1], reals, create_graph=True)[0]

    leaf = point.clone().requires_grad_()
    formula = torch.autograd.grad(compute_gradient(leaf) @ direction, leaf)[0]
    differences = _difference(lambda reals: compute_gradient(reals).detach(), point, direction)
    truth = _compute_truth(point, direction, shapes, weights, is_centred=is_centred)
    largest = float(truth.abs().max())
    first, second = (float((derivatives - truth).abs().max()) / largest for derivatives in (formula, differences))
    return first, second


def _list_reals(tensor: torch.Tensor) -> torch.Tensor:
    return torch.view_as_real(tensor.resolve_conj().contiguous()).flatten()


def _read_complex(reals: torch.Tensor, shapes: Sequence[torch.Size]) -> list[torch.Tensor]:
    parts = reals.split([2 * shape.numel() for shape in shapes])
    return [torch.view_as_complex(part.reshape(*shape, 2)) for part, shape in zip(parts, shapes, strict=True)]


def _difference(
    function: Callable[[torch.Tensor], torch.Tensor], point: torch.Tensor, direction: torch.Tensor
) -> torch.Tensor:
    """Return the derivative along a direction: steps h, 2 h and 4 h leave an error of h^6."""
    one, two, four = (
        (function(point + step * direction) - function(point - step * direction)) / (2 * step) for step in _STEPS
    )
    finer, coarser = (4 * one - two) / 3, (4 * two - four) / 3
    return (16 * finer - coarser) / 15


def _compute_truth(
    point: torch.Tensor,
    direction: torch.Tensor,
    shapes: Sequence[torch.Size],
    weights: Sequence[torch.Tensor],
    *,
    is_centred: bool,
) -> torch.Tensor:
    """Return the Hessian of the loss times a direction."""
    with mpmath.workdps(DIGITS):
        base, along = ([mpmath.mpf(number) for number in tensor.tolist()] for tensor in (point, direction))
        factor_weights = _to_matrix(weights[0])
        value_weights = [mpmath.mpf(number) for number in weights[1].tolist()]

        def evaluate(index: int, sign: int, step: int) -> Any:
            reals = [number + step * _MP_STEP * move for number, move in zip(base, along, strict=True)]
            reals[index] += sign * _MP_STEP
            factor, values = decompose(*_read_matrices(reals, shapes), is_centred=is_centred)
            products = (
                mpmath.conj(factor_weights[i, j]) * factor[i, j] for i in range(factor.rows) for j in range(factor.cols)
            )
            return mpmath.fsum(products).real + mpmath.fdot(value_weights, values)

        column = [
            sum(sign * step * evaluate(index, sign, step) for sign in (1, -1) for step in (1, -1)) / (4 * _MP_STEP**2)
            for index in range(len(base))
        ]
        return torch.tensor([float(number) for number in column], dtype=torch.float64)


def _read_matrices(reals: Sequence[Any], shapes: Sequence[torch.Size]) -> list[Matrix]:
    numbers = iter(reals)
    return [
        mpmath.matrix([[mpmath.mpc(next(numbers), next(numbers)) for _ in range(shape[1])] for _ in range(shape[0])])
        for shape in shapes
    ]


def _to_matrix(tensor: torch.Tensor) -> Matrix:
    return mpmath.matrix([[mpmath.mpc(number) for number in row] for row in tensor.detach().resolve_conj().tolist()])


def decompose(left: Matrix, right: Matrix, *, is_centred: bool) -> tuple[Matrix, list[Any]]:
    """Return U V^H and the singular values, descending, of left right^T."""
    if is_centred:
        left = _subtract_mean(left)
    left_basis, left_triangle = _orthogonalize(left)
    right_basis, right_triangle = _orthogonalize(right.apply(mpmath.conj))
    core = left_triangle * right_triangle.H
    square = core.H * core
    trace = (square[0, 0] + square[1, 1]).real
    root = mpmath.sqrt((square[0, 0] * square[1, 1] - square[0, 1] * square[1, 0]).real)
    modulus = (square + root * mpmath.eye(COLUMNS)) / mpmath.sqrt(trace + 2 * root)
    spread = mpmath.sqrt(((square[0, 0] - square[1, 1]).real / 2) ** 2 + abs(square[0, 1]) ** 2)
    values = [mpmath.sqrt(trace / 2 + spread), mpmath.sqrt(trace / 2 - spread)]
    return left_basis * core * modulus**-1 * right_basis.H, values


def _subtract_mean(matrix: Matrix) -> Matrix:
    means = [mpmath.fsum(matrix[:, column]) / matrix.rows for column in range(matrix.cols)]
    return mpmath.matrix(
        [[matrix[row, column] - means[column] for column in range(matrix.cols)] for row in range(matrix.rows)]
    )


def _orthogonalize(matrix: Matrix) -> tuple[Matrix, Matrix]:
    """Return the factors of a QR decomposition, by Gram and Schmidt."""
    basis, triangle = mpmath.matrix(matrix.rows, matrix.cols), mpmath.matrix(matrix.cols, matrix.cols)
    for column in range(matrix.cols):
        rest = matrix[:, column]
        for earlier in range(column):
            triangle[earlier, column] = (basis[:, earlier].H * rest)[0]
            rest = rest - triangle[earlier, column] * basis[:, earlier]
        triangle[column, column] = mpmath.norm(rest)
        for row in range(matrix.rows):
            basis[row, column] = rest[row] / triangle[column, column]
    return basis, triangle
