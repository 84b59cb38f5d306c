import numpy as np
import pytest
import torch

from service.numerics.ops import OP_REGISTRY
from service.numerics.ops.op import ShapeError
from tests.service.numerics.ops.shape_refusals import get_refusal


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("has_batch", [True, False])
def test_unpooling_equals_pytorch(axes, has_batch):
    images = torch.tensor(np.random.default_rng(axes).normal(size=(2, 3, 4, 6, 4)[: axes + 2]))
    pooled, indices = getattr(torch.nn.functional, f"max_pool{axes}d")(images, 2, return_indices=True)
    if not has_batch:
        pooled, indices = pooled[0], indices[0]
    op = OP_REGISTRY[f"max_unpool{axes}d"](kernel_size=2)
    op.check_values((tuple(pooled.shape), tuple(indices.shape)), None, indices.numpy())
    x, index = pooled.numpy()[None], indices.numpy()[None]
    output = op.forward(x, index)
    leaf = pooled.clone().requires_grad_()
    theirs = op.torch_forward(torch, leaf, indices)
    np.testing.assert_array_equal(output[0], theirs.detach())
    assert np.count_nonzero(output) == x.size
    gradient = np.random.default_rng(1).normal(size=output.shape)
    (expected,) = torch.autograd.grad(theirs, leaf, torch.tensor(gradient[0]))
    np.testing.assert_array_equal(op.backward(gradient, output, x, index)[0][0], expected)


def test_an_output_size_within_a_stride_is_taken():
    op = OP_REGISTRY["max_unpool2d"]
    shape = (1, 2, 2, 3)
    assert op(kernel_size=2).infer_output_shape(shape, shape) == (1, 2, 4, 6)
    assert op(kernel_size=2, output_size=[5, 7]).infer_output_shape(shape, shape) == (1, 2, 5, 7)
    assert op(kernel_size=2, output_size=[1, 2, 5, 7]).infer_output_shape(shape, shape) == (1, 2, 5, 7)
    assert "less than a stride from [4, 6]" in get_refusal(
        "max_unpool2d", {"kernel_size": 2, "output_size": [6, 6]}, shape, shape
    )
    assert "an output_size of 2 numbers" in get_refusal(
        "max_unpool2d", {"kernel_size": 2, "output_size": [6, 6, 6]}, shape, shape
    )
    assert "indices of one shape" in get_refusal("max_unpool2d", {"kernel_size": 2}, shape, (1, 2, 2, 2))
    assert "leaves an element" in get_refusal("max_unpool2d", {"kernel_size": 2, "padding": 9}, shape, shape)


def test_indices_are_places_without_repeats_in_a_plane():
    op, shape = OP_REGISTRY["max_unpool1d"](kernel_size=2), (2, 2)
    op.check_values((shape, shape), None, np.array([[0, 3], [3, 0]]))
    with pytest.raises(ShapeError, match="from 0 to 3"):
        op.check_values((shape, shape), None, np.array([[0, 4], [3, 0]]))
    with pytest.raises(ShapeError, match="without repeats in a plane"):
        op.check_values((shape, shape), None, np.array([[0, 3], [3, 3]]))
