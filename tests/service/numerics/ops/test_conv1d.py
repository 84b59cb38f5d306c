import numpy as np

from service.numerics.ops import OP_REGISTRY
from tests.service.numerics.ops.shape_refusals import get_refusal


def test_conv1d_equals_its_documented_sum():
    generator = np.random.default_rng(0)
    x, w, b = generator.normal(size=(1, 2, 9)), generator.normal(size=(1, 3, 2, 3)), generator.normal(size=(1, 3))
    op = OP_REGISTRY["conv1d"](stride=2, padding=1, dilation=[2])
    padded = np.pad(x[0], [(0, 0), (1, 1)])
    expected = [
        [b[0, o] + sum(w[0, o, c, i] * padded[c, 2 * p + 2 * i] for c in range(2) for i in range(3)) for p in range(4)]
        for o in range(3)
    ]
    np.testing.assert_allclose(op.forward(x, w, b)[0], expected, rtol=1e-13)


def test_conv1d_refuses_mismatched_inputs():
    assert "(B, C, L) or (C, L)" in get_refusal("conv1d", {}, (4,), (3, 1, 2), None)
    assert "3 input channels" in get_refusal("conv1d", {}, (3, 7), (2, 2, 2), None)
    assert "a kernel no larger" in get_refusal("conv1d", {}, (1, 3), (2, 1, 4), None)
