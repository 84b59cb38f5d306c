import mpmath
import numpy as np
import pytest

from service.checks.graph.check import check
from service.numerics.core.precision import PRECISIONS
from service.numerics.gradients import analytic, autograd
from service.numerics.model.graph import Graph, Node
from service.numerics.model.rounding import estimate_rounding_allowances
from service.numerics.ops import OP_REGISTRY

POINTS = [0.0, -0.0, 5e-324, 1e-300, -1e-8, 0.3, -1.0, 5.0, 19.0, -19.5, 30.0, -40.0, 300.0, -350.0]


def sigmoid(x):
    return 1 / (1 + mpmath.exp(-x))


EXACT = {
    "tanh": (mpmath.tanh, lambda x: mpmath.sech(x) ** 2),
    "sigmoid": (sigmoid, lambda x: mpmath.exp(-abs(x)) / (1 + mpmath.exp(-abs(x))) ** 2),
    "silu": (lambda x: x * sigmoid(x), lambda x: sigmoid(x) * (1 + x * sigmoid(-x))),
}


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("point", POINTS)
def test_value_and_derivative_have_no_cancellation(name, point):
    """Against 50 digits: a few units in the last place, far out too, where 1 - y has no digits left."""
    x = np.array([point])
    function = OP_REGISTRY[name]()
    output = function.forward(x)
    (derivative,) = function.backward(np.ones(1), output, x)
    with mpmath.workdps(50):
        value, slope = (float(function(mpmath.mpf(point))) for function in EXACT[name])
    np.testing.assert_allclose(output, value, rtol=5e-16, atol=5e-324)
    np.testing.assert_allclose(derivative, slope, rtol=2e-15, atol=5e-324)


@pytest.mark.parametrize("name", ["tanh", "sigmoid"])
def test_nothing_becomes_nan_far_out(name):
    x = np.array([1e308, -1e308, np.inf, -np.inf])
    with np.errstate(over="ignore", invalid="raise", divide="raise"):
        output = OP_REGISTRY[name]().forward(x)
        (derivative,) = OP_REGISTRY[name]().backward(np.ones(4), output, x)
    np.testing.assert_array_equal(output, [1, -1, 1, -1] if name == "tanh" else [1, 0, 1, 0])
    np.testing.assert_array_equal(derivative, 0)


@pytest.mark.parametrize("point", [-30.0, -8.0, -1e-3, 0.0, 1e-9, 2.0, 25.0])
def test_softplus_and_gelu_agree_with_50_digits(point):
    x = np.array([point])
    with mpmath.workdps(50):
        z = mpmath.mpf(point)
        softplus = float(mpmath.log1p(mpmath.exp(z)))
        gelu = float(z * mpmath.ncdf(z))
    np.testing.assert_allclose(OP_REGISTRY["softplus"](threshold=100.0).forward(x), softplus, rtol=5e-16)
    np.testing.assert_allclose(OP_REGISTRY["gelu"]().forward(x), gelu, rtol=1e-15, atol=1e-15)


@pytest.mark.parametrize(
    ("name", "attributes"),
    [("relu", {}), ("leaky_relu", {}), ("elu", {}), ("softplus", {"threshold": 0.0})],
)
def test_each_piece_goes_on_beyond_its_end(name, attributes):
    """Held to its piece the function has no kink: its second difference across 0 vanishes with the step."""
    op = OP_REGISTRY[name](**attributes)
    for side in (-1e-3, 1e-3):
        x = np.array([side])
        across = np.array([side - 2e-3, side, side + 2e-3])
        values = op.forward_on_branch(op.select_branch(x), across)
        np.testing.assert_array_equal(values[1:2], op.forward(x))
        slope = op.backward(np.ones(1), op.forward(x), x)[0]
        np.testing.assert_allclose((values[2] - values[0]) / 4e-3, slope, rtol=1e-5, atol=1e-12)


def test_the_gelu_of_pytorch_in_float32_is_within_the_allowance():
    nodes = [Node("y", OP_REGISTRY["gelu"](), ("x",)), Node("loss", OP_REGISTRY["sum"](), ("y",))]
    count = 100_000
    graph = Graph(nodes, {"x": (count,)})
    leaves = {"x": np.linspace(0.01, 3, count, dtype=np.float32)[None]}
    wide = {"x": leaves["x"].astype(np.float64)}
    allowed = estimate_rounding_allowances(graph, wide, PRECISIONS["FP32"], 0, ["x"])["x"]
    result, exact = autograd.differentiate_by_torch(graph, leaves), analytic.differentiate_analytically(graph, wide)
    apart = np.abs(result.gradients["x"] - exact.gradients["x"])
    assert (apart <= allowed).all()
    assert (apart > allowed / 3).any(), "and it is not far more than is needed"


def test_nan_is_on_no_piece_of_relu() -> None:
    x = np.array([np.nan, -1.0, 2.0, np.inf, -np.inf])
    np.testing.assert_array_equal(OP_REGISTRY["relu"]().forward(x), [np.nan, 0, 2, np.inf, 0])


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
@pytest.mark.parametrize("point", [1.0, 89.0, 710.0, 1e4])
def test_softplus_with_a_threshold_beyond_the_range_passes(point: float, dtype: str) -> None:
    """The derivative of PyTorch's own is NaN where exp(x) overflows."""
    body = {"model": "y = softplus(x, threshold=1e9)\nloss = sum(y)", "tensors": {}, "weights": {"x": [point, -1.0]}}
    assert check({**body, "dtype": dtype})["outcome"] == "pass"
    slopes = [1 / (1 + np.exp(-point)), 1 / (1 + np.exp(1))]
    assert check({**body, "candidate": {"x": slopes}})["outcome"] == "pass"
    assert check({**body, "candidate": {"x": [0.75, slopes[1]]}})["outcome"] == "fail"
