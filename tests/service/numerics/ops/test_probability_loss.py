import mpmath
import numpy as np
import pytest
import torch

from service.numerics.ops import OP_REGISTRY
from tests.service.numerics.ops.shape_refusals import get_refusal


@pytest.mark.parametrize(
    ("name", "shapes", "words"),
    [
        ("binary_cross_entropy", ((3,), (4,), None), "of one shape"),
        ("binary_cross_entropy", ((3,), (3,), (4,)), "a weight that broadcasts to [3]"),
        ("binary_cross_entropy", ((3,), (3,), (2, 3)), "a weight that broadcasts to [3]"),
        ("binary_cross_entropy_with_logits", ((3,), (4,), None, None), "of one shape"),
        ("binary_cross_entropy_with_logits", ((3,), (3,), None, (4,)), "a pos_weight that broadcasts to [3]"),
        ("kl_div", ((3,), (4,)), "of one shape"),
    ],
)
def test_probability_loss_refuses_mismatched_inputs(name, shapes, words):
    assert words in get_refusal(name, {}, *shapes)


def test_batchmean_without_a_batch_is_refused():
    assert "a first axis" in get_refusal("kl_div", {"reduction": "batchmean"}, (), ())


@pytest.mark.parametrize("z", [-800.0, -40.0, 1e-9, 3.0, 40.0, 800.0])
@pytest.mark.parametrize("y", [0.0, 1.0, 0.3])
def test_loss_of_any_logits_agrees_with_50_digits(z, y):
    op = OP_REGISTRY["binary_cross_entropy_with_logits"](reduction="none")
    x, target = np.array([[z]]), np.array([[y]])
    with mpmath.workdps(400):
        s = 1 / (1 + mpmath.exp(-mpmath.mpf(z)))
        exact = float(-(y * mpmath.log(s) + (1 - mpmath.mpf(y)) * mpmath.log(1 - s)))
    np.testing.assert_allclose(op.forward(x, target, None, None)[0, 0], exact, rtol=1e-14)


def test_binary_cross_entropy_clamps_logarithms_at_minus_100():
    op = OP_REGISTRY["binary_cross_entropy"](reduction="none")
    assert op.forward(np.array([[0.0, 1.0]]), np.array([[1.0, 0.0]]), None).tolist() == [[100, 100]]


@pytest.mark.parametrize("p", [0.0, 1e-60, 0.25, 1.0])
def test_by_a_target_pytorch_clamps_logarithms_as_the_loss_does(p):
    op = OP_REGISTRY["binary_cross_entropy"](reduction="sum")
    target = torch.tensor([0.25], dtype=torch.float64, requires_grad=True)
    op.torch_forward(torch, torch.tensor([p], dtype=torch.float64), target, None).backward()
    given = np.array([[p]]), np.array([[0.25]]), None
    by_target = op.backward(np.ones(1), op.forward(*given), *given)[1]
    np.testing.assert_allclose(target.grad.numpy(), by_target[0], rtol=1e-14)
    held = torch.tensor([0.25], dtype=torch.float64, requires_grad=True)
    torch.nn.functional.binary_cross_entropy(torch.tensor([p], dtype=torch.float64), held).backward()
    assert bool(np.isclose(held.grad.numpy(), by_target[0]).all()) == (p == 0.25), "PyTorch's own derivative does not"


def test_kl_div_of_zero_target_is_zero():
    op = OP_REGISTRY["kl_div"](reduction="none")
    np.testing.assert_array_equal(op.forward(np.array([[-3.0, -1.0]]), np.array([[0.0, 1.0]])), [[0, 1]])


def test_saturated_probability_has_a_wide_allowance():
    """PyTorch divides by 1e-12 at least; its derivative there is not that of its loss, and no verdict rests on it."""
    op = OP_REGISTRY["binary_cross_entropy"](reduction="none")
    p, y, g = np.array([[0.5, 1 - 1e-14]]), np.zeros((1, 2)), np.ones((1, 2))
    rounding = op.estimate_backward_rounding(g, g, p, y, None)[0]
    assert (rounding.magnitude[0] * 2.0**-53 > [1, 1e12]).tolist() == [False, True]
