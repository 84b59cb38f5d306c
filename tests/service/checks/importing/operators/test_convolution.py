"""Convolutions have the values of ONNX's reference evaluator."""

import pytest

from tests.service.checks.importing.onnx_files import draw, find_refusal, measure_operator_error

pytestmark = pytest.mark.covers_by_cases

CASES = {
    "three axes": ("Conv", [draw(1, 2, 4, 3, 4), draw(3, 2, 2, 1, 2), draw(3)], {"strides": [2, 1, 1]}),
    "transposed, three axes": (
        "ConvTranspose",
        [draw(1, 2, 3, 2, 3), draw(2, 3, 2, 2, 1), draw(3)],
        {"strides": [2, 1, 2], "pads": [1, 0, 0, 1, 0, 0], "output_padding": [1, 0, 1]},
    ),
    "transposed, pads of two widths": (
        "ConvTranspose",
        [draw(1, 2, 4), draw(2, 3, 3), draw(3)],
        {"strides": [2], "pads": [2, 0]},
    ),
    "plain": ("Conv", [draw(2, 3, 6, 7), draw(4, 3, 3, 2), draw(4)], {}),
    "one axis": ("Conv", [draw(2, 3, 7), draw(4, 3, 3)], {"pads": [1, 1], "strides": [2]}),
    "uneven pads": ("Conv", [draw(2, 3, 6, 7), draw(4, 3, 3, 2)], {"pads": [1, 0, 2, 1], "dilations": [2, 1]}),
    "groups": ("Conv", [draw(2, 4, 5, 5), draw(4, 2, 3, 3)], {"group": 2}),
    "same": ("Conv", [draw(2, 3, 6, 7), draw(4, 3, 3, 2)], {"auto_pad": "SAME_LOWER"}),
    "transposed": (
        "ConvTranspose",
        [draw(2, 3, 4, 5), draw(3, 2, 3, 3), draw(2)],
        {"strides": [2, 1], "pads": [1, 0, 1, 1]},
    ),
    "longer": ("ConvTranspose", [draw(2, 3, 4, 5), draw(3, 2, 3, 3)], {"strides": [2, 2], "output_padding": [1, 1]}),
    "transposed, one axis": ("ConvTranspose", [draw(2, 3, 4), draw(3, 2, 3)], {"strides": [2]}),
}


@pytest.mark.parametrize(("operator", "arrays", "options"), CASES.values(), ids=CASES)
def test_an_operator_has_the_values_of_the_reference(operator, arrays, options):
    assert measure_operator_error(operator, *arrays, **options) < 1e-10


REFUSED = {
    "axes": ("Conv", [draw(2, 3, 4, 4, 4, 1), draw(2, 3, 1, 1, 1, 1)], {}, "takes an input (N, C, L)"),
    "negative pads": (
        "ConvTranspose",
        [draw(2, 3, 4), draw(3, 2, 3)],
        {"pads": [-1, 0]},
        "negative ones are not taken",
    ),
    "nothing left": ("ConvTranspose", [draw(2, 3, 4), draw(3, 2, 3)], {"pads": [5, 5]}, "cut off all"),
}


@pytest.mark.parametrize(("operator", "arrays", "options", "words"), REFUSED.values(), ids=REFUSED)
def test_a_form_that_is_not_taken_is_refused(operator, arrays, options, words):
    assert words in find_refusal(operator, *arrays, **options)
