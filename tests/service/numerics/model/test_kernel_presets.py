from typing import Any, NamedTuple

import numpy as np
import pytest

from service.checks.graph.check import check
from service.numerics.core.batching import Array
from service.numerics.model.kernel_presets import KERNEL_PRESETS
from tests.solved_problems import SolvedProblem, solve_preset


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("preset", KERNEL_PRESETS, ids=lambda preset: preset.name)
def test_preset_passes(preset: Any, dtype: str) -> None:
    report: Any = check({**preset.example_request, "dtype": dtype})
    assert report["outcome"] == "pass"


def test_fused_head_ignores_a_label() -> None:
    solved = solve_preset("fused_linear_cross_entropy")
    assert not solved.get_gradient("x")[-1].any()
    assert solved.get_gradient("x")[:-1].all()


def test_quantised_layer_has_weights_beyond_the_range() -> None:
    solved = solve_preset("quantized_linear")
    is_inside = solved.get_gradient("w") != 0
    assert 0 < is_inside.sum() < is_inside.size
    levels = solved.get_value("levels") / np.array([[0.25], [0.375], [0.5]])
    assert set(np.unique(levels)) <= set(range(-4, 4))


def test_keys_beyond_the_window_change_no_query() -> None:
    """The first key is seen by the first two queries alone."""
    (preset,) = (preset for preset in KERNEL_PRESETS if preset.name == "sliding_window_attention")
    body = preset.example_request
    value = np.array(body["weights"]["value"])
    value[:, :, 0] += 1
    moved = {**body, "weights": {**body["weights"], "value": value.tolist()}}
    before, after = (SolvedProblem(request).get_value("attended") for request in (body, moved))
    assert (before[:, :, :2] != after[:, :, :2]).all()
    np.testing.assert_array_equal(before[:, :, 2:], after[:, :, 2:])


class MoeGradients(NamedTuple):
    """Gradients of the block by hand, of the model in NumPy, token by token."""

    w_router: Array
    w_up: Array
    w_down: Array


def differentiate_moe(
    body: dict[str, Any],
    *,
    gates_are_constant: bool = False,
    is_renormalised: bool = True,
    shifted_expert: int = 0,
    keeps_last_token: bool = False,
) -> MoeGradients:
    """Return the gradients of the preset, or those of a kernel with a bug.

    Parameters
    ----------
    body
        Request of the preset.
    gates_are_constant
        The gradient by the gates is left out.
    is_renormalised
        False for gates whose backward pass is that of a softmax over all experts.
    shifted_expert
        Number by which the expert is off that a gradient goes to.
    keeps_last_token
        Gradients of several tokens of one expert overwrite each other.
    """
    x, y = (np.array(body["tensors"][name]) for name in "xy")
    router, up, down = (np.array(body["weights"][name]) for name in ("w_router", "w_up", "w_down"))
    by_router, by_up, by_down = (np.zeros_like(weight) for weight in (router, up, down))
    scores = x @ router.T
    residual = x.copy()
    steps = []
    for token, row in enumerate(x):
        chosen = np.argsort(-scores[token])[:2]
        gates = np.exp(scores[token, chosen]) / np.exp(scores[token, chosen]).sum()
        hidden = up[chosen] @ row
        active = hidden / (1 + np.exp(-hidden))
        results = np.einsum("kdf,kf->kd", down[chosen], active)
        residual[token] += gates @ results
        steps.append((chosen, gates, hidden, active, results))
    by_residual = 2 * (residual - y) / y.size
    for token, (chosen, gates, hidden, active, results) in enumerate(steps):
        g = by_residual[token]
        by_gates = results @ g
        if is_renormalised:
            by_scores = gates * (by_gates - gates @ by_gates)
        else:
            shares = np.exp(scores[token]) / np.exp(scores[token]).sum()
            by_scores = gates * (by_gates - shares[chosen] @ by_gates)
        if not gates_are_constant:
            by_router[chosen] += by_scores[:, None] * x[token]
        sigmoid = 1 / (1 + np.exp(-hidden))
        by_active = gates[:, None] * (g @ down[chosen])
        by_hidden = by_active * sigmoid * (1 + hidden * (1 - sigmoid))
        for k, expert in enumerate((chosen + shifted_expert) % len(up)):
            base = 0 if keeps_last_token else 1
            by_up[expert] = base * by_up[expert] + by_hidden[k][:, None] * x[token]
            by_down[expert] = base * by_down[expert] + gates[k] * np.outer(g, active[k])
    return MoeGradients(by_router, by_up, by_down)


MOE = next(preset for preset in KERNEL_PRESETS if preset.name == "moe_block").example_request


def test_moe_block_uses_every_expert_for_several_tokens() -> None:
    """Otherwise a wrong expert, or one token in place of a sum, would not show."""
    scores = solve_preset("moe_block").get_value("scores")
    ordered = np.sort(scores, axis=1)
    assert (np.diff(ordered, axis=1) > 0.2).all(), "lower precisions choose the same experts"
    counts = np.bincount(np.argsort(-scores, axis=1)[:, :2].ravel(), minlength=3)
    assert (counts >= 2).all()


def test_gradients_of_moe_by_hand_pass() -> None:
    right = differentiate_moe(MOE)._asdict()
    report: Any = check({**MOE, "candidate": {name: gradient.tolist() for name, gradient in right.items()}})
    assert report["outcome"] == "pass"


MOE_BUGS: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "gate gradient forgotten": ({"gates_are_constant": True}, {"w_router": "detached"}),
    "gates not renormalised": ({"is_renormalised": False}, {"w_router": ""}),
    "wrong expert": ({"shifted_expert": 1}, {"w_up": "", "w_down": ""}),
    "tokens of an expert not added up": (
        {"keeps_last_token": True},
        {"w_up": "scatter_without_accumulate", "w_down": "scatter_without_accumulate"},
    ),
}
"""Bugs of kernels, the weights whose gradients are wrong, and their names; empty for none."""


@pytest.mark.parametrize("bug", MOE_BUGS)
def test_bugs_of_moe_kernels_are_found(bug: str) -> None:
    changes, wrong_names = MOE_BUGS[bug]
    candidate = differentiate_moe(MOE, **changes)._asdict()
    names = solve_preset("moe_block").list_bug_names(candidate)
    assert names.keys() == wrong_names.keys()
    for name, expected in wrong_names.items():
        assert not expected or expected in names[name]
