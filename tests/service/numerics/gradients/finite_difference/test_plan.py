import numpy as np
import pytest

from service.numerics.gradients.finite_difference import ADAPTIVE, Plan, central, plan
from service.numerics.gradients.finite_difference.plan import planned
from service.numerics.graph import Graph, Node
from service.numerics.ops import REGISTRY
from tests.problems import reference_model

LINEAR, TANH, MUL, ADD = (REGISTRY[name]() for name in ("linear", "tanh", "mul", "add"))
MSE, SUM = REGISTRY["mse_loss"](), REGISTRY["sum"]()


def layers(batch: int = 5, width: int = 40) -> tuple[Graph, dict[str, np.ndarray]]:
    """Two linear layers with a residual connection and a tied scale."""
    nodes = [
        Node("z", LINEAR, ("x", "w", "b")),
        Node("h", TANH, ("z",)),
        Node("r", ADD, ("h", "z")),
        Node("s", MUL, ("r", "c")),
        Node("loss", MSE, ("s", "y")),
    ]
    leaves = {
        "x": np.ones((1, batch, 7)), "w": np.ones((1, width, 7)), "b": np.ones((1, width)), "c": np.ones(1),
        "y": np.ones((1, batch, width)),
    }  # fmt: skip
    return Graph(nodes, {name: each.shape[1:] for name, each in leaves.items()}), leaves


def test_what_is_read_linearly_follows_from_what_reads_it() -> None:
    found = Plan(*layers(), ["w", "b"])
    assert found.needed(["w", "b"]) == ["s", "r", "z", "b", "w"] or found.route("w").pulls[0].reader == "z"
    assert found.route("w").moving is None
    (pull,) = found.route("w").pulls
    assert (pull.reader, pull.position) == ("z", 1)


def test_a_tensor_read_both_ways_comes_back_from_the_one_and_moves_in_the_other() -> None:
    route = Plan(*layers(), ["z"]).route("z")
    if route.pulls:
        assert [pull.reader for pull in route.pulls] == ["r"]
        assert route.moving is not None
        assert route.moving.through == {"h"}
    else:
        assert route.moving is not None
        assert route.moving.through is None


def scaled() -> tuple[Graph, dict[str, np.ndarray]]:
    """c scales 4000 units, all of which the one term feels."""
    nodes = [
        Node("s", MUL, ("r", "c")),
        Node("p", REGISTRY["softmax"](dim=0), ("s",)),
        Node("n", REGISTRY["vector_norm"](), ("p",)),
        Node("loss", TANH, ("n",)),
    ]
    return Graph(nodes, {"r": (4000,), "c": ()}), {"r": np.ones((1, 4000)), "c": np.ones(1)}


def test_a_number_is_moved_itself_where_what_it_scales_is_felt_together() -> None:
    """One evaluation for c, four thousand for what it scales."""
    found = Plan(*scaled(), ["c"])
    assert found.needed(["c"]) == ["c"]
    assert found.evaluations == ADAPTIVE.evaluations


def test_a_given_step_is_taken_by_the_tensor_itself() -> None:
    found = Plan(*layers(), ["w"], central(1e-3))
    assert found.route("w").pulls == ()
    assert found.route("w").moving is not None


def test_the_reference_model_takes_a_colour_for_each_layer_of_functions() -> None:
    found = Plan(*reference_model((40, 40), (3, 3)), ["x", "w1", "w2"])
    assert found.evaluations == 2 * ADAPTIVE.evaluations
    assert {name for name in found.needed(["x", "w1", "w2"]) if found.route(name).moving is not None} == {"L1", "L2"}


def test_the_work_of_names_that_share_is_counted_once() -> None:
    graph, leaves = reference_model((40, 40), (3, 3))
    alone = [Plan(graph, leaves, [name]).work for name in ("x", "w1")]
    assert max(alone) < Plan(graph, leaves, ["x", "w1"]).work < sum(alone)


def test_of_a_sample_only_its_colours_are_wanted() -> None:
    graph, leaves = reference_model((40, 40), (3, 3))
    found = Plan(graph, leaves, ["x"], central(1e-3), {"x": np.array([0, 3, 41])})
    assert found.evaluations == 2 * central(1e-3).evaluations, "0 and 3 have one colour"


def test_a_plan_of_the_same_structure_is_kept_whatever_the_numbers() -> None:
    graph, leaves = reference_model(seed=1)
    first = planned(graph, leaves, ["w1"])
    again = planned(*reference_model(seed=2), ["w1"])
    assert first is again
    assert planned(graph, leaves, ["w2"]) is not first
    assert planned(graph, leaves, ["w1"], central()) is not first
    assert planned(graph, leaves, ["w1"], central()) is planned(graph, leaves, ["w1"], central())
    assert planned(*reference_model((4, 3)), ["w1"]) is not first


def test_an_index_is_part_of_the_structure() -> None:
    nodes = [
        Node("e", REGISTRY["embedding"](), ("i", "w")),
        Node("t", TANH, ("e",)),
        Node("loss", REGISTRY["sum"](), ("t",)),
    ]
    graph = Graph(nodes, {"i": (3,), "w": (5, 2)}, {"i": "index"})
    plans = [planned(graph, {"i": np.array([each]), "w": np.ones((1, 5, 2))}, ["w"]) for each in ([0, 1, 2], [0, 0, 2])]
    assert plans[0] is not plans[1]


def test_a_large_model_is_planned_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "_SMALL", 10)
    graph, leaves = reference_model(seed=1)
    assert planned(graph, leaves, ["w1"]) is not planned(graph, leaves, ["w1"])


def test_a_deep_chain_of_linear_ops_is_no_deep_recursion() -> None:
    nodes = [Node("n0", TANH, ("x",))]
    nodes += [Node(f"n{i}", ADD, (f"n{i - 1}", f"n{i - 1}")) for i in range(1, 900)]
    graph = Graph([*nodes, Node("loss", MSE, ("n899", 0.0))], {"x": ()})
    assert Plan(graph, {"x": np.ones(1)}, ["n5"]).evaluations >= ADAPTIVE.evaluations


def test_in_a_long_graph_of_many_names_ways_are_not_weighed(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, leaves = scaled()
    assert Plan(graph, leaves, ["c"]).route("c").pulls == ()
    monkeypatch.setattr(plan, "_MOST_WEIGHED", 1)
    assert Plan(graph, leaves, ["c"]).route("c").pulls != ()
