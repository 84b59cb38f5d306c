import numpy as np
import pytest

from service.numerics.ops import OP_REGISTRY
from service.numerics.ops.separable import SeparableMap

CASES = [
    pytest.param(op, case, id=f"{name}-{number}")
    for name, op in sorted(OP_REGISTRY.items())
    if issubclass(op, SeparableMap)
    for number, case in enumerate(op.examples)
]


@pytest.mark.parametrize(("op_type", "case"), CASES)
def test_backward_pass_is_the_transposed_map(op_type, case) -> None:
    """The product of g with M x is that of M^T g with x."""
    generator = np.random.default_rng(0)
    op = op_type(**case.attributes)
    x = generator.normal(size=(2, *case.input_shapes[0]))
    y = op.forward(x)
    g = generator.normal(size=y.shape)
    (by_x,) = op.backward(g, y, x)
    np.testing.assert_allclose(np.vdot(g, y), np.vdot(by_x, x), rtol=1e-12)
    (wrong,) = op.scatter_without_accumulate(g, y, x)
    assert wrong.shape == x.shape
