import numpy as np
import pytest
import torch

from service.numerics.ops import OP_REGISTRY
from tests.service.numerics.ops.shape_refusals import get_refusal

AffineGrid = OP_REGISTRY["affine_grid"]


@pytest.mark.parametrize("align", [True, False])
@pytest.mark.parametrize("size", [[2, 1, 3, 4], [1, 1, 1, 2], [1, 2, 2, 1, 3]])
def test_affine_grid_equals_pytorch(align, size):
    axes = len(size) - 2
    theta = np.random.default_rng(0).normal(size=(size[0], axes, axes + 1))
    op = AffineGrid(size=size, align_corners=align)
    output = op.forward(theta[None])
    leaf = torch.tensor(theta, requires_grad=True)
    theirs = op.torch_forward(torch, leaf)
    np.testing.assert_allclose(output[0], theirs.detach(), rtol=1e-14, atol=1e-15)
    gradient = np.random.default_rng(1).normal(size=output.shape)
    (expected,) = torch.autograd.grad(theirs, leaf, torch.tensor(gradient[0]))
    np.testing.assert_allclose(op.backward(gradient, output, theta[None])[0][0], expected, rtol=1e-13, atol=1e-14)


def test_the_identity_samples_an_image_as_it_is():
    size = [1, 2, 3, 4]
    image = np.random.default_rng(0).normal(size=(1, *size))
    for align in (True, False):
        grid = AffineGrid(size=size, align_corners=align).forward(np.array([[[[1.0, 0, 0], [0, 1, 0]]]]))
        sampled = OP_REGISTRY["grid_sample"](align_corners=align).forward(image, grid)
        np.testing.assert_allclose(sampled, image, rtol=1e-13)


def test_affine_grid_refuses_other_shapes():
    assert "a theta of shape [2, 2, 3]" in get_refusal("affine_grid", {"size": [2, 1, 3, 4]}, (1, 2, 3))
