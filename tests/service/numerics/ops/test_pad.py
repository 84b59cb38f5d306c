import numpy as np
import pytest
import torch

from service.numerics.ops import OP_REGISTRY
from service.numerics.ops.op import ShapeError
from service.numerics.ops.pad import Pad
from tests.service.numerics.ops.shape_refusals import get_refusal

MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}
X = np.arange(24.0).reshape(1, 2, 3, 4)


def pad_by_torch(x, pad, mode):
    """Output and gradient in PyTorch, or None where it refuses or would read beyond the tensor."""
    leaf = torch.tensor(x, requires_grad=True)
    try:
        y = torch.nn.functional.pad(leaf, pad, mode)
    except (RuntimeError, NotImplementedError):
        return None
    if not y.numel():
        return None
    y.backward(torch.arange(1.0, y.numel() + 1, dtype=torch.float64).reshape(y.shape))
    return y.detach().numpy(), leaf.grad.numpy()


@pytest.mark.parametrize("mode", MODES)
def test_padding_is_that_of_numpy_and_its_gradient_sums_the_copies(mode) -> None:
    op = OP_REGISTRY["pad"](pad=[2, 1, 0, 2], mode=mode)
    y = op.forward(X)
    np.testing.assert_array_equal(y[0], np.pad(X[0], [(0, 0), (0, 2), (2, 1)], mode=MODES[mode]))
    (by_x,) = op.backward(np.ones_like(y), y, X)
    numbers, counts = np.unique(y, return_counts=True)
    np.testing.assert_array_equal(by_x.ravel()[numbers.astype(int)], counts)


@pytest.mark.parametrize("mode", MODES)
def test_widths_are_taken_where_pytorch_takes_them(mode) -> None:
    for before in range(-5, 6):
        for behind in range(-5, 6):
            x, op = np.array([[1.0, 2.0, 4.0, 8.0]]), Pad(pad=[before, behind], mode=mode)
            if mode == "circular" and min(before, behind) <= -4:
                continue  # PyTorch 2.13 returns memory that nobody wrote.
            expected = pad_by_torch(x, [before, behind], mode)
            try:
                shape = op.infer_output_shape(x.shape)
            except ShapeError:
                assert expected is None, (before, behind)
                continue
            assert expected is not None, (before, behind)
            y = op.forward(x[None])
            gradient = np.arange(1.0, y.size + 1).reshape(y.shape)
            assert y.shape[1:] == shape
            np.testing.assert_array_equal(y[0], expected[0])
            np.testing.assert_array_equal(op.backward(gradient, y, x[None])[0][0], expected[1])


def test_three_axes_are_padded_as_in_pytorch() -> None:
    x, pad = np.random.default_rng(3).normal(size=(2, 3, 2, 4)), [1, 2, -1, 1, 2, 0]
    for mode in MODES:
        y = Pad(pad=pad, mode=mode).forward(x[None])
        expected, by_x = pad_by_torch(x, pad, mode)
        np.testing.assert_array_equal(y[0], expected)
        gradient = np.arange(1.0, y.size + 1).reshape(y.shape)
        np.testing.assert_allclose(Pad(pad=pad, mode=mode).backward(gradient, y, x[None])[0][0], by_x, rtol=1e-14)


def test_the_number_fills_a_padding_beside_infinities() -> None:
    y = Pad(pad=[1, 1], value=np.inf).forward(np.array([[1.0, -np.inf]]))
    np.testing.assert_array_equal(y, [[np.inf, 1, -np.inf, np.inf]])


@pytest.mark.parametrize(
    ("mode", "pad", "shape", "words"),
    [
        ("reflect", [4, 0], (2, 4), "below the length of its axis"),
        ("circular", [5, 0], (2, 4), "within the length of its axis"),
        ("circular", [-3, 2], (2, 4), "within the length of its axis"),
        ("circular", [-4, 1], (2, 4), "within the length of its axis"),
        ("replicate", [-2, -2], (2, 4), "does not cut off whole"),
        ("replicate", [1, 0], (2, 0), "does not cut off whole"),
        ("constant", [-2, -2], (2, 4), "does not cut off whole"),
        ("reflect", [1, 1], (4,), "one or two axes in front"),
        ("reflect", [1, 1], (2, 2, 2, 4), "one or two axes in front"),
        ("replicate", [], (2, 4), "one or two axes in front"),
        ("circular", [1] * 8, (1, 2, 2, 2, 2), "takes 1 to 3"),
        ("reflect", [1], (2, 4), "pairs"),
    ],
)
def test_what_pytorch_does_not_pad_is_refused(mode, pad, shape, words) -> None:
    assert words in get_refusal("pad", {"pad": pad, "mode": mode}, shape)
