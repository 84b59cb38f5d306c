"""Products have the values of ONNX's reference evaluator."""

import pytest

from tests.service.checks.importing.onnx_files import draw, find_refusal, measure_operator_error

pytestmark = pytest.mark.covers_by_cases

CASES = {
    "batch": ("MatMul", [draw(2, 3, 4), draw(4, 5)], {}),
    "vectors": ("MatMul", [draw(4), draw(4, seed=1)], {}),
    "linear": ("Gemm", [draw(3, 4), draw(5, 4), draw(5)], {"transB": 1}),
    "scaled": ("Gemm", [draw(4, 3), draw(4, 5), draw(3, 1)], {"transA": 1, "alpha": 0.5, "beta": 2.0}),
    "without addend": ("Gemm", [draw(3, 4), draw(5, 4)], {"transB": 1, "alpha": 3.0}),
    "Einsum": ("Einsum", [draw(2, 3, 4), draw(2, 4, 5)], {"equation": "bij,bjk->bik"}),
    "implicit Einsum": ("Einsum", [draw(3, 4), draw(4, 2)], {"equation": "ij, jk"}),
    "dots": ("Einsum", [draw(2, 5, 3), draw(3, 4)], {"equation": "...i,ij->...j"}),
}


@pytest.mark.parametrize(("operator", "arrays", "options"), CASES.values(), ids=CASES)
def test_an_operator_has_the_values_of_the_reference(operator, arrays, options):
    assert measure_operator_error(operator, *arrays, **options) < 1e-10


REFUSED = {
    "axes": ("Gemm", [draw(2, 3, 4), draw(4, 5)], {}, "takes two matrices"),
    "inputs": ("Einsum", [draw(3)], {"equation": "i,i->"}, "has an equation for 2 inputs"),
    "lengths": ("MatMul", [draw(3, 4), draw(3, 4)], {}, "becomes matmul"),
}


@pytest.mark.parametrize(("operator", "arrays", "options", "words"), REFUSED.values(), ids=REFUSED)
def test_a_form_that_is_not_taken_is_refused(operator, arrays, options, words):
    assert words in find_refusal(operator, *arrays, **options)
