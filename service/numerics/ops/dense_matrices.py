"""Square systems, triangles and determinants of matrices behind a tile axis.

LAPACK computes in float32, float64 and their complex numbers. It has no extended precision, for which Gauss-Jordan
elimination with partial pivoting stands here. A matrix that LAPACK refuses gives NaN, and the others of its stack keep
their results.

References
----------
Higham, Accuracy and Stability of Numerical Algorithms (2002), sections 8.1 (triangles), 9.3 and 9.7 (elimination is
the exact result for a matrix that is off by about u abs(L) abs(U)), 14.4 (Gauss-Jordan elimination).
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from service.numerics.core.batching import Array, Shape, align_rank, sum_broadcast_axes
from service.numerics.core.sparsity import drop_missing, take_elementwise_min
from service.numerics.ops.op import DependencyLabels, ShapeError


def check_square(shape: Shape, slot: str = "input") -> None:
    """Refuse shapes that are no stack of square matrices, by ShapeError."""
    if len(shape) < 2 or shape[-1] != shape[-2]:
        raise ShapeError(f"square matrices as {slot}, of shape (..., n, n)")


def transpose(matrices: Array) -> Array:
    """Return the transposes of matrices: a view."""
    return matrices.swapaxes(-1, -2)


def symmetrise(matrices: Array) -> Array:
    """Return the symmetric parts of matrices."""
    return (matrices + transpose(matrices)) / 2


def align_batches(*stacks: Array) -> list[Array]:
    """Return stacks of matrices with one number of axes, the new ones behind the tile axis."""
    rank = max(stack.ndim for stack in stacks) - 1
    return [align_rank(stack, rank) for stack in stacks]


def sum_to_shape(gradient: Array, operand: Array) -> Array:
    """Sum a gradient over the axes along which its operand was broadcast."""
    summed = sum_broadcast_axes(gradient, operand.shape[1:])
    return summed.reshape(summed.shape[0], *operand.shape[1:])


def solve_systems(matrices: Array, right: Array) -> Array:
    """Return X with A X = B for each matrix A, NaN for a singular one.

    Parameters
    ----------
    matrices
        Matrices, (K or 1, ..., n, n).
    right
        Right sides, (K or 1, ..., n, m).
    """
    dtype = np.result_type(matrices, right)
    if not _has_lapack(dtype):
        return _eliminate(matrices.astype(dtype), right.astype(dtype))[0]
    try:
        return np.linalg.solve(matrices, right)
    except np.linalg.LinAlgError:
        is_regular = (np.linalg.slogdet(matrices)[0] != 0)[..., None, None]
        regular = np.where(is_regular, matrices, np.eye(matrices.shape[-1], dtype=matrices.dtype))
        return np.where(is_regular, np.linalg.solve(regular, right), matrices.dtype.type(np.nan))


def invert(matrices: Array) -> Array:
    """Return the inverses of matrices, NaN for singular ones."""
    return solve_systems(matrices, np.eye(matrices.shape[-1], dtype=matrices.dtype))


def compute_log_determinant(matrices: Array) -> tuple[Array, Array]:
    """Return the sign of each determinant, and the logarithm of its size.

    For complex matrices the logarithm is the analytic continuation from real ones.
    """
    if not _has_lapack(matrices.dtype):
        empty = matrices[..., :0]
        return _eliminate(matrices, empty)[1:]
    sign, size = np.linalg.slogdet(matrices)
    if matrices.dtype.kind != "c":
        return sign, size
    real_sign = np.where(sign.real < 0, -1.0, 1.0)
    return real_sign, size + np.log(sign * real_sign)


def compute_determinant(matrices: Array) -> Array:
    """Return the determinants of matrices."""
    if _has_lapack(matrices.dtype):
        return np.linalg.det(matrices)
    sign, logarithm = compute_log_determinant(matrices)
    return sign * np.exp(logarithm)


def solve_triangles(matrices: Array, right: Array, *, upper: bool) -> Array:
    """Return X with T X = B by substitution, row by row.

    Parameters
    ----------
    matrices
        Matrices whose other triangle is not read, (K or 1, ..., n, n).
    right
        Right sides, (K or 1, ..., n, m).
    upper
        True to read the upper triangle.
    """
    length = matrices.shape[-1]
    batch = np.broadcast_shapes(matrices.shape[:-2], right.shape[:-2])
    solution = np.zeros((*batch, *right.shape[-2:]), np.result_type(matrices, right))
    for row in reversed(range(length)) if upper else range(length):
        known = slice(row + 1, length) if upper else slice(row)
        rest = right[..., row, :] - np.matmul(matrices[..., row, None, known], solution[..., known, :])[..., 0, :]
        solution[..., row, :] = rest / matrices[..., row, row, None]
    return solution


def estimate_elimination_error(matrices: Array) -> Array:
    """Return the error of each element, in units of u, with which elimination solves exactly.

    It is abs(L) abs(U), of which the growth by partial pivoting is seldom more than a small factor: abs(A), and where
    elimination fills in, the largest of the row times the largest of the column over the largest of all.
    """
    sizes = np.abs(matrices)
    rows, columns = sizes.max(axis=-1, keepdims=True), sizes.max(axis=-2, keepdims=True)
    largest = rows.max(axis=-2, keepdims=True)
    return sizes + rows * (columns / np.where(largest > 0, largest, 1))


def spread_labels_by_matrix(values: DependencyLabels, ranks: tuple[int, ...], output: Shape, output_rank: int) -> Array:
    """Return the least label of each matrix, for every element of the output in its place of the stack.

    Parameters
    ----------
    values
        Labels of the inputs.
    ranks
        Number of axes of one matrix or vector, by input.
    output
        Shape of the output.
    output_rank
        Number of axes of one result.
    """
    batch = output[: len(output) - output_rank]
    least = [
        align_rank(labels.min(axis=tuple(range(labels.ndim - rank, labels.ndim))), len(batch))
        for labels, rank in zip(drop_missing(values), ranks, strict=True)
    ]
    smallest = take_elementwise_min(*least)
    stacked = smallest.reshape(*smallest.shape, *(1,) * output_rank)
    return np.broadcast_to(stacked, (len(stacked), *output))


def apply_in_single_precision(function: Callable[..., Any], *tensors: Any) -> Any:
    """Return the result of a function of PyTorch that half precision lacks: computed in float32, and rounded."""
    if tensors[0].dtype.itemsize >= 4:
        return function(*tensors)
    return function(*(tensor.float() for tensor in tensors)).to(tensors[0].dtype)


def _has_lapack(dtype: np.dtype[Any]) -> bool:
    return dtype.itemsize <= (16 if dtype.kind == "c" else 8)


def _eliminate(matrices: Array, right: Array) -> tuple[Array, Array, Array]:
    """Return the solutions, the signs of the determinants and the logarithms of their sizes."""
    length = matrices.shape[-1]
    batch = np.broadcast_shapes(matrices.shape[:-2], right.shape[:-2])
    joined = np.concatenate([np.broadcast_to(part, (*batch, *part.shape[-2:])) for part in (matrices, right)], -1)
    joined = joined.reshape(-1, *joined.shape[-2:])
    stack = np.arange(len(joined))
    sign, logarithm = np.ones(len(joined), joined.dtype), np.zeros(len(joined), joined.dtype)
    with np.errstate(divide="ignore", invalid="ignore"):
        for column in range(length):
            pivots = column + np.abs(joined[:, column:, column]).argmax(axis=1)
            rows = joined[stack, pivots]
            joined[stack, pivots] = joined[:, column]
            leading = rows[:, column]
            sign = sign * np.where(pivots != column, -1, 1) * np.sign(leading)
            logarithm = logarithm + np.log(np.abs(leading))
            joined[:, column] = rows / leading[:, None]
            factors = joined[:, :, column].copy()
            factors[:, column] = 0
            joined -= factors[:, :, None] * joined[:, column, None, :]
    return joined[..., length:].reshape(*batch, *right.shape[-2:]), sign.reshape(batch), logarithm.reshape(batch)
