"""Conversions of systems of linear equations, determinants, factors and spectra of matrices."""

from typing import Any

import torch
from torch import Tensor

from gradcheckd.torch.aten_nodes.graph_builder import UnsupportedError
from gradcheckd.torch.aten_nodes.operator_call import (
    Converted,
    OperatorCall,
    get_shape,
    get_value,
    is_graph_tensor,
    map_operator,
    register_converter,
)

_ASYMMETRY = 2.0**-40
"""Part of the largest element by which opposite elements may differ, from the rounding of a symmetric product."""

_linalg: Any = torch.linalg

map_operator("linalg_matrix_exp", "matrix_exp", "self")


@register_converter("_linalg_solve_ex")
def _convert_solution(call: OperatorCall) -> Converted:
    left = None if call.get("left", True) else False
    return [call.add_node("solve", call["A"], call["B"], left=left), *[None] * (len(call.result) - 1)]


@register_converter("linalg_solve_triangular")
def _convert_triangular_solution(call: OperatorCall) -> Converted:
    options = {
        "upper": call["upper"],
        "left": None if call.get("left", True) else False,
        "unitriangular": call.get("unitriangular") or None,
    }
    return call.add_node("solve_triangular", call["self"], call["B"], **options)


@register_converter("triangular_solve")
def _convert_old_triangular_solution(call: OperatorCall) -> Converted:
    """Convert the older form, with the triangle behind the right side, and beside the solution a copy of the matrix."""
    matrix, upper = call["A"], bool(call.get("upper", True))
    if call.get("transpose", False):
        matrix, upper = _transpose(call, matrix), not upper
    options = {"upper": upper, "unitriangular": call.get("unitriangular") or None}
    copy = call.name_input(call["A"]) if is_graph_tensor(call["A"]) else None
    return [call.add_node("solve_triangular", matrix, call["self"], **options), copy]


@register_converter("linalg_inv_ex")
def _convert_inverse(call: OperatorCall) -> Converted:
    return [call.add_node("inv", call["A"]), None]


@register_converter("_linalg_det")
def _convert_determinant(call: OperatorCall) -> Converted:
    return [call.add_node("det", call["A"]), None, None]


@register_converter("_linalg_slogdet")
def _convert_logarithm_of_determinant(call: OperatorCall) -> Converted:
    """Convert the sign, whose gradient is 0, and the logarithm of the size."""
    sign = call.add_node("sign", call.add_node("det", call["A"]))
    return [sign, call.add_node("slogdet", call["A"]), None, None]


@register_converter("linalg_cholesky_ex", "cholesky")
def _convert_cholesky_factor(call: OperatorCall) -> Converted:
    refuse_asymmetric(call["self"])
    factor = call.add_node("cholesky", call["self"], upper=call.get("upper") or None)
    return factor if call.operator_name == "aten.cholesky" else [factor, None]


@register_converter("cholesky_solve")
def _convert_cholesky_solution(call: OperatorCall) -> Converted:
    """Convert the solution of L L^T X = B, or of U^T U X = B, by its two triangles."""
    factor, upper = call["input2"], bool(call.get("upper", False))
    other = _transpose(call, factor)
    first, second = (other, factor) if upper else (factor, other)
    middle = call.add_node("solve_triangular", first, call["self"], upper=False)
    return call.add_node("solve_triangular", second, middle, upper=True)


@register_converter("cholesky_inverse")
def _convert_inverse_of_product(call: OperatorCall) -> Converted:
    """Convert the inverse of L L^T, or of U^T U, by the inverse of a triangle; the rest of the matrix is not read."""
    factor, upper = call["self"], bool(call.get("upper", False))
    identity = torch.eye(get_shape(factor)[-1], dtype=torch.float64)
    inverse = call.add_node("solve_triangular", factor, identity, upper=upper)
    transposed = call.add_node("transpose", inverse, dim0=-2, dim1=-1)
    left, right = (inverse, transposed) if upper else (transposed, inverse)
    return call.add_node("matmul", left, right)


@register_converter("_linalg_eigh")
def _convert_eigenvalues(call: OperatorCall) -> Converted:
    """Convert the eigenvalues; the eigenvectors have a free sign, and no counterpart."""
    refuse_asymmetric(call["A"])
    return [call.add_node("eigvalsh", call["A"]), None]


@register_converter("_linalg_svd")
def _convert_singular_values(call: OperatorCall) -> Converted:
    """Convert the singular values; the vectors have a free sign, and no counterpart."""
    return [None, call.add_node("svdvals", call["A"]), None]


@register_converter("linalg_pinv.atol_rtol_tensor")
def _convert_pseudo_inverse(call: OperatorCall) -> Converted:
    """Convert (A^T A)^-1 A^T, or A^T (A A^T)^-1 of a wide matrix, which are those of a matrix of full rank."""
    matrix = call["self"]
    if call.get("hermitian", False):
        raise UnsupportedError("of a symmetric matrix it reads one triangle")
    numbers: Tensor = get_value(matrix)
    rows, columns = numbers.shape[-2:]
    # By the bounds below which the operator itself takes a singular value for 0.
    ranks: Any = _linalg.matrix_rank(numbers, atol=call.get("atol"), rtol=call.get("rtol"))
    if bool((ranks < min(rows, columns)).any()):
        raise UnsupportedError("a matrix that has not full rank")
    flipped = call.add_node("transpose", matrix, dim0=-2, dim1=-1)
    if rows >= columns:
        return call.add_node("solve", call.add_node("matmul", flipped, matrix), flipped)
    return call.add_node("solve", call.add_node("matmul", matrix, flipped), flipped, left=False)


def refuse_asymmetric(matrix: Any) -> None:
    """Refuse matrices that are not symmetric: torch reads one triangle, and the model language both."""
    numbers: Tensor = get_value(matrix)
    distance = (numbers - numbers.mT).abs().max() if numbers.numel() else numbers.new_zeros(())
    if bool(distance > _ASYMMETRY * numbers.abs().max()):
        raise UnsupportedError("its matrix is not symmetric, of which it reads one triangle")


def _transpose(call: OperatorCall, matrix: Any) -> Any:
    if is_graph_tensor(matrix):
        return call.add_node("transpose", matrix, dim0=-2, dim1=-1)
    return matrix.mT
