import numpy as np

from service.numerics.ops import OP_REGISTRY
from service.numerics.ops.convolution import shift_by_one


def test_a_shift_moves_zeros_in() -> None:
    x = np.arange(1.0, 7.0).reshape(1, 2, 3)
    np.testing.assert_array_equal(shift_by_one(x, (-1,), 1), [[[0, 1, 2], [0, 4, 5]]])
    np.testing.assert_array_equal(shift_by_one(x, (-2, -1), -1), [[[5, 6, 0], [0, 0, 0]]])


def test_bugs_of_the_first_and_the_last_axis_differ_in_three_dimensions() -> None:
    generator = np.random.default_rng(0)
    x, w = generator.normal(size=(1, 1, 3, 4, 3)), generator.normal(size=(1, 1, 1, 2, 2, 2))
    op = OP_REGISTRY["conv3d"]()
    output = op.forward(x, w, None)
    wrong = [op.bugs[bug].backward(op, output, output, x, w, None)[1] for bug in ("one_right", "one_down", "flip_rows")]
    right = op.backward(output, output, x, w, None)[1]
    for first, second in ((0, 1), (0, 2), (1, 2)):
        assert not np.allclose(wrong[first], wrong[second])
    assert not any(np.allclose(gradient, right) for gradient in wrong)
