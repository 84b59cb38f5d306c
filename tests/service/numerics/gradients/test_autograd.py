import numpy as np
import pytest
import torch

from service.numerics.core.batching import add_batch_axis
from service.numerics.core.precision import DTYPES
from service.numerics.gradients import autograd
from service.numerics.model.graph import Graph, InvalidModelError, Node
from service.numerics.ops import OP_REGISTRY
from tests import truth
from tests.op_graphs import build_reference_example, build_reference_model

LOSS = OP_REGISTRY["half_squared_error"](reduction="sum")


@pytest.mark.parametrize("seed", range(3))
def test_autograd_gradient_is_exact_to_rounding(seed):
    graph, leaves = build_reference_model((6, 5), (3, 2), seed)
    result = autograd.differentiate_by_torch(graph, leaves)
    for name, expected in truth.compute_rounded_gradients(graph, leaves).items():
        np.testing.assert_allclose(result.gradients[name], expected, rtol=1e-11, atol=1e-14 * np.abs(expected).max())


def test_only_requested_names_are_differentiated():
    graph, leaves = build_reference_example()
    everything = autograd.differentiate_by_torch(graph, leaves).gradients
    assert everything.keys() == set(graph.shapes)
    some = autograd.differentiate_by_torch(graph, leaves, ["w1", "L2"]).gradients
    assert some.keys() == {"w1", "L2"}
    np.testing.assert_array_equal(some["L2"], everything["L2"])


def test_a_node_that_hands_its_input_back_has_a_gradient_of_its_own():
    """In PyTorch flatten of one axis is its input itself, which here is used a second time."""
    nodes = [Node("flat", OP_REGISTRY["flatten"](), ("x",)), Node("loss", LOSS, ("flat", "p"))]
    nodes.insert(1, Node("p", OP_REGISTRY["mul"](), ("x", 3.0)))
    graph = Graph(nodes, {"x": (2,)})
    result = autograd.differentiate_by_torch(graph, {"x": add_batch_axis(np.array([1.0, -2.0]))}).gradients
    np.testing.assert_allclose(result["flat"], [-2, 4])
    np.testing.assert_allclose(result["x"], [4, -8])


def test_a_node_of_constants_alone_has_a_gradient():
    nodes = [Node("c", OP_REGISTRY["mul"](), (2.0, 3.0)), Node("p", OP_REGISTRY["mul"](), ("x", "c"))]
    graph = Graph([*nodes, Node("loss", LOSS, ("p", "p"))], {"x": ()})
    assert autograd.differentiate_by_torch(graph, {"x": np.ones(1)}).gradients["c"] == 0
    graph = Graph([*nodes, Node("loss", OP_REGISTRY["mul"](), ("p", "p"))], {"x": ()})
    assert autograd.differentiate_by_torch(graph, {"x": np.ones(1)}).gradients["c"] == 12


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_autograd_gradient_of_half_precision_is_float32(name):
    graph, leaves = build_reference_example()
    narrow = {key: DTYPES[name].round_array(leaf) for key, leaf in leaves.items()}
    result = autograd.differentiate_by_torch(graph, narrow, dtype=name)
    wide = autograd.differentiate_by_torch(graph, leaves)
    for key, gradient in result.gradients.items():
        assert gradient.dtype == np.float32
        assert DTYPES[name].precision.is_representable(gradient.astype(np.float64)).all()
        np.testing.assert_allclose(gradient, wide.gradients[key], rtol=0.1, atol=0.02)


def test_the_leaves_are_not_written_to():
    graph, leaves = build_reference_example()
    before = {name: leaf.copy() for name, leaf in leaves.items()}
    autograd.differentiate_by_torch(graph, leaves)
    for name, leaf in leaves.items():
        np.testing.assert_array_equal(leaf, before[name])


class Refused(type(OP_REGISTRY["tanh"]())):
    """An op whose twin PyTorch refuses."""

    def torch_forward(self, torch, input):
        return torch.einsum("ij->i", input)


class Underivable(type(OP_REGISTRY["tanh"]())):
    """An op of which PyTorch has a value and refuses the derivative."""

    def torch_forward(self, torch, input):
        class Function(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                return x * 2

            @staticmethod
            def backward(ctx, g):
                raise RuntimeError("no derivative\nof this")

        return Function.apply(input)


@pytest.mark.parametrize(
    ("op", "words", "position"),
    [(Refused, r"PyTorch refuses node 't' \(tanh\): ", 1), (Underivable, "PyTorch refuses the backward pass: ", None)],
)
def test_error_of_pytorch_names_the_node(op, words, position):
    nodes = [Node("p", OP_REGISTRY["mul"](), ("x", 2.0)), Node("t", op(), ("p",))]
    graph = Graph([*nodes, Node("loss", LOSS, ("t", 0.0))], {"x": ()})
    with pytest.raises(InvalidModelError, match=words) as caught:
        autograd.differentiate_by_torch(graph, {"x": np.ones(1)})
    assert caught.value.errors[0].node == position
    assert "\n" not in str(caught.value)


def test_the_number_of_threads_is_restored_by_the_last_that_computes() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with autograd._ONE_THREAD:
            with autograd._ONE_THREAD:
                assert torch.get_num_threads() == 1
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)
