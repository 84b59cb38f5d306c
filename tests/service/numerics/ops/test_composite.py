"""Composite ops: a graph holds their steps, and everything that a client sees speaks of the node."""

from typing import Any

import numpy as np
import pytest

from schemas.problem_details import InvalidRequestError
from service.checks.graph.check import check
from service.numerics.core.batching import add_batch_axis
from service.numerics.gradients import analytic, autograd
from service.numerics.model.graph import Graph, InvalidModelError, Node
from service.numerics.ops import OP_REGISTRY
from service.numerics.ops.composite import CompositeOp, Expansion
from service.numerics.ops.op import OpExample
from tests.op_graphs import build_op_graph
from tests.solved_problems import SolvedProblem

COMPOSITE = {name: op for name, op in OP_REGISTRY.items() if issubclass(op, CompositeOp) and op.examples}
NODES: list[dict[str, Any]] = [
    {"name": "h", "op": "glu", "inputs": ["x"]},
    {"name": "n", "op": "normalize", "inputs": ["h"]},
    {"name": "loss", "op": "mse_loss", "inputs": ["n", "y"]},
]
X = [[1.0, 2.0, -3.0, 0.5], [0.7, -0.2, 1.1, 1.3], [0.3, 1.7, -0.9, 0.6]]
Y = [[0.1, 0.2], [0.3, -0.5], [0.7, 0.11]]
REQUEST: dict[str, Any] = {"tensors": {"y": Y}, "weights": {"x": X}, "model": {"nodes": NODES}}


@pytest.mark.parametrize("op", COMPOSITE.values(), ids=COMPOSITE)
def test_every_step_reaches_the_last(op: type[CompositeOp]) -> None:
    for case in op.examples:
        graph, _ = build_op_graph(op, case)
        read = {source for node in graph.nodes for source in node.source_names}
        assert {node.name for node in graph.nodes} - read == {"loss"}
        assert [node.name for node in graph.nodes if graph.get_listed_name(node.name) == node.name] == [
            "output",
            "loss",
        ]


def test_steps_take_names_that_nothing_has() -> None:
    nodes = [Node("y", OP_REGISTRY["softsign"](), ("y.1",)), Node("loss", OP_REGISTRY["sum"](), ("y",))]
    graph = Graph(nodes, {"y.1": (3,)})
    assert len(graph.nodes) == 4
    assert graph.shapes["y.1"] == (3,)
    assert graph.public_names == ["y.1", "y", "loss"]
    leaf = add_batch_axis(np.array([1.0, -2.0, 3.0]))
    gradients = analytic.differentiate_analytically(graph, {"y.1": leaf}).gradients
    np.testing.assert_allclose(gradients["y.1"], (1 + np.abs(leaf[0])) ** -2.0, rtol=1e-15)


def test_a_composite_op_may_be_made_of_composite_ops() -> None:
    nodes = [Node("y", OP_REGISTRY["cosine_similarity"](), ("a", "b")), Node("loss", OP_REGISTRY["sum"](), ("y",))]
    graph = Graph(nodes, {"a": (2, 3), "b": (2, 3)})
    assert not any(isinstance(node.op, CompositeOp) for node in graph.nodes)


def test_steps_that_are_not_those_of_pytorch_are_noticed() -> None:
    class Liar(OP_REGISTRY["softsign"]):  # type: ignore[misc]
        def expand(self, step: Expansion, input: str) -> str:
            return step("div", input, step("add", step("abs", input), 2.0))

    graph, leaves = build_op_graph(Liar, OpExample(((3, 4),)))
    by_hand = analytic.differentiate_analytically(graph, leaves).gradients["input"]
    by_torch = autograd.differentiate_by_torch(graph, leaves).gradients["input"]
    assert np.abs(by_hand - by_torch).max() > 0.01


def test_constants_of_the_steps_are_not_rounded_with_those_of_the_request() -> None:
    nodes = [Node("y", OP_REGISTRY["pairwise_distance"](), ("a", 0.1)), Node("loss", OP_REGISTRY["sum"](), ("y",))]
    rounded = Graph(nodes, {"a": (4,)}).round_constants(lambda number: 0.125)
    constants = [operand for node in rounded.nodes for operand in node.operands if isinstance(operand, float)]
    assert constants == [0.125, 1e-6]
    assert rounded.ordered_nodes[0].operands == ("a", 0.125)


def test_an_answer_speaks_of_the_node_alone() -> None:
    request = REQUEST | {"include": ["gradients", "intermediates"], "with_respect_to": ["x", "h"]}
    answer: Any = check(request)
    assert answer["outcome"] == "pass"
    assert [node["name"] for node in answer["model"]["nodes"]] == ["h", "n", "loss"]
    assert answer["model"]["nodes"][1]["eps"] == 1e-12
    assert set(answer["intermediates"]) == {"h", "n"}
    assert set(answer["gradients"]) >= {"x", "h"}
    assert not any(name.startswith(("h.", "n.")) for name in answer["gradients"])


def test_a_step_has_no_name_on_the_wire() -> None:
    with pytest.raises(InvalidRequestError) as refusal:
        check(REQUEST | {"with_respect_to": ["h.1"]})
    (error,) = refusal.value.errors
    assert error["detail"] == "there is no tensor, weight or node 'h.1'; there are: 'y', 'x', 'h', 'n'"
    assert error["pointer"] == "/with_respect_to/0"


def test_a_wrong_shape_is_refused_in_the_terms_of_the_node() -> None:
    with pytest.raises(InvalidRequestError) as refusal:
        check(REQUEST | {"weights": {"x": [[1.0, 2.0, 3.0]]}})
    (error,) = refusal.value.errors
    assert error["detail"].startswith("node 'h' (glu) takes an input of even length along axis -1; got input 'x'")
    assert error["pointer"] == "/model/nodes/0"


def test_a_bug_of_a_step_is_named_at_the_step() -> None:
    solved = SolvedProblem(REQUEST)
    graph, values = solved.problem.graph, solved.problem.graph.forward(solved.problem.float64_leaves)
    sigmoid = next(node for node in graph.nodes if node.op.name == "sigmoid")
    wrong = graph.backward(values, {sigmoid.name: lambda gradient, output, input: (gradient,)})["x"][0]
    _, explanations = solved.judge_candidates({"x": wrong})
    assert [explanation.bug_name for explanation in explanations["x"]] == ["missing_activation_derivative"]
    assert explanations["x"][0].explanation == (
        "Matches exactly: the derivative of the sigmoid in h (glu) was skipped."
    )


def test_a_number_that_is_not_finite_is_found_in_its_step() -> None:
    request = REQUEST | {"weights": {"x": np.zeros((3, 4)).tolist()}}
    request["model"] = {"nodes": [NODES[0], NODES[1] | {"eps": 0.0}, NODES[2]]}
    answer: Any = check(request)
    assert "begins at the div in node 'n' (normalize)" in answer["verdicts"]["x"]["reason"]


def test_unknown_operands_stay_errors_of_the_request() -> None:
    nodes = [Node("y", OP_REGISTRY["glu"](), ("nothing",)), Node("loss", OP_REGISTRY["sum"](), ("y",))]
    with pytest.raises(InvalidModelError, match="node 'y' reads 'nothing'"):
        Graph(nodes, {})
