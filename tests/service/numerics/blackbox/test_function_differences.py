"""Functions that are differenced together have the differences that each has alone."""

from dataclasses import fields

import numpy as np
import pytest

from service.numerics.blackbox import function_differences
from service.numerics.blackbox.central_derivatives import DirectionalDerivatives
from service.numerics.blackbox.function_differences import difference_output
from service.numerics.blackbox.kinks import LossShape
from tests.service.numerics.blackbox.vector_functions import lay_out

X = np.array([0.7, -1.2, 0.4])
FUNCTIONS = {
    "smooth": lambda x: np.sin(x).sum(),
    "large": lambda x: 1e200 * np.cos(x).prod(),
    "small": lambda x: 1e-200 * np.exp(x[0]),
    "kinked": lambda x: abs(x[0] - 0.7) + x[1],
    "staircase": lambda x: np.round(np.sin(x).sum(), 2),
    "constant": lambda x: 3.0,
    "zero": lambda x: 0.0,
    "partial": lambda x: np.sqrt(x[0] - 0.65) if x[0] > 0.65 else np.nan,
    "nowhere": lambda x: np.nan,
    "float32": lambda x: float(np.float32(np.sin(x).sum())),
}


def evaluate(layout, functions):
    return np.array([[function(point) for function in functions] for point in layout.stack_points("x")], float)


@pytest.mark.parametrize("random", [True, False])
def test_functions_together_have_the_differences_of_each_alone(random):
    layout = lay_out(X, random=random)
    names = [name for name in FUNCTIONS if name != "float32"]
    together = difference_output(layout, "x", evaluate(layout, [FUNCTIONS[name] for name in names]))
    for position, name in enumerate(names):
        alone = difference_output(layout, "x", evaluate(layout, [FUNCTIONS[name], FUNCTIONS["smooth"]]))
        for field in fields(DirectionalDerivatives):
            expected, actual = (getattr(differences.derivatives, field.name) for differences in (alone, together))
            np.testing.assert_array_equal(actual[position], expected[0], f"{name}: {field.name}")
        np.testing.assert_array_equal(together.noise.deviation[position], alone.noise.deviation[0])


@pytest.mark.parametrize("random", [True, False])
def test_blocks_change_nothing(random, monkeypatch):
    layout = lay_out(X, random=random)
    values = evaluate(layout, list(FUNCTIONS.values()))
    whole = difference_output(layout, "x", values).derivatives
    monkeypatch.setattr(function_differences, "BLOCK_LINES", 4)
    parts = difference_output(layout, "x", values).derivatives
    for field in fields(DirectionalDerivatives):
        np.testing.assert_array_equal(getattr(parts, field.name), getattr(whole, field.name))


def test_each_function_has_its_own_shape_and_noise():
    layout = lay_out(X, random=False)
    derivatives = difference_output(layout, "x", evaluate(layout, list(FUNCTIONS.values())))
    by_name = dict(zip(FUNCTIONS, range(len(FUNCTIONS)), strict=True))
    shapes = derivatives.derivatives.loss_shape
    assert shapes[by_name["smooth"], 0] == LossShape.SMOOTH
    assert shapes[by_name["kinked"], 0] == LossShape.KINKED
    assert (shapes[by_name["staircase"]] == LossShape.STAIRS).all()
    assert derivatives.noise.deviation[by_name["smooth"]] < 1e-15
    assert np.isinf(derivatives.derivatives.bound[by_name["nowhere"]]).all()
    truth = np.cos(X)
    errors = np.abs(derivatives.derivatives.value[by_name["smooth"]] - truth)
    assert (errors <= derivatives.derivatives.bound[by_name["smooth"]]).all()
