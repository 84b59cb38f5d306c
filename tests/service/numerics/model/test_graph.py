import numpy as np
import pytest

from service.numerics.core.batching import add_batch_axis
from service.numerics.model.graph import Graph, InvalidModelError, Node
from service.numerics.ops import OP_REGISTRY
from service.numerics.ops.op import ComputeCost
from tests.op_graphs import build_reference_example

MUL, TANH, LOSS = OP_REGISTRY["mul"](), OP_REGISTRY["tanh"](), OP_REGISTRY["half_squared_error"](reduction="sum")


def build_graph(*nodes, **shapes):
    return Graph([Node(name, op, operands) for name, op, operands in nodes], shapes)


def make_squared_product():
    """L = (x w)^2 / 2 by a node used twice, listed out of order: dL/dw = sum x^2 w."""
    return build_graph(
        ("half", MUL, ("p", 0.5)),
        ("p", MUL, ("x", "w")),
        ("q", MUL, ("half", "p")),
        ("loss", LOSS, ("q", "zero")),
        x=(3,),
        w=(),
        zero=(3,),
    )


def test_contributions_of_every_use_add_up():
    graph = make_squared_product()
    x, w = np.array([1.0, -2, 3]), 0.5
    values = graph.forward({"x": add_batch_axis(x), "w": add_batch_axis(np.array(w)), "zero": np.zeros((1, 3))})
    q = (x * w) ** 2 / 2
    assert values["loss"][0] == pytest.approx((q**2 / 2).sum())
    gradients = graph.backward(values)
    assert gradients["w"][0] == pytest.approx((q * x * x * w).sum())
    np.testing.assert_allclose(gradients["p"][0], q * x * w)
    np.testing.assert_allclose(gradients["x"][0], q * x * w * w)


def test_graph_orders_nodes_and_infers_shapes():
    graph = make_squared_product()
    order = [node.name for node in graph.nodes]
    assert order.index("p") < order.index("half") < order.index("q") < order.index("loss")
    assert graph.shapes["q"] == (3,)
    assert [node.name for node in graph.listed_nodes] == ["half", "p", "q", "loss"]
    assert [node.name for node in graph.list_downstream_nodes(["half"])] == ["q", "loss"]
    assert graph.list_downstream_nodes(["loss"]) == []


@pytest.mark.parametrize("name", ["x", "w1", "L1", "L2A"])
def test_resuming_is_bit_for_bit_what_a_whole_pass_gives(name):
    graph, leaves = build_reference_example()
    base = graph.forward(leaves)
    resumed = graph.forward_downstream(base, {name: base[name]})
    for other, value in base.items():
        np.testing.assert_array_equal(resumed[other], value)
    moved = graph.forward_downstream(base, {name: base[name] + 1})
    assert moved["loss"] != base["loss"]


def test_an_override_takes_the_place_of_a_backward_pass():
    graph, leaves = build_reference_example()
    values = graph.forward(leaves)
    plain = graph.backward(values)
    zeros = graph.backward(values, {"L1A": lambda gradient, output, *inputs: (gradient * 0,)})
    assert plain["w1"].all()
    assert not zeros["w1"].any()
    np.testing.assert_array_equal(zeros["w2"], plain["w2"])


BROKEN = {
    "unknown": ([("loss", LOSS, ("x", "nope"))], {"x": (2,)}, "'nope', which is no tensor", 0, "nope"),
    "clash": ([("x", TANH, ("x",)), ("loss", LOSS, ("x", "x"))], {"x": (2,)}, "may not take the name", 0, "x"),
    "repeated": (
        [("a", TANH, ("x",)), ("a", TANH, ("x",)), ("loss", LOSS, ("a", "x"))],
        {"x": (2,)},
        "two nodes are named 'a'",
        1,
        None,
    ),
    "cycle": (
        [("a", TANH, ("b",)), ("b", TANH, ("a",)), ("loss", LOSS, ("b", "x"))],
        {"x": (2,)},
        "form a cycle: ",
        0,
        None,
    ),
    "long cycle": (
        [(f"n{at}", TANH, (f"n{(at + 1) % 50}",)) for at in range(50)] + [("loss", LOSS, ("n0", "x"))],
        {"x": (2,)},
        r"form a cycle: (n\d+ -> ){5}\.\.\.( -> n\d+){4}$",
        0,
        None,
    ),
    "own input": ([("loss", LOSS, ("loss", "x"))], {"x": (2,)}, "cycle: loss -> loss", 0, None),
    "unreached node": (
        [("a", TANH, ("x",)), ("loss", LOSS, ("x", "x"))],
        {"x": (2,)},
        "'a' does not reach the loss 'loss'",
        0,
        None,
    ),
    "unreached leaf": ([("loss", LOSS, ("x", "x"))], {"x": (2,), "y": (2,)}, "'y' does not reach the loss", None, "y"),
    "not a scalar": ([("a", TANH, ("x",))], {"x": (2,)}, r"must have one element; its shape is \[2\]", 0, None),
    "misfit": (
        [("p", MUL, ("x", "y")), ("t", TANH, ("p",)), ("loss", LOSS, ("t", "x"))],
        {"x": (2,), "y": (3,)},
        r"node 'p' \(mul\) takes shapes that broadcast together; "
        r"got input 'x' of shape \[2\], other 'y' of shape \[3\]",
        0,
        None,
    ),
}


@pytest.mark.parametrize(("nodes", "shapes", "message", "position", "leaf"), BROKEN.values(), ids=BROKEN)
def test_invalid_graph_reports_the_place(nodes, shapes, message, position, leaf):
    with pytest.raises(InvalidModelError, match=message) as caught:
        build_graph(*nodes, **shapes)
    (error,) = caught.value.errors
    assert (error.node, error.leaf) == (position, leaf)


def test_invalid_graph_reports_all_errors_at_once():
    with pytest.raises(InvalidModelError) as caught:
        build_graph(("a", MUL, ("x", "p")), ("b", MUL, ("y", "q")), ("loss", LOSS, ("a", "b")), x=(2,), y=(2,))
    assert [error.leaf for error in caught.value.errors] == ["p", "q"]


def test_cost_counts_every_node():
    graph = make_squared_product()
    assert graph.estimate_cost().work > graph.estimate_cost(graph.list_downstream_nodes(["half"])).work > 0
    assert graph.estimate_cost().largest_array == 3 * 4


RELU, EMBEDDING, CAT = OP_REGISTRY["relu"](), OP_REGISTRY["embedding"](), OP_REGISTRY["cat"]()


def test_held_to_its_pieces_a_graph_has_no_kinks():
    graph = build_graph(("r", RELU, ("x",)), ("loss", LOSS, ("r", "zero")), x=(2,), zero=(2,))
    base = graph.forward({"x": add_batch_axis(np.array([1.0, -1.0])), "zero": np.zeros((1, 2))})
    held, _ = graph.hold_branches(base)
    for variant, expected in ((graph, [[0.0, 3.0]]), (held, [[-2.0, 0.0]])):
        assert variant.forward_downstream(base, {"x": add_batch_axis(np.array([-2.0, 3.0]))})["r"].tolist() == expected
    assert graph.nodes[0].branch is None, "the graph itself is as it was"


def list_kinds(node, **leaves):
    shapes = dict.fromkeys(leaves, (2,)) | {"table": (3, 2)}
    nodes = [Node("n", *node), Node("loss", OP_REGISTRY["sum"](), ("n",))]
    return Graph(nodes, {name: shapes[name] for name in (*leaves, "table")}, {k: v for k, v in leaves.items() if v})


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (None, r"node 'n' \(embedding\) takes integers as input; 'i' is of floats"),
        ("bool", "takes integers as input; 'i' is of truths"),
    ],
)
def test_slot_refuses_operands_of_another_kind(kind, message):
    list_kinds((EMBEDDING, ("i", "table")), i="index")
    with pytest.raises(InvalidModelError, match=message) as caught:
        list_kinds((EMBEDDING, ("i", "table")), i=kind)
    assert caught.value.errors[0].leaf == "i"


def test_a_node_or_a_number_is_of_floats_unless_the_slot_wants_an_index():
    assert list_kinds((EMBEDDING, (2, "table"))).shapes["n"] == (2,)
    with pytest.raises(InvalidModelError, match=r"2\.0 is of floats"):
        list_kinds((EMBEDDING, (2.0, "table")))


def test_values_out_of_range_are_refused_at_the_leaf():
    graph = list_kinds((EMBEDDING, ("i", "table")), i="index")
    graph.check_values({"i": np.array([0, 2]), "table": np.zeros((3, 2))})
    with pytest.raises(InvalidModelError, match="an index from 0 to 2; its values are 0 to 3") as caught:
        graph.check_values({"i": np.array([0, 3]), "table": np.zeros((3, 2))})
    assert (caught.value.errors[0].leaf, caught.value.errors[0].node) == ("i", 0)
    with pytest.raises(InvalidModelError, match="an index from 0 to 2"):
        list_kinds((EMBEDDING, (7, "table"))).check_values({"table": np.zeros((3, 2))})


def test_a_slot_may_take_several():
    graph = build_graph(("c", CAT, ("x", "y", "x")), ("loss", OP_REGISTRY["sum"](), ("c",)), x=(2,), y=(3,))
    assert graph.shapes["c"] == (7,)
    assert [slot.name for slot in graph.nodes[0].operand_slots] == ["tensors"] * 3
    values = graph.forward({"x": np.ones((1, 2)), "y": np.zeros((1, 3))})
    np.testing.assert_array_equal(graph.backward(values)["x"], [[2, 2]])


@pytest.mark.parametrize(("count", "more"), [(8, ""), (2000, " and 1992 more")])
def test_error_lists_only_the_first_operands(count: int, more: str):
    nodes = [Node("e", OP_REGISTRY["einsum"](equation=",".join(["ij"] * count) + "->i"), ("w",) * count)]
    with pytest.raises(InvalidModelError) as caught:
        Graph([*nodes, Node("loss", OP_REGISTRY["sum"](), ("e",))], {"w": (1,)})
    message = str(caught.value)
    assert message.count("'w' of shape [1]") == 8
    assert message.endswith(f"of shape [1]{more}")


@pytest.mark.parametrize("wanted", [(), ("w",), ("x", "w")])
def test_gradients_of_some_leaves_are_those_of_all(wanted):
    graph = make_squared_product()
    values = graph.forward({"x": np.array([[1.0, -2, 3]]), "w": np.array([0.5]), "zero": np.zeros((1, 3))})
    everything, some = graph.backward(values), graph.backward_to(values, wanted)
    assert set(some) >= {*wanted, *(node.name for node in graph.nodes)}
    for name, gradient in some.items():
        np.testing.assert_array_equal(gradient, everything[name])


def test_gradients_of_unwanted_leaves_of_a_linear_op_are_not_computed():
    graph = build_graph(("z", OP_REGISTRY["linear"](), ("x", "w", "b")), ("loss", LOSS, ("z", "y")), **LINEAR_SHAPES)
    leaves = {name: np.ones((1, *shape)) for name, shape in LINEAR_SHAPES.items()}
    values = graph.forward(leaves)
    assert "x" not in graph.backward_to(values, ["w"])
    assert set(graph.backward_to(values)) == {"loss", "z", "y"}


LINEAR_SHAPES = {"x": (5, 3), "w": (2, 3), "b": (2,), "y": (5, 2)}


def test_pieces_are_selected_by_node_at_known_values():
    relu = OP_REGISTRY["relu"]()
    graph = build_graph(("p", TANH, ("x",)), ("y", relu, ("p",)), ("loss", LOSS, ("y", "y")), x=(2,))
    values = graph.forward({"x": np.array([[-1.0, 2.0]])})
    (name,) = branches = graph.select_branches(values)
    assert name == "y"
    np.testing.assert_array_equal(branches["y"], relu.select_branch(values["p"]))


def test_cost_of_a_node_is_estimated_once(monkeypatch):
    """A plan adds up the nodes downstream of each name: each node is counted again and again."""
    graph, estimated = make_squared_product(), []

    def estimate(op, output, *shapes):
        estimated.append(op.name)
        return ComputeCost(len(estimated), 1, 1)

    for op in {type(node.op) for node in graph.nodes}:
        monkeypatch.setattr(op, "estimate_cost", estimate)
    total = graph.estimate_cost(graph.nodes)
    assert graph.estimate_cost(graph.nodes) == total == graph.estimate_cost()
    assert graph.estimate_cost(graph.nodes[1:]).work == total.work - 1
    assert len(estimated) == len(graph.nodes)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_steps_of_a_node_have_no_name_of_another_composite_node(order):
    softsign = OP_REGISTRY["softsign"]()
    nodes = [("h", softsign, ("x",)), ("h.1", softsign, ("x",))]
    graph = build_graph(
        *(nodes[place] for place in order), ("p", MUL, ("h", "h.1")), ("loss", LOSS, ("p", "x")), x=(3,)
    )
    x = np.array([1.0, -2, 3])
    assert len({node.name for node in graph.nodes}) == len(graph.nodes)
    y = x / (1 + abs(x))
    assert graph.forward({"x": add_batch_axis(x)})["loss"][0] == pytest.approx(((y * y - x) ** 2 / 2).sum())
