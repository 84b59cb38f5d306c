import mpmath
import numpy as np
import pytest
import torch

from service.checks.graph.check import check
from service.numerics.ops import OP_REGISTRY
from tests.service.numerics.ops.composed_gradients import evaluate


def test_soft_margin_keeps_its_digits_on_both_sides() -> None:
    op = OP_REGISTRY["soft_margin_loss"](reduction="none")
    x, y = np.array([[40.0, -700.0, 1e-8, 3.0]]), np.array([[1.0, 1.0, -1.0, -1.0]])
    with mpmath.workdps(60):
        pairs = [(mpmath.mpf(a), mpmath.mpf(b)) for a, b in zip(x[0], y[0], strict=True)]
        values = [float(mpmath.log1p(mpmath.exp(-a * b))) for a, b in pairs]
        slopes = [float(-b / (1 + mpmath.exp(a * b))) for a, b in pairs]
    output = op.forward(x, y)
    np.testing.assert_allclose(output[0], values, rtol=1e-15)
    np.testing.assert_allclose(op.backward(np.ones_like(x), output, x, y)[0][0], slopes, rtol=1e-14)


def test_losses_are_those_of_pytorch() -> None:
    generator = np.random.default_rng(0)
    x, y = generator.uniform(0.1, 2, (1, 7)), np.where(generator.random((1, 7)) < 0.5, 1.0, -1.0)
    for name, attributes in (
        ("soft_margin_loss", {}),
        ("poisson_nll_loss", {}),
        ("poisson_nll_loss", {"log_input": False, "eps": 0.01}),
    ):
        expected = getattr(torch.nn.functional, name)(torch.tensor(x[0]), torch.tensor(y[0]), **attributes)
        np.testing.assert_allclose(OP_REGISTRY[name](**attributes).forward(x, y), [expected.item()], rtol=1e-13)


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("log_input", [True, False])
def test_full_loss_of_counts_has_the_approximation_of_pytorch(log_input: bool, reduction: str) -> None:
    x, counts = np.array([0.5, 1.5, 0.25, 2.0]), np.array([0.0, 1.0, 2.5, 30.0])
    inputs = torch.tensor(x, requires_grad=True), torch.tensor(counts[2:], requires_grad=True)
    targets = torch.cat([torch.tensor(counts[:2]), inputs[1]])
    expected = torch.nn.functional.poisson_nll_loss(
        inputs[0], targets, log_input=log_input, full=True, reduction=reduction
    )
    expected.sum().backward()
    y, (by_input, by_counts) = evaluate(
        "poisson_nll_loss", x, counts, full=True, log_input=log_input, reduction=reduction
    )
    np.testing.assert_allclose(y, expected.detach(), rtol=1e-14)
    np.testing.assert_allclose(by_input, inputs[0].grad, rtol=1e-14)
    np.testing.assert_allclose(by_counts[2:], inputs[1].grad, rtol=1e-14)


def test_full_loss_passes_beside_a_count_of_0_and_a_wrong_one_fails() -> None:
    model = "l = poisson_nll_loss(w, y, full=True, reduction='sum')\nloss = sum(l)"
    body = {"model": model, "tensors": {}, "weights": {"w": [0.5, 1.0], "y": [0.0, 3.0]}}
    assert check(body)["outcome"] == "pass"
    right = [-0.5, -1.0 + np.log(3.0) + 1 / 6]
    assert check({**body, "candidate": {"y": right}})["outcome"] == "pass"
    assert check({**body, "candidate": {"y": [-0.5, -1.0]}})["outcome"] == "fail"
