import mpmath
import numpy as np
import pytest
import torch

from service.numerics.core.precision import PRECISIONS
from service.numerics.model.graph import Graph, Node
from service.numerics.model.rounding import estimate_rounding_allowances
from service.numerics.ops import OP_REGISTRY
from tests.service.numerics.ops.exact_functions import assert_values_and_slopes

POINTS = [-700.0, -40.0, -19.5, -1.0, -1e-8, 1e-300, 0.3, 5.0, 19.0, 30.0, 300.0]


def softplus_tanh(x):
    return mpmath.tanh(mpmath.log1p(mpmath.exp(x)))


def sigmoid(x):
    return 1 / (1 + mpmath.exp(-x))


def mish_slope(x):
    t = softplus_tanh(x)
    return t + x * mpmath.sech(mpmath.log1p(mpmath.exp(x))) ** 2 * sigmoid(x)


EXACT = {
    "mish": (lambda x: x * softplus_tanh(x), mish_slope, POINTS),
    "logsigmoid": (lambda x: -mpmath.log1p(mpmath.exp(-x)), lambda x: sigmoid(-x), POINTS),
}


@pytest.mark.parametrize("name", EXACT)
def test_values_and_derivatives_agree_with_60_digits(name: str) -> None:
    assert_values_and_slopes(name, EXACT[name], value_tolerance=2e-15)


@pytest.mark.parametrize(
    ("name", "attributes", "function"),
    [("celu", {"alpha": 0.7}, torch.nn.functional.celu), ("hardsigmoid", {}, torch.nn.functional.hardsigmoid)],
)
def test_constant_of_single_precision_in_the_backward_pass_of_pytorch_is_allowed(name, attributes, function) -> None:
    x = np.linspace(-2, -0.1, 7)
    point = torch.tensor(x, requires_grad=True)
    function(point, **attributes).sum().backward()
    op = OP_REGISTRY[name](**attributes)
    graph = Graph([Node("y", op, ("x",)), Node("loss", OP_REGISTRY["sum"](), ("y",))], {"x": (7,)})
    allowed = estimate_rounding_allowances(graph, {"x": x[None]}, PRECISIONS["FP64"], 0, ["x"])["x"]
    assert point.grad is not None
    apart = np.abs(op.backward(np.ones(7), op.forward(x), x)[0] - point.grad.numpy())
    assert (apart > 1e-10).any(), "PyTorch computes as it did"
    assert (apart <= allowed).all()
    assert (allowed < 1e-6).all()
