import numpy as np
import pytest

from service.numerics.gradients.finite_difference import (
    ADAPTIVE_METHOD,
    DifferencePlan,
    difference_plan,
    make_central_method,
)
from service.numerics.gradients.finite_difference.difference_plan import plan_differences
from service.numerics.model.graph import Graph, Node
from service.numerics.ops import OP_REGISTRY
from tests.op_graphs import build_reference_model

LINEAR, TANH, MUL, ADD = (OP_REGISTRY[name]() for name in ("linear", "tanh", "mul", "add"))
MSE, SUM = OP_REGISTRY["mse_loss"](), OP_REGISTRY["sum"]()


def make_layers(batch: int = 5, width: int = 40) -> tuple[Graph, dict[str, np.ndarray]]:
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
    return Graph(nodes, {name: leaf.shape[1:] for name, leaf in leaves.items()}), leaves


def test_linear_reading_follows_from_the_readers() -> None:
    plan = DifferencePlan(*make_layers(), ["w", "b"])
    assert (
        plan.find_needed_names(["w", "b"]) == ["s", "r", "z", "b", "w"]
        or plan.get_path("w").pullbacks[0].reader_name == "z"
    )
    assert plan.get_path("w").perturbation is None
    (pull,) = plan.get_path("w").pullbacks
    assert (pull.reader_name, pull.position) == ("z", 1)


def test_tensor_with_linear_and_other_readers_is_pulled_back_and_moved() -> None:
    route = DifferencePlan(*make_layers(), ["z"]).get_path("z")
    if route.pullbacks:
        assert [pull.reader_name for pull in route.pullbacks] == ["r"]
        assert route.perturbation is not None
        assert route.perturbation.through_readers == {"h"}
    else:
        assert route.perturbation is not None
        assert route.perturbation.through_readers is None


def make_scaled_units() -> tuple[Graph, dict[str, np.ndarray]]:
    """c scales 4000 units, all of which the one term feels."""
    nodes = [
        Node("s", MUL, ("r", "c")),
        Node("p", OP_REGISTRY["softmax"](dim=0), ("s",)),
        Node("n", OP_REGISTRY["vector_norm"](), ("p",)),
        Node("loss", TANH, ("n",)),
    ]
    return Graph(nodes, {"r": (4000,), "c": ()}), {"r": np.ones((1, 4000)), "c": np.ones(1)}


def test_scalar_is_moved_itself_if_terms_depend_on_all_it_scales() -> None:
    """One evaluation for c, four thousand for what it scales."""
    plan = DifferencePlan(*make_scaled_units(), ["c"])
    assert plan.find_needed_names(["c"]) == ["c"]
    assert plan.first_level_evaluations == ADAPTIVE_METHOD.evaluations_per_colour


def test_a_given_step_is_taken_by_the_tensor_itself() -> None:
    plan = DifferencePlan(*make_layers(), ["w"], make_central_method(1e-3))
    assert plan.get_path("w").pullbacks == ()
    assert plan.get_path("w").perturbation is not None


def test_the_reference_model_takes_a_colour_for_each_layer_of_functions() -> None:
    plan = DifferencePlan(*build_reference_model((40, 40), (3, 3)), ["x", "w1", "w2"])
    assert plan.first_level_evaluations == 2 * ADAPTIVE_METHOD.evaluations_per_colour
    assert {
        name for name in plan.find_needed_names(["x", "w1", "w2"]) if plan.get_path(name).perturbation is not None
    } == {
        "L1",
        "L2",
    }


def test_the_work_of_names_that_share_is_counted_once() -> None:
    graph, leaves = build_reference_model((40, 40), (3, 3))
    alone = [DifferencePlan(graph, leaves, [name]).first_level_work for name in ("x", "w1")]
    assert max(alone) < DifferencePlan(graph, leaves, ["x", "w1"]).first_level_work < sum(alone)


def test_sample_needs_only_its_own_colours() -> None:
    graph, leaves = build_reference_model((40, 40), (3, 3))
    plan = DifferencePlan(graph, leaves, ["x"], make_central_method(1e-3), {"x": np.array([0, 3, 41])})
    assert plan.first_level_evaluations == 2 * make_central_method(1e-3).evaluations_per_colour, (
        "0 and 3 have one colour"
    )


def test_plan_is_kept_for_another_point_of_the_same_structure() -> None:
    graph, leaves = build_reference_model(seed=1)
    first = plan_differences(graph, leaves, ["w1"])
    again = plan_differences(*build_reference_model(seed=2), ["w1"])
    assert first is again
    assert plan_differences(graph, leaves, ["w2"]) is not first
    assert plan_differences(graph, leaves, ["w1"], make_central_method()) is not first
    assert plan_differences(graph, leaves, ["w1"], make_central_method()) is plan_differences(
        graph, leaves, ["w1"], make_central_method()
    )
    assert plan_differences(*build_reference_model((4, 3)), ["w1"]) is not first


def test_an_index_is_part_of_the_structure() -> None:
    nodes = [
        Node("e", OP_REGISTRY["embedding"](), ("i", "w")),
        Node("t", TANH, ("e",)),
        Node("loss", OP_REGISTRY["sum"](), ("t",)),
    ]
    graph = Graph(nodes, {"i": (3,), "w": (5, 2)}, {"i": "index"})
    plans = [
        plan_differences(graph, {"i": np.array([indices]), "w": np.ones((1, 5, 2))}, ["w"])
        for indices in ([0, 1, 2], [0, 0, 2])
    ]
    assert plans[0] is not plans[1]


def test_a_large_model_is_planned_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(difference_plan, "_MAX_CACHED_ELEMENTS", 10)
    graph, leaves = build_reference_model(seed=1)
    assert plan_differences(graph, leaves, ["w1"]) is not plan_differences(graph, leaves, ["w1"])


def test_a_deep_chain_of_linear_ops_is_no_deep_recursion() -> None:
    nodes = [Node("n0", TANH, ("x",))]
    nodes += [Node(f"n{i}", ADD, (f"n{i - 1}", f"n{i - 1}")) for i in range(1, 900)]
    graph = Graph([*nodes, Node("loss", MSE, ("n899", 0.0))], {"x": ()})
    assert (
        DifferencePlan(graph, {"x": np.ones(1)}, ["n5"]).first_level_evaluations
        >= ADAPTIVE_METHOD.evaluations_per_colour
    )


def test_in_a_long_graph_of_many_names_ways_are_not_weighed(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, leaves = make_scaled_units()
    assert DifferencePlan(graph, leaves, ["c"]).get_path("c").pullbacks == ()
    monkeypatch.setattr(difference_plan, "_MAX_WEIGHED_PAIRS", 1)
    assert DifferencePlan(graph, leaves, ["c"]).get_path("c").pullbacks != ()
