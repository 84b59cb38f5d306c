"""Quotients of an operand are the responses of the output to its elements, times the quotients of the output."""

import numpy as np
import pytest

from service.numerics.core.batching import count_elements
from service.numerics.gradients.finite_difference import linear_pullback as pull_module
from service.numerics.gradients.finite_difference.base_point import BasePoint
from service.numerics.gradients.finite_difference.colouring import colour_operand
from service.numerics.gradients.finite_difference.linear_pullback import LinearPullback
from service.numerics.gradients.finite_difference.noise_meter import NoiseMeter, evaluate_with_sweeps
from service.numerics.gradients.finite_difference.quotients import DifferenceQuotients
from service.numerics.model.graph import Graph, NamedArrays, Node
from service.numerics.ops import OP_REGISTRY
from service.numerics.ops.op import ComputeCost, Op, OpExample
from tests.op_graphs import build_op_graph

COST = ComputeCost(2, 2)
LINEAR = [
    pytest.param(op, case, slot, id=f"{name}-{slot}-{number}")
    for name, op in OP_REGISTRY.items()
    for slot in op.linear_in
    for number, case in enumerate(op.examples)
]


def make_meter(point: BasePoint, leaves: NamedArrays) -> NoiseMeter:
    generator = np.random.default_rng(0)
    return NoiseMeter(*evaluate_with_sweeps(point.graph, leaves, generator), generator)


def compare_pullback(
    op: type[Op], case: OpExample, slot: str, written_out: bool
) -> tuple[DifferenceQuotients, DifferenceQuotients, np.ndarray] | None:
    """Quotients of an operand and of the output, and the responses to each element by itself."""
    graph, leaves = build_op_graph(op, case)
    point = BasePoint(graph, graph.forward(leaves))
    node = graph.nodes[0]
    position = next(i for i, operand in enumerate(node.operand_slots) if operand.name == slot)
    if node.operands[position] is None:
        return None
    inputs = point.get_operand_arrays(node)
    products = node.op.expand_products(position, *inputs)
    if written_out and products is None:
        return None
    outputs = count_elements(graph.shapes["output"])
    generator = np.random.default_rng(0)
    by_output = DifferenceQuotients(
        generator.normal(size=(3, outputs)), generator.uniform(size=outputs), generator.uniform(size=outputs)
    )
    colouring = None if written_out else colour_operand(point, node, position)
    quotients = LinearPullback(node.name, position, 1 if written_out else 0, colouring, 1, outputs).pull_back_quotients(
        point, by_output, make_meter(point, leaves)
    )
    shape = leaves[str(node.operands[position])].shape[1:]
    units = np.eye(count_elements(shape)).reshape(-1, *shape)
    return quotients, by_output, node.op.compute_linear_response(position, units, *inputs).reshape(len(units), -1)


@pytest.mark.parametrize("written_out", [True, False])
@pytest.mark.parametrize(("op", "case", "slot"), LINEAR)
def test_linear_pullback_is_the_sum_over_the_output(
    op: type[Op], case: OpExample, slot: str, written_out: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not written_out:
        monkeypatch.setattr(op, "expand_products", lambda self, position, *inputs: None)
    done = compare_pullback(op, case, slot, written_out)
    if done is None:
        return
    quotients, by_output, responses = done
    np.testing.assert_allclose(quotients.values, by_output.values @ responses.T, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(
        quotients.noise, np.sqrt(np.square(responses) @ np.square(by_output.noise)), rtol=1e-12, atol=1e-300
    )
    np.testing.assert_allclose(quotients.rounding_error, np.abs(responses) @ by_output.rounding_error, rtol=1e-12)


def test_some_ops_are_written_out() -> None:
    """The negative control of the test above: it does not pass because there is nothing to compare."""
    names = {
        op.name
        for op in OP_REGISTRY.values()
        for slot in op.linear_in
        if compare_pullback(op, op.examples[0], slot, written_out=True) is not None
    }
    assert names >= {"conv1d", "conv2d", "linear", "matmul"}


def test_pullback_in_blocks_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    op = OP_REGISTRY["conv2d"]
    whole = compare_pullback(op, op.examples[3], "weight", written_out=True)
    monkeypatch.setattr(pull_module, "MAX_TILE_ELEMENTS", 1)
    parts = compare_pullback(op, op.examples[3], "weight", written_out=True)
    assert whole is not None
    assert parts is not None
    np.testing.assert_allclose(whole[0].values, parts[0].values, rtol=1e-14)


def test_a_noise_that_is_tiny_beside_others_is_kept() -> None:
    op = OP_REGISTRY["mul"]
    graph, leaves = build_op_graph(op, OpExample(((2,), (2,))))
    leaves["other"] = np.array([[1.0, 1e-120]])
    point = BasePoint(graph, graph.forward(leaves))
    by_output = DifferenceQuotients(np.ones((3, 2)), np.array([1.0, 1e-90]), np.ones(2))
    colouring = colour_operand(point, graph.nodes[0], 0)
    quotients = LinearPullback("output", 0, 0, colouring, 1, 2).pull_back_quotients(
        point, by_output, make_meter(point, leaves)
    )
    np.testing.assert_allclose(quotients.noise, [1.0, 1e-210])


@pytest.mark.parametrize("written_out", [True, False])
def test_a_factor_that_upstream_leaves_uncertain_is_an_error(
    written_out: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """h = (x + 1) - 1 has eight digits; what it is multiplied into cannot have more."""
    linear = OP_REGISTRY["linear"]
    if not written_out:
        monkeypatch.setattr(linear, "expand_products", lambda self, position, *inputs: None)
    nodes = [
        Node("p", OP_REGISTRY["add"](), ("x", 1.0)),
        Node("h", OP_REGISTRY["sub"](), ("p", 1.0)),
        Node("z", linear(), ("h", "w", None)),
        Node("loss", OP_REGISTRY["sum"](), ("z",)),
    ]
    leaves = {"x": np.full((1, 4, 3), 1e-8), "w": np.ones((1, 2, 3))}
    graph = Graph(nodes, {"x": (4, 3), "w": (2, 3)})
    point = BasePoint(graph, graph.forward(leaves))
    by_output = DifferenceQuotients(np.ones((3, 8)), np.zeros(8), np.zeros(8))
    colouring = None if written_out else colour_operand(point, nodes[2], 1)
    pull = LinearPullback("z", 1, 3 if written_out else 0, colouring, 1, 8)
    quotients = pull.pull_back_quotients(point, by_output, make_meter(point, leaves))
    truth = 4e-8
    error = np.abs(quotients.values[0] - truth)
    assert (error > 1e-17).all()
    assert (error <= quotients.rounding_error).all()
    assert (quotients.rounding_error < 1e-14).all()


@pytest.mark.parametrize("factor", [1e-180, 1e-10, 1e180])
def test_small_noise_beside_a_large_one_is_pulled_back(factor: float) -> None:
    """In units of the largest, 1e150, the other would be 0."""
    graph = Graph(
        [
            Node("p", OP_REGISTRY["mul"](), ("x", "c")),
            Node("t", OP_REGISTRY["tanh"](), ("p",)),
            Node("loss", OP_REGISTRY["sum"](), ("t",)),
        ],
        {"x": (2,), "c": (2,)},
    )
    leaves = {"x": np.zeros((1, 2)), "c": np.array([[1e-150, factor]])}
    point = BasePoint(graph, graph.forward(leaves))
    by_output = DifferenceQuotients(np.ones((3, 2)), np.array([1e150, 1e-180]), np.zeros(2))
    quotients = LinearPullback("p", 0, 1, None, COST, 2).pull_back_quotients(
        point, by_output, make_meter(point, leaves)
    )
    np.testing.assert_allclose(quotients.noise, [1.0, 1e-180 * factor], rtol=1e-12, atol=1e-320)
