"""Ops that state the formulas of their backward passes: values, and the edits that become bugs."""

import numpy as np
import pytest

from service.numerics.ops.activation import Gelu, Sigmoid, Silu, Tanh
from service.numerics.ops.binary import Mul, Sub
from service.numerics.ops.formula_op import iterate_changes

GENERATOR = np.random.default_rng(0)
X, OTHER, GRADIENT = (GENERATOR.normal(size=(1, 2, 3)) for _ in range(3))
CASES = {
    "tanh": (Tanh(), (X,)),
    "sigmoid": (Sigmoid(), (X,)),
    "silu": (Silu(), (X,)),
    "gelu": (Gelu(approximate="tanh"), (X,)),
    "mul": (Mul(), (X, OTHER)),
    "mul, broadcast": (Mul(), (X, OTHER[:, :1])),
    "sub": (Sub(alpha=0.3), (X, OTHER)),
}


@pytest.mark.parametrize(("op", "inputs"), CASES.values(), ids=CASES)
def test_formulas_have_the_values_of_the_backward_pass(op, inputs):
    output = op.forward(*inputs)
    ours, theirs = op.backward(GRADIENT, output, *inputs), op.evaluate_right_formulas(GRADIENT, output, *inputs)
    for right, by_formula in zip(ours, theirs, strict=True):
        assert right.shape == by_formula.shape
        np.testing.assert_allclose(by_formula, right, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("op", "inputs"), CASES.values(), ids=CASES)
def test_every_edit_is_another_gradient(op, inputs):
    output = op.forward(*inputs)
    right = op.backward(GRADIENT, output, *inputs)
    bugs = op.generate_bugs()
    assert bugs
    for key, bug in bugs.items():
        wrong = bug.backward(op, GRADIENT, output, *inputs)
        changed = [
            not np.allclose(edited, own, rtol=1e-9) for edited, own in zip(wrong, right, strict=True) if own is not None
        ]
        assert any(changed), key


def test_changes_together_are_those_alone():
    op, inputs = CASES["silu"]
    output = op.forward(*inputs)
    right = op.backward(GRADIENT, output, *inputs)
    bugs = [bug for bug in op.generate_bugs().values() if bug.change is not None]
    together = list(iterate_changes([bug.change for bug in bugs], op, right, GRADIENT, output, *inputs))
    assert len(together) == len(bugs) > 2
    for bug, (by_input,) in zip(bugs, together, strict=True):
        np.testing.assert_allclose(by_input, bug.backward(op, GRADIENT, output, *inputs)[0], rtol=1e-14)
