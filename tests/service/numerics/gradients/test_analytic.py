import numpy as np
import pytest

from service.numerics.core.precision import DTYPES
from service.numerics.gradients import analytic
from tests import truth
from tests.op_graphs import build_reference_example, build_reference_model


@pytest.mark.parametrize("sizes", [((3, 3), (2, 2)), ((7, 4), (3, 2)), ((2, 5), (2, 5))])
@pytest.mark.parametrize("seed", range(3))
def test_analytic_gradient_is_exact_to_rounding(sizes, seed):
    graph, leaves = build_reference_model(*sizes, seed)
    result = analytic.differentiate_analytically(graph, leaves)
    for name, expected in truth.compute_rounded_gradients(graph, leaves).items():
        assert result.gradients[name].shape == expected.shape
        np.testing.assert_allclose(result.gradients[name], expected, rtol=1e-12, atol=1e-15 * np.abs(expected).max())


def test_analytic_result_has_all_arrays_without_batch_axis():
    graph, leaves = build_reference_example()
    result = analytic.differentiate_analytically(graph, leaves)
    assert result.values.keys() == result.gradients.keys() == set(graph.shapes)
    for name, shape in graph.shapes.items():
        assert result.values[name].shape == result.gradients[name].shape == shape
    assert result.gradients[graph.loss_name] == 1


def test_an_override_is_taken_for_its_node_alone():
    graph, leaves = build_reference_example()
    plain = analytic.differentiate_analytically(graph, leaves).gradients
    doubled = analytic.differentiate_analytically(graph, leaves, {"L1": _make_doubled_backward(graph, "L1")}).gradients
    np.testing.assert_allclose(doubled["w1"], 2 * plain["w1"])
    np.testing.assert_array_equal(doubled["w2"], plain["w2"])


@pytest.mark.parametrize("dtype", [DTYPES["float16"], DTYPES["bfloat16"]], ids=lambda dtype: dtype.name)
def test_in_a_dtype_that_numpy_has_not_every_result_is_rounded(dtype):
    graph, leaves = build_reference_example()
    narrow = {name: dtype.round_array(leaf) for name, leaf in leaves.items()}
    result = analytic.differentiate_analytically(graph, narrow, dtype=dtype)
    plain = analytic.differentiate_analytically(graph, narrow)
    for name in graph.shapes:
        for array in (result.values[name], result.gradients[name]):
            assert dtype.precision.is_representable(array.astype(np.float64)).all()
    assert not dtype.precision.is_representable(plain.gradients["w1"].astype(np.float64)).all()


def _make_doubled_backward(graph, name):
    node = next(node for node in graph.nodes if node.name == name)
    return lambda gradient, output, *inputs: node.op.backward(2 * gradient, output, *inputs)
