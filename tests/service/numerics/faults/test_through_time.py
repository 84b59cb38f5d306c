"""Back-propagation through time that was cut, against PyTorch, where every step has a loss of its own."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch

from schemas.datatype import Array
from tests.candidates import Worked

STEPS = 5


def leaves(gated: bool) -> dict[str, Array]:
    generator = np.random.default_rng(4)
    shapes = {"h": (3, 2), "wi": (2, 3), "wh": (2, 2), "wo": (2, 2)} | ({"wg": (2, 3), "ug": (2, 2)} if gated else {})
    shapes |= {f"x{step}": (3, 3) for step in range(STEPS)} | {f"t{step}": (3, 2) for step in range(STEPS)}
    return {name: generator.normal(size=shape) for name, shape in shapes.items()}


def nodes(gated: bool) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []

    def node(name: str, op: str, *inputs: str | float) -> str:
        found.append({"name": name, "op": op, "inputs": list(inputs)})
        return name

    state, losses = "h", list[str]()
    for k in range(STEPS):
        read, kept = node(f"a{k}", "linear", f"x{k}", "wi"), node(f"b{k}", "linear", state, "wh")
        new = node(f"n{k}", "tanh", node(f"z{k}", "add", read, kept))
        if gated:
            gate = node(f"e{k}", "linear", f"x{k}", "wg"), node(f"f{k}", "linear", state, "ug")
            open_ = node(f"g{k}", "sigmoid", node(f"c{k}", "add", *gate))
            left = node(f"p{k}", "mul", state, open_)
            new = node(f"h{k}", "add", left, node(f"q{k}", "mul", new, node(f"r{k}", "sub", 1.0, open_)))
        state = new
        losses.append(node(f"l{k}", "mse_loss", node(f"o{k}", "linear", state, "wo"), f"t{k}"))
    for k, each in enumerate(losses[1:-1]):
        losses[0] = node(f"s{k}", "add", losses[0], each)
    node("loss", "add", losses[0], losses[-1])
    return found


@lru_cache
def model(gated: bool) -> Worked:
    given = {name: each.tolist() for name, each in leaves(gated).items()}
    weights = {name: given.pop(name) for name in tuple(given) if name.startswith(("w", "u"))}
    return Worked({"tensors": given, "weights": weights, "model": {"nodes": nodes(gated)}})


def detached(gated: bool, at: tuple[int, ...]) -> Mapping[str, Array]:
    """Gradients by PyTorch where the state is detached before some steps."""
    t = {name: torch.tensor(each) for name, each in leaves(gated).items()}
    weights = {name: each.requires_grad_() for name, each in t.items() if name.startswith(("w", "u"))}
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
    return {name: each.grad.numpy() for name, each in weights.items() if each.grad is not None}


@pytest.mark.parametrize("gated", [False, True])
def test_what_is_not_cut_passes(gated: bool) -> None:
    assert model(gated).named(detached(gated, ())) == {}


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize(
    ("at", "said"),
    [
        ((2,), "nothing came back to {}1 from the next step"),
        ((4,), "nothing came back to {}3 from the next step"),
        ((1, 2, 3, 4), "nothing came back from one step to the one before: every state ({0}0, {0}1, ...)"),
    ],
)
def test_a_state_that_was_detached_is_told_for_every_weight_behind_it(
    gated: bool, at: tuple[int, ...], said: str
) -> None:
    _, found = model(gated).judged(detached(gated, at))
    assert found.keys() == {"wi", "wh", *(("wg", "ug") if gated else ())}
    for told in found.values():
        (cut,) = (each.explanation for each in told if each.name == "detached")
        # Where a state has one use by the next step, to cut that is another story of the same.
        assert said.format("h" if gated else "n") in cut or f"through b{at[0]} (linear) carried no gradient" in cut


def test_states_that_were_detached_in_no_order_have_no_name() -> None:
    assert model(True).named({"wi": detached(True, (1, 3))["wi"]}) == {"wi": {"unknown"}}
