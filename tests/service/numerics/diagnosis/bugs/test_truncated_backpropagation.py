"""Back-propagation through time that was cut, against PyTorch, where every step has a loss of its own."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch

from schemas.datatype import Array
from service.numerics.model.graph import Node
from tests.solved_problems import SolvedProblem

STEPS = 5


def draw_leaves(gated: bool) -> dict[str, Array]:
    generator = np.random.default_rng(4)
    shapes = {"h": (3, 2), "wi": (2, 3), "wh": (2, 2), "wo": (2, 2)} | ({"wg": (2, 3), "ug": (2, 2)} if gated else {})
    shapes |= {f"x{step}": (3, 3) for step in range(STEPS)} | {f"t{step}": (3, 2) for step in range(STEPS)}
    return {name: generator.normal(size=shape) for name, shape in shapes.items()}


def make_nodes(gated: bool) -> list[dict[str, Any]]:
    nodes: list[dict[str, Any]] = []

    def add_node(name: str, op: str, *inputs: str | float) -> str:
        nodes.append({"name": name, "op": op, "inputs": list(inputs)})
        return name

    state, losses = "h", list[str]()
    for k in range(STEPS):
        read, kept = add_node(f"a{k}", "linear", f"x{k}", "wi"), add_node(f"b{k}", "linear", state, "wh")
        new = add_node(f"n{k}", "tanh", add_node(f"z{k}", "add", read, kept))
        if gated:
            gate = add_node(f"e{k}", "linear", f"x{k}", "wg"), add_node(f"f{k}", "linear", state, "ug")
            open_ = add_node(f"g{k}", "sigmoid", add_node(f"c{k}", "add", *gate))
            left = add_node(f"p{k}", "mul", state, open_)
            new = add_node(f"h{k}", "add", left, add_node(f"q{k}", "mul", new, add_node(f"r{k}", "sub", 1.0, open_)))
        state = new
        losses.append(add_node(f"l{k}", "mse_loss", add_node(f"o{k}", "linear", state, "wo"), f"t{k}"))
    for k, loss in enumerate(losses[1:-1]):
        losses[0] = add_node(f"s{k}", "add", losses[0], loss)
    add_node("loss", "add", losses[0], losses[-1])
    return nodes


@lru_cache
def solve_recurrence(gated: bool) -> SolvedProblem:
    given = {name: leaf.tolist() for name, leaf in draw_leaves(gated).items()}
    weights = {name: given.pop(name) for name in tuple(given) if name.startswith(("w", "u"))}
    return SolvedProblem({"tensors": given, "weights": weights, "model": {"nodes": make_nodes(gated)}})


def differentiate_detached(gated: bool, at: tuple[int, ...]) -> Mapping[str, Array]:
    """Gradients by PyTorch where the state is detached before some steps."""
    t = {name: torch.tensor(leaf) for name, leaf in draw_leaves(gated).items()}
    weights = {name: tensor.requires_grad_() for name, tensor in t.items() if name.startswith(("w", "u"))}
    state, loss = t["h"], torch.zeros((), dtype=torch.float64)
    for k in range(STEPS):
        state = state.detach() if k in at else state
        new = torch.tanh(t[f"x{k}"] @ t["wi"].T + state @ t["wh"].T)
        if gated:
            gate = torch.sigmoid(t[f"x{k}"] @ t["wg"].T + state @ t["ug"].T)
            new = state * gate + new * (1 - gate)
        state = new
        loss = loss + torch.nn.functional.mse_loss(state @ t["wo"].T, t[f"t{k}"])
    torch.autograd.backward(loss)
    return {name: weight.grad.numpy() for name, weight in weights.items() if weight.grad is not None}


@pytest.mark.parametrize("gated", [False, True])
def test_full_backpropagation_passes(gated: bool) -> None:
    assert solve_recurrence(gated).list_bug_names(differentiate_detached(gated, ())) == {}


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize(
    ("at", "said"),
    [
        ((2,), "no gradient came back to {}1 from the next step"),
        ((4,), "no gradient came back to {}3 from the next step"),
        ((1, 2, 3, 4), "no gradient came back from any step to the one before: every state ({0}0, {0}1, ...)"),
    ],
)
def test_detached_state_is_named_for_each_weight_behind_it(gated: bool, at: tuple[int, ...], said: str) -> None:
    _, explanations = solve_recurrence(gated).judge_candidates(differentiate_detached(gated, at))
    assert explanations.keys() == {"wi", "wh", *(("wg", "ug") if gated else ())}
    for told in explanations.values():
        (cut,) = (explanation.explanation for explanation in told if explanation.bug_name == "detached")
        # Where a state has one use by the next step, to cut that is another story of the same.
        assert said.format("h" if gated else "n") in cut or f"through b{at[0]} (linear) carried no gradient" in cut


def test_states_that_were_detached_in_no_order_have_no_name() -> None:
    assert solve_recurrence(True).list_bug_names({"wi": differentiate_detached(True, (1, 3))["wi"]}) == {
        "wi": {"unknown"}
    }


def solve_tied_recurrence(steps: int, *, gated: bool) -> tuple[SolvedProblem, list[Node]]:
    """A recurrence whose weights are the same at every step, and its nodes."""
    generator = np.random.default_rng(steps)
    tensors = {"h": generator.normal(size=(3, 2)), "t": generator.normal(size=(3, 2))}
    nodes: list[dict[str, Any]] = []
    last = "h"
    for step in range(steps):
        tensors[f"x{step}"] = generator.normal(size=(3, 3))
        nodes += [
            {"name": f"a{step}", "op": "linear", "inputs": [f"x{step}", "wi"]},
            {"name": f"b{step}", "op": "linear", "inputs": [last, "wh"]},
            {"name": f"z{step}", "op": "add", "inputs": [f"a{step}", f"b{step}"]},
            {"name": f"n{step}", "op": "tanh", "inputs": [f"z{step}"]},
        ]
        if gated:
            nodes += [
                {"name": f"g{step}", "op": "linear", "inputs": [f"x{step}", "wg"]},
                {"name": f"s{step}", "op": "sigmoid", "inputs": [f"g{step}"]},
                {"name": f"p{step}", "op": "mul", "inputs": [last, f"s{step}"]},
                {"name": f"h{step}", "op": "add", "inputs": [f"p{step}", f"n{step}"]},
            ]
        last = nodes[-1]["name"]
    nodes.append({"name": "loss", "op": "mse_loss", "inputs": [last, "t"]})
    weights = {"wi": generator.normal(size=(2, 3)), "wh": generator.normal(size=(2, 2))}
    if gated:
        weights["wg"] = generator.normal(size=(2, 3))
    parts = {"tensors": tensors, "weights": weights}
    body = {part: {name: array.tolist() for name, array in arrays.items()} for part, arrays in parts.items()}
    model = SolvedProblem({**body, "model": {"nodes": nodes}})
    return model, list(model.problem.graph.nodes)


def sum_last_shares(model: SolvedProblem, nodes: list[Node], steps: int) -> dict[str, Array]:
    """Gradients of back-propagation that goes back so many steps and no further: the shares of the last uses."""
    values, gradients = model.routes.analytic.values, model.routes.analytic.gradients
    sums: dict[str, Array] = {}
    for weight in model.problem.names:
        users = [node for node in nodes if weight in node.source_names][-steps:]
        sums[weight] = np.sum([gradients[node.name].T @ values[str(node.operands[0])] for node in users], axis=0)
    return sums


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize(("steps", "kept"), [(2, 1), (3, 1), (4, 2), (12, 1), (12, 3), (24, 1), (24, 5)])
def test_back_propagation_that_was_cut_short_is_named_for_every_weight(steps: int, kept: int, gated: bool) -> None:
    model, nodes = solve_tied_recurrence(steps, gated=gated)
    explanations = model.judge_candidates(sum_last_shares(model, nodes, kept))[1]
    wanted = {"detached", "shared_weight_last_use_only"} if kept == 1 else {"detached"}
    assert explanations.keys() == set(model.problem.names)
    for told in explanations.values():
        assert wanted <= {explanation.bug_name for explanation in told}


def test_recurrence_tries_all_wrong_backward_passes() -> None:
    model, _ = solve_tied_recurrence(24, gated=True)
    wrong = model.get_gradient("wi") * np.array([[1.1, 0.7, 1.9], [2.3, 0.2, 1.3]])
    (told,) = model.judge_candidates({"wi": wrong})[1]["wi"]
    assert told.bug_name == "unknown"
    assert "too large" not in told.explanation
    assert model.judge_candidates({"wi": wrong})[1]["wi"] == [told]
