import numpy as np
import pytest

from service.numerics.core.precision import PRECISIONS
from service.numerics.model.graph import Graph, Node
from service.numerics.model.monte_carlo import MonteCarloRounding
from service.numerics.model.rounding import estimate_rounding_allowances
from service.numerics.ops import OP_REGISTRY


@pytest.mark.parametrize("name", ["FP64", "FP32"])
def test_rounding_error_never_exceeds_its_bound(name):
    """Also where the errors are larger than those of the precision, and are scaled back."""
    precision = PRECISIONS[name]
    observer, ones = MonteCarloRounding(precision, np.random.default_rng(0)), np.ones((1, 1000))
    for most, least in ((1e-30, 0.5), (0.1 * precision.unit_roundoff, 0.5), (1.0, 0)):
        zeros = observer(np.zeros((1, 1000)), ones, 1, ones * most)
        error = np.abs(zeros[1:]).max() * observer.spread_scale
        assert least * most <= error <= min(most, 1.01 * precision.unit_roundoff)


def test_functions_lose_what_is_below_the_normal_numbers():
    """Of sigmoid at -90 PyTorch makes 0 in float32, by way of an infinity; half precision is computed in more."""
    for name, lost in (("FP32", 2.0**-126), ("BF16", 2.0**-126), ("FP64", 2.0**-1022), ("FP16", 0)):
        precision = PRECISIONS[name]
        assert MonteCarloRounding(precision, np.random.default_rng(0)).underflow_loss * precision.unit_roundoff == lost
    graph = Graph(
        [Node("s", OP_REGISTRY["sigmoid"](), ("x",)), Node("loss", OP_REGISTRY["sum"](), ("s",))], {"x": (1,)}
    )
    allowed = estimate_rounding_allowances(graph, {"x": np.array([[-90.0]])}, PRECISIONS["FP32"], 0)["x"]
    assert np.exp(-90) < allowed < 1e-36
