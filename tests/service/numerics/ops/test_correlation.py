import numpy as np
import pytest

from service.numerics.ops import OP_REGISTRY


@pytest.mark.parametrize("name", ["conv1d", "conv2d", "conv3d"])
def test_scattered_minima_are_those_of_the_windows_that_read_an_element(name: str) -> None:
    """An element is read by the windows in whose output it has a derivative."""
    axes = int(name[4])
    op = OP_REGISTRY[name](stride=[2, 1, 3][:axes], padding=[1, 0, 2][:axes])
    x, w = np.zeros((1, 1, 5, 4, 6)[: axes + 2]), np.ones((1, 1, 1, 2, 2, 3)[: axes + 3])
    output = op.infer_output_shape(x.shape[1:], w.shape[1:], None)
    labels = np.random.default_rng(0).permutation(np.prod(output)).reshape(1, *output).astype(float)
    least = op.scatter_window_minimum(labels, w.shape[1:], x.shape[1:])
    for index in np.ndindex(*x.shape):
        moved = x.copy()
        moved[index] = 1
        is_reached = op.forward(moved, w, None) != 0
        assert least[index] == (labels[is_reached].min() if is_reached.any() else np.inf)


@pytest.mark.parametrize("name", ["conv1d", "conv2d", "conv3d"])
def test_only_the_plane_takes_a_plain_form(name: str) -> None:
    axes = int(name[4])
    op = OP_REGISTRY[name]()
    if name == "conv2d":
        assert op.infer_output_shape((5, 4), (2, 3), None) == (4, 2)
        return
    with pytest.raises(ValueError, match="with weight"):
        op.infer_output_shape((5,) * axes, (2,) * axes, None)
