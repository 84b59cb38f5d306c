"""Functions of matrices have the values of ONNX's reference evaluator."""

from tests.service.checks.importing.onnx_files import draw, find_refusal, measure_operator_error


def test_a_determinant_has_the_value_of_the_reference():
    assert measure_operator_error("Det", draw(2, 3, 3)) < 1e-10


def test_a_matrix_that_is_not_square_is_refused():
    assert "becomes det" in find_refusal("Det", draw(2, 3))
