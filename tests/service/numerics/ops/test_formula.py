"""Formulas: parsing, values, and equality as polynomials."""

import numpy as np
import pytest

from service.numerics.ops.formula import Scope, evaluate, iterate_names, normalise, parse_formula

X, W = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[0.5, -1.0], [2.0, 0.25]])


def make_scope():
    return (
        Scope().add_quantities(x=lambda: X, w=lambda: W, c=lambda: 3.0).add_functions(total=lambda array: array.sum())
    )


VALUES = {
    "x + w": X + W,
    "x - w * c": X - W * 3,
    "-x / 2": -X / 2,
    "x @ w": X @ W,
    "total(x * w)": (X * W).sum(),
    "x * (1 - x)": X * (1 - X),
    "ones(x) / c": np.ones_like(X) / 3,
}


@pytest.mark.parametrize(("text", "value"), VALUES.items(), ids=VALUES)
def test_a_formula_has_its_value(text, value):
    np.testing.assert_allclose(evaluate(parse_formula(text), make_scope()), value, rtol=1e-15)


@pytest.mark.parametrize("text", ["x ** 2", "f(x, w)", "x if w else c", "x < w", "x.T"])
def test_anything_else_is_no_formula(text):
    with pytest.raises(ValueError, match="a formula has no"):
        parse_formula(text)


def test_a_quantity_is_computed_once():
    calls = []
    scope = Scope().add_quantities(x=lambda: calls.append(1) or X)
    evaluate(parse_formula("x * x + x"), scope)
    assert calls == [1]


def test_names_are_those_of_quantities_and_functions():
    assert set(iterate_names(parse_formula("total(x @ w) * c + 2"))) == {"total", "x", "w", "c", "2"}


@pytest.mark.parametrize(
    ("text", "other", "is_equal"),
    [
        ("x * (1 - x)", "x - x * x", True),
        ("x * w", "w * x", True),
        ("x @ w", "w @ x", False),
        ("x + w", "x - w", False),
        ("2 * x / 2", "x", True),
    ],
)
def test_expressions_that_are_equal_as_polynomials_have_one_text(text, other, is_equal):
    assert (normalise(parse_formula(text)) == normalise(parse_formula(other))) is is_equal
