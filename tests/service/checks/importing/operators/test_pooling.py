"""Pools have the values of ONNX's reference evaluator."""

import numpy as np
import pytest

from tests.service.checks.importing.onnx_files import (
    FLOAT,
    draw,
    evaluate_operator,
    find_refusal,
    list_errors,
    make_file,
    measure_operator_error,
    node,
    run_import,
)

pytestmark = pytest.mark.covers_by_cases

CASES = {
    "maximum": ("MaxPool", [draw(2, 3, 6, 7)], {"kernel_shape": [2, 3], "strides": [2, 1]}),
    "maximum, padded": (
        "MaxPool",
        [draw(2, 3, 6, 7)],
        {"kernel_shape": [3, 3], "pads": [1, 0, 0, 1], "ceil_mode": 1, "strides": [2, 2]},
    ),
    "maximum, one axis": ("MaxPool", [draw(2, 3, 9)], {"kernel_shape": [3]}),
    "maximum, three axes": ("MaxPool", [draw(1, 2, 4, 5, 4)], {"kernel_shape": [2, 2, 2]}),
    "mean": ("AveragePool", [draw(2, 3, 6, 7)], {"kernel_shape": [2, 3]}),
    "mean with pads": (
        "AveragePool",
        [draw(2, 3, 6, 7)],
        {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1},
    ),
    "mean without pads": ("AveragePool", [draw(2, 3, 6, 7)], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
    "uneven mean": ("AveragePool", [draw(2, 3, 6, 7)], {"kernel_shape": [3, 2], "pads": [1, 0, 0, 1]}),
    "norm": ("LpPool", [draw(2, 3, 6, 7)], {"kernel_shape": [2, 2], "p": 2}),
}


@pytest.mark.parametrize(("operator", "arrays", "options"), CASES.values(), ids=CASES)
def test_an_operator_has_the_values_of_the_reference(operator, arrays, options):
    assert measure_operator_error(operator, *arrays, **options) < 1e-10


REFUSED = {
    "places": ("MaxUnpool", [draw(1, 1, 2), np.array([[[0, 9]]])], {"kernel_shape": [2]}, "indices outside"),
    "axes": ("AveragePool", [draw(2, 3)], {"kernel_shape": [2]}, "takes an input (N, C, ...)"),
    "large windows": ("MaxPool", [draw(2, 3, 4)], {"kernel_shape": [5]}, "windows larger than"),
}


@pytest.mark.parametrize(("operator", "arrays", "options", "words"), REFUSED.values(), ids=REFUSED)
def test_a_form_that_is_not_taken_is_refused(operator, arrays, options, words):
    assert words in find_refusal(operator, *arrays, **options)


def test_a_response_is_normalised_by_its_neighbours():
    x = draw(2, 5, 3, 3)
    neighbours = np.pad(x**2, [(0, 0), (1, 1), (0, 0), (0, 0)])
    total = neighbours[:, :-2] + neighbours[:, 1:-1] + neighbours[:, 2:]
    value = evaluate_operator("LRN", x, size=3, alpha=0.5, beta=0.75, bias=2.0)
    np.testing.assert_allclose(value, x / (2 + 0.5 / 3 * total) ** 0.75, rtol=1e-12)


POOLED = np.array([[[[5.0, 6.0], [7.0, 8.0]]]])
PLACES = np.array([[[[5, 7], [13, 15]]]])


def test_an_undone_pool_puts_elements_at_their_places():
    options = {"kernel_shape": [2, 2], "strides": [2, 2]}
    expected = np.zeros((1, 1, 4, 4))
    expected.reshape(-1)[PLACES.reshape(-1)] = POOLED.reshape(-1)
    assert (evaluate_operator("MaxUnpool", POOLED, PLACES, **options) == expected).all()
    larger = np.pad(expected, [(0, 0), (0, 0), (0, 1), (0, 1)])
    assert (evaluate_operator("MaxUnpool", POOLED, PLACES, np.array([1, 1, 5, 5]), **options) == larger).all()


def test_the_indices_of_a_pool_may_be_an_output_and_no_operand():
    pool = node("MaxPool", "x", "y i", kernel_shape=[2])
    imported = run_import(make_file([pool], {"x": (FLOAT, [1, 2, 4])}, ["y", "i"]))
    assert list(imported.outputs) == ["y"]
    content = make_file([pool, node("GatherElements", "x i", "z", axis=2)], {"x": (FLOAT, [1, 2, 4])}, ["z"])
    assert list_errors(content) == {
        "/graph/node/1": "GatherElements 'z' reads the indices of a MaxPool; that is not taken. The part of the model "
        "up to 'y' can be checked alone: loss=y"
    }
