import mpmath
import numpy as np
import torch

from service.numerics.ops import OP_REGISTRY


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
