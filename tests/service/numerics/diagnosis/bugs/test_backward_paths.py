"""Bugs of the backward pass, each made by hand, as far as NumPy alone can."""

import numpy as np

from tests.solved_problems import SolvedProblem, solve_preset

MLP = solve_preset("mlp_classifier")


def backpropagate(*, derivative: bool = True, one_hot: bool = True, last_only: bool = False) -> dict[str, np.ndarray]:
    """The backward pass of the classifier in NumPy alone, with bugs."""
    x, w1, b1, w2, b2, label = (MLP.get_value(name) for name in ("x", "w1", "b1", "w2", "b2", "label"))
    active = np.tanh(x @ w1.T + b1)
    logits = active @ w2.T + b2
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    by_logits = (p - np.eye(3)[label] * one_hot) / len(x)
    if last_only:
        by_logits[:-1] = 0
    by_hidden = by_logits @ w2 * (1 - active**2 if derivative else 1)
    return {"w1": by_hidden.T @ x, "b1": by_hidden.sum(0), "w2": by_logits.T @ active, "b2": by_logits.sum(0)}


def test_handwritten_correct_gradient_passes() -> None:
    verdicts, explanations = MLP.judge_candidates(backpropagate())
    assert {verdict.outcome.wire_name for verdict in verdicts.values()} == {"pass"}
    assert not explanations


def test_missing_derivative_changes_only_gradients_behind_it() -> None:
    named = MLP.list_bug_names(backpropagate(derivative=False))
    assert named == {"w1": {"missing_activation_derivative"}, "b1": {"missing_activation_derivative"}}


def test_missing_one_hot_changes_all_gradients() -> None:
    named = MLP.list_bug_names(backpropagate(one_hot=False))
    assert named == {name: {"missing_one_hot"} for name in ("w1", "b1", "w2", "b2")}


def test_single_counted_sample_changes_all_gradients() -> None:
    named = MLP.list_bug_names(backpropagate(last_only=True))
    assert named == {name: {"last_sample_only"} for name in ("w1", "b1", "w2", "b2")}


def solve_shared_weight() -> SolvedProblem:
    """y = W (W x), whose weight is used twice, beside a residual connection."""
    generator = np.random.default_rng(3)
    return SolvedProblem(
        {
            "tensors": {"x": generator.normal(size=(5, 3)).tolist(), "y": generator.normal(size=(5, 3)).tolist()},
            "weights": {"w": generator.normal(size=(3, 3)).tolist()},
            "model": {
                "nodes": [
                    {"name": "once", "op": "linear", "inputs": ["x", "w"]},
                    {"name": "active", "op": "sigmoid", "inputs": ["once"]},
                    {"name": "twice", "op": "linear", "inputs": ["active", "w"]},
                    {"name": "residual", "op": "add", "inputs": ["twice", "once"]},
                    {"name": "loss", "op": "mse_loss", "inputs": ["residual", "y"]},
                ]
            },
        }
    )


def test_uses_and_paths_are_distinguished() -> None:
    worked = solve_shared_weight()
    x, w, y = (worked.get_value(name) for name in ("x", "w", "y"))
    once = x @ w.T
    active = 1 / (1 + np.exp(-once))
    by_residual = 2 * (active @ w.T + once - y) / y.size
    last = by_residual.T @ active
    by_once = by_residual @ w * active * (1 - active)
    first, around = by_once.T @ x, by_residual.T @ x
    _, explanations = worked.judge_candidates({"w": first + last})
    assert [(explanation.bug_name, "residual" in explanation.explanation) for explanation in explanations["w"]] == [
        ("detached", True)
    ]
    assert "shared_weight_last_use_only" in worked.list_bug_names({"w": last})["w"]
    assert "double_counted" in worked.list_bug_names({"w": first + around + 2 * last})["w"]
    assert worked.list_bug_names({"w": first + around + 3.3 * last})["w"] == {"scaled"}
    assert worked.list_bug_names({"w": first + 1.7 * around + 3.3 * last})["w"] == {"unknown"}
