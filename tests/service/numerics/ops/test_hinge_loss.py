import numpy as np
import pytest
import torch

from service.numerics.ops import OP_REGISTRY
from tests.service.numerics.ops.shape_refusals import get_refusal

Hinge = OP_REGISTRY["hinge_embedding_loss"]


def test_hinge_embedding_loss_refuses_other_shapes():
    assert "one shape" in get_refusal("hinge_embedding_loss", {}, (3, 4), (3,))


@pytest.mark.parametrize(
    ("x", "target", "loss", "slope"),
    [
        (0.3, 1.0, 0.3, 1.0),
        (-2.0, 1.0, -2.0, 1.0),
        (0.3, -1.0, 0.7, -1.0),
        (1.5, -1.0, 0.0, 0.0),
        (1.0, -1.0, 0.0, -1.0),
        (0.25, 0.0, 1.0, 0.0),
        (3.0, 0.5, 3.0, 1.0),
    ],
)
def test_hinge_embedding_loss_equals_its_formula_and_pytorch(x, target, loss, slope):
    op = Hinge(reduction="none")
    inputs = np.array([[x]]), np.array([[target]])
    np.testing.assert_allclose(op.forward(*inputs), loss, rtol=1e-15)
    np.testing.assert_array_equal(op.backward(np.ones((1, 1)), np.zeros((1, 1)), *inputs)[0], slope)
    leaf = torch.tensor([x], dtype=torch.float64, requires_grad=True)
    op.torch_forward(torch, leaf, torch.tensor([target])).sum().backward()
    assert leaf.grad is not None
    assert leaf.grad.item() == slope


def test_at_the_margin_the_hinge_may_be_either_slope():
    choices = Hinge(reduction="mean").list_subgradient_choices(
        [np.zeros((1, 3)), None], np.array([[1.0, 1.0, 0.5]]), np.array([[-1.0, 1.0, -1.0]])
    )
    assert choices is not None
    assert choices.alternative_count == 2
    np.testing.assert_allclose(choices.entry_coefficients, [0, -1 / 3])
    np.testing.assert_array_equal(choices.weights, [0, 1])
