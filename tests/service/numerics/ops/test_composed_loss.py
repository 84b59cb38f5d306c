import math

import numpy as np
import pytest
import torch

from service.checks.graph.check import check
from tests.service.numerics.ops.composed_gradients import evaluate
from tests.service.numerics.ops.shape_refusals import get_refusal


def test_pairs_in_order_by_the_margin_have_no_loss() -> None:
    y, (by_first, by_second, _) = evaluate(
        "margin_ranking_loss", [3.0, 1.0], [1.0, 2.0], [1.0, 1.0], margin=0.5, reduction="none"
    )
    np.testing.assert_array_equal(y, [0, 1.5])
    np.testing.assert_array_equal(by_first, [0, -1])
    np.testing.assert_array_equal(by_second, [0, 1])


def test_likelihood_of_a_normal_distribution() -> None:
    y, (by_mean, by_target, by_variance) = evaluate("gaussian_nll_loss", [3.0], [1.0], [2.0], full=True)
    density = math.exp(-(2.0**2) / (2 * 2.0)) / math.sqrt(2 * math.pi * 2.0)
    np.testing.assert_allclose(y, -math.log(density), rtol=1e-14)
    np.testing.assert_allclose([by_mean[0], by_target[0], by_variance[0]], [1, -1, (1 - 4 / 2) / 4], rtol=1e-14)


def test_variance_below_eps_has_no_gradient() -> None:
    _, (_, _, by_variance) = evaluate("gaussian_nll_loss", [3.0], [1.0], [0.5], eps=1.0)
    np.testing.assert_array_equal(by_variance, [0])


def test_loss_of_labels_is_a_mean_over_classes() -> None:
    y, (by_input, _, _) = evaluate("multilabel_soft_margin_loss", [[0.0, 0.0]], [[1.0, 0.0]], [1.0, 3.0])
    np.testing.assert_allclose(y, 2 * math.log(2), rtol=1e-15)
    np.testing.assert_allclose(by_input, [[-0.25, 0.75]], rtol=1e-15)


@pytest.mark.parametrize(
    ("name", "shapes", "words"),
    [
        ("margin_ranking_loss", ((3,), (3,), (1,)), "of one shape"),
        ("gaussian_nll_loss", ((2, 3), (2, 3), (3,)), "of it without the last axis"),
        ("gaussian_nll_loss", ((2, 3), (2, 3), (1, 1)), "one axis of length 1"),
        ("gaussian_nll_loss", ((2, 3), (3,), (2, 3)), "of one shape"),
        ("multilabel_soft_margin_loss", ((2, 3), (3,), None), "of one shape"),
        ("multilabel_soft_margin_loss", ((2, 3), (2, 3), (2,)), "a weight of shape [3]"),
    ],
)
def test_losses_refuse_by_name(name, shapes, words) -> None:
    assert words in get_refusal(name, {}, *shapes)


@pytest.mark.parametrize(
    ("shape", "variances"),
    [((2, 3), (2, 1)), ((2, 3), (2,)), ((2, 3, 4), (2, 1, 4)), ((3,), ()), ((), ()), ((3,), (1,)), ((2, 3), ())],
)
def test_variance_is_broadcast_as_by_pytorch(shape, variances) -> None:
    generator = np.random.default_rng(0)
    x, t, v = generator.normal(size=shape), generator.normal(size=shape), generator.uniform(0.5, 2, variances)
    leaves = [torch.tensor(array, requires_grad=True) for array in (x, t, v)]
    # PyTorch takes a number as one, and no tensor of it beside several axes.
    variance = leaves[2].expand(shape) if not variances else leaves[2]
    expected = torch.nn.functional.gaussian_nll_loss(leaves[0], leaves[1], variance)
    expected.backward()
    y, gradients = evaluate("gaussian_nll_loss", x, t, v)
    np.testing.assert_allclose(y, expected.detach(), rtol=1e-14)
    for gradient, leaf in zip(gradients, leaves, strict=True):
        np.testing.assert_allclose(gradient, leaf.grad, rtol=1e-13)


def test_variance_may_be_a_constant() -> None:
    model = "loss = gaussian_nll_loss(w, y, 0.5)"
    body = {"model": model, "tensors": {"y": [1.0, 2.0]}, "weights": {"w": [1.5, 0.5]}}
    assert check({**body, "candidate": {"w": [0.5, -1.5]}})["outcome"] == "pass"
    assert check({**body, "candidate": {"w": [0.25, -0.75]}})["outcome"] == "fail"
